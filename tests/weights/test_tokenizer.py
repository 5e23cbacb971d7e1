"""Prompts from the tokenizer files that people have, with the packages that a fresh install has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from scope_play.errors import ScopeError
from scope_play.weights.tokenizer import FAST, SLOW, read_tokenizer
from tests.helpers.official_folder import write_spiece, write_tokenizer

PROMPT = "walkona  kosked, ok. &amp; triling \n 走廊"
ONLY_SENTENCEPIECE = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from pathlib import Path
from scope_play.errors import ScopeError
from scope_play.weights.tokenizer import read_tokenizer
try:
    tokens = read_tokenizer(Path(sys.argv[1]))([sys.argv[3]])
    print(tokens.ids[0, :tokens.lengths[0]].tolist())
except ScopeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the download leaves it: config.json, spiece.model, tokenizer_config.json."""
    return write_spiece(tmp_path_factory.mktemp("umt5-xxl"))


def in_a_fresh_process(folder: Path, absent: str) -> str:
    """What a process says of PROMPT in which some packages are not installed."""
    command = [sys.executable, "-c", ONLY_SENTENCEPIECE, str(folder), absent, PROMPT]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_released_folder_is_read_without_transformers_and_protobuf(released: Path) -> None:
    assert sorted(file.name for file in released.iterdir()) == ["config.json", "spiece.model", "tokenizer_config.json"]
    said = in_a_fresh_process(released, "transformers,google,tokenizers")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(released / SLOW))
    assert said == str([*processor.encode("walkona kosked, ok. & triling 走廊"), 1])


def test_a_package_that_is_not_there_is_named(released: Path) -> None:
    said = in_a_fresh_process(released, "sentencepiece")
    assert said == f"{released / SLOW} needs the package sentencepiece; run: pip install 'scope-play[text]'"
    assert "the package ftfy" in in_a_fresh_process(released, "ftfy")


def test_both_files_give_the_same_tokens(released: Path, tmp_path: Path) -> None:
    """A tokenizer.json of the same pieces, as transformers writes UMT5's, against sentencepiece itself."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(released / SLOW))
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    fast = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    fast.enable_truncation(4)
    fast.save(str(tmp_path / FAST))
    assert read_tokenizer(tmp_path)([PROMPT]).ids.tolist() == read_tokenizer(released)([PROMPT]).ids.tolist()


def test_a_prompt_is_cut_to_512_with_its_end_and_its_length_is_known(released: Path) -> None:
    tokens = read_tokenizer(released)(["walkona " * 600, "ok"])
    assert tokens.mask.sum(1).tolist()[0] == 512
    assert tokens.ids[0, 511] == 1
    assert tokens.lengths[0] > 512 > tokens.lengths[1] == tokens.mask[1].sum()


def test_damaged_foreign_and_absent_files_are_named(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match=r"neither tokenizer.json nor spiece.model"):
        read_tokenizer(tmp_path)
    (tmp_path / SLOW).write_bytes((released / SLOW).read_bytes()[:99])
    with pytest.raises(ScopeError, match=r"spiece.model is no readable sentencepiece model"):
        read_tokenizer(tmp_path)
    (tmp_path / FAST).write_text("{}")
    with pytest.raises(ScopeError, match=r"tokenizer.json is no readable tokenizer"):
        read_tokenizer(tmp_path)
    write_tokenizer(tmp_path)
    changed = (tmp_path / FAST).read_text().replace('"</s>"', '"[SEP]"')
    (tmp_path / FAST).write_text(changed)
    with pytest.raises(ScopeError, match=r"tokenizer.json is the tokenizer of another model"):
        read_tokenizer(tmp_path)


def test_a_damaged_tokenizer_json_is_no_matter_where_spiece_is_whole(released: Path, tmp_path: Path) -> None:
    (tmp_path / FAST).write_text("{}")
    (tmp_path / SLOW).write_bytes((released / SLOW).read_bytes())
    assert read_tokenizer(tmp_path)(["ok"]).lengths == read_tokenizer(released)(["ok"]).lengths
