"""From prompts to embeddings, once: kept on disk, so that the text encoder is loaded only for prompts never seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.files import replacing, user_folder
from scope_play.loading.free_memory import FreeMemory, gib
from scope_play.loading.memory import text_bytes
from scope_play.loading.streamed import load_streamed
from scope_play.model.umt5.encoder import TextEncoder
from scope_play.model.umt5.tokenizer import TOKENS, clean_prompt
from scope_play.progress import note
from scope_play.weights.hashing import HashCache, sha256_of_all
from scope_play.weights.official import ScopeFolder

# fmt: off
DEFAULT_NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"  # noqa: RUF001
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"  # noqa: RUF001
)
# fmt: on
"""What SCOPE's reference steers away from; the network was used with exactly this text."""

Progress = Callable[[str, int, int], None]


class EmbeddingCache:
    """Embeddings on disk; by default in the user's cache folder. A cache that cannot be written only costs time."""

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            folder = user_folder("cache") / "prompts"
        self.folder = folder

    def get(self, key: str) -> Tensor | None:
        """The embedding stored under `key`, or None; a damaged file counts as none."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.folder / f"{key}.safetensors")["context"]
        except (OSError, SafetensorError, KeyError):
            return None

    def put(self, key: str, context: Tensor) -> None:
        from safetensors.torch import save_file

        with suppress(OSError, ScopeError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / f"{key}.safetensors") as beside:
                save_file({"context": context.contiguous()}, beside)


class PromptLibrary:
    """The embeddings of one model's prompts in one precision."""

    def __init__(self, folder: ScopeFolder, dtype: torch.dtype, cache: EmbeddingCache | None = None) -> None:
        self.folder = folder
        self.dtype = dtype
        self.cache = cache or EmbeddingCache()
        self._encoder: str | None = None

    def missing(self, prompts: Sequence[str]) -> list[str]:
        """Those of `prompts` that need the text encoder."""
        return [prompt for prompt in dict.fromkeys(prompts) if self.cache.get(self._key(prompt)) is None]

    def embed(
        self, prompts: Sequence[str], device: torch.device | str, progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """Prompt -> context (1, 512, text_dim) on the CPU.

        The text encoder, if needed, runs on `device` if it fits there beside what else is loaded, otherwise on the CPU,
        and is freed.

        Raises:
            ScopeError: the text encoder fits nowhere, or a package that prompts need is not installed.
        """
        found = {prompt: self.cache.get(self._key(prompt)) for prompt in prompts}
        missing = [prompt for prompt, context in found.items() if context is None]
        if missing:
            found |= self._encode(missing, device, progress or (lambda stage, done, total: None))
        return {prompt: _pad(context) for prompt, context in found.items() if context is not None}

    def _encode(self, prompts: Sequence[str], device: torch.device | str, progress: Progress) -> dict[str, Tensor]:
        tokenizer = self.folder.tokenizer()
        tokens = {prompt: tokenizer([prompt]) for prompt in prompts}
        for prompt, read in tokens.items():
            if read.lengths[0] > TOKENS:
                note(f"the prompt {prompt[:40]!r}... has {read.lengths[0]} tokens, of which the first {TOKENS} count")
        device = self._place(torch.device(device))
        encoder = self._load(device, progress)
        encoded = {}
        for count, (prompt, read) in enumerate(tokens.items()):
            progress("prompts", count, len(prompts))
            context = encoder.encode(read.ids.to(device), read.mask.to(device))
            encoded[prompt] = context[0, : int(read.mask.sum())].cpu()
            self.cache.put(self._key(prompt), encoded[prompt])
        progress("prompts", len(prompts), len(prompts))
        del encoder
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return encoded

    def _load(self, device: torch.device, progress: Progress) -> TextEncoder:
        if device.type == "cpu":  # a prompt goes through every block once: copying them first would gain nothing
            return load_streamed(self.folder, "text_encoder", self.dtype, device)
        return self.folder.text_encoder(
            self.dtype, device, progress=lambda done, total: progress("text encoder", done, total)
        )

    def _place(self, device: torch.device) -> torch.device:
        """Where the text encoder fits."""
        free = FreeMemory.now(device)
        if device.type != "cpu" and text_bytes(self.folder.text_config, self.dtype, streamed=False) <= free.device:
            return device
        needed = text_bytes(self.folder.text_config, self.dtype, streamed=True)
        if needed <= free.host:
            return torch.device("cpu")
        raise ScopeError(
            f"Reading the prompt needs {gib(needed)} of memory, and {gib(free.host)} are free; close other programs, "
            f"or use a prompt that has been used before."
        )

    def need(self, prompts: Sequence[str]) -> int:
        """The least memory that reading those of `prompts` takes which were never read before."""
        return text_bytes(self.folder.text_config, self.dtype, streamed=True) if self.missing(prompts) else 0

    def _key(self, prompt: str) -> str:
        if self._encoder is None:
            hashes = HashCache()
            files = self.folder.sources["text_encoder"].files
            weights = {file.name: hashes.sha256(file) for file in files}
            tokenizer = {file.name: hashes.sha256(file) for file in self.folder.tokenizer_files}
            self._encoder = sha256_of_all(weights | tokenizer)
        content = json.dumps([clean_prompt(prompt), self._encoder, str(self.dtype)])
        return hashlib.sha256(content.encode()).hexdigest()


def _pad(context: Tensor) -> Tensor:
    """(length, dim) -> (1, 512, dim): the positions of padding are zero."""
    return F.pad(context, (0, 0, 0, TOKENS - len(context)))[None]
