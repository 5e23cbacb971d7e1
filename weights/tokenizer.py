"""UMT5's tokenizer from its files: `tokenizer.json` read by tokenizers, or `spiece.model` read by sentencepiece.

Both are read as what they are. The general loader of transformers takes its class from a `config.json` beside them,
and for UMT5 ends, without a word, at one that ignores `spiece.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.model.umt5.tokenizer import END, PromptTokenizer

FAST, SLOW = "tokenizer.json", "spiece.model"
Pieces = Callable[[str], Sequence[int]]


def tokenizer_files(folder: Path) -> list[Path]:
    """The files in `folder` that a tokenizer can be read from, the best first."""
    return [folder / name for name in (FAST, SLOW) if (folder / name).is_file()]


def read_tokenizer(folder: Path) -> PromptTokenizer:
    """The tokenizer in a folder; never from the network, and without running code from the folder.

    Raises ScopeError naming the file that is missing or damaged, or the package that would read it.
    """
    files = tokenizer_files(folder)
    if not files:
        raise ScopeError(
            f"{folder} has neither {FAST} nor {SLOW}, so prompts cannot be read; fetch them with: scope-play download "
            f"scope"
        )
    refusals = []
    for file in files:
        try:
            return PromptTokenizer(read_fast(file) if file.name == FAST else read_pieces(file.read_bytes(), str(file)))
        except ImportError as error:
            refusals.append(f"{file} needs the package {error.name}; run: pip install 'scope-play[text]'")
        except ScopeError as error:
            refusals.append(str(error))
    raise ScopeError(refusals[0])


def read_fast(file: Path) -> Pieces:
    """From a `tokenizer.json`. Raises ScopeError unless it is UMT5's kind; ImportError without tokenizers."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:
        raise ScopeError(f"{file} is no readable tokenizer ({error}); download it again") from error
    if tokenizer.token_to_id("</s>") != END:
        raise ScopeError(f"{file} is the tokenizer of another model, as </s> is not token {END}; take UMT5's")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def read_pieces(content: bytes, where: str) -> Pieces:
    """From what a `spiece.model` holds. Raises ScopeError naming `where`; ImportError without sentencepiece."""
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor(model_proto=content)
        end = processor.eos_id()
    except (RuntimeError, OSError) as error:
        raise ScopeError(f"{where} is no readable sentencepiece model ({error}); download it again") from error
    if end != END:
        raise ScopeError(f"{where} is the tokenizer of another model, as its end is not token {END}; take UMT5's")
    return processor.encode
