"""The released SCOPE weights as a `World`, and the memory that the ways of playing them take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.files import place
from scope_play.loading.device import default_precision, pick_device, resolve_precision
from scope_play.loading.first_scene import draw_first_scene
from scope_play.loading.free_memory import FreeMemory
from scope_play.loading.memory import Need, official_stream_need
from scope_play.loading.placement import require_place
from scope_play.loading.prompts import DEFAULT_NEGATIVE_PROMPT, PromptLibrary
from scope_play.loading.request import LoadRequest
from scope_play.loading.streamed import load_streamed
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.taehv import PreviewCodec
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.runtime.offload import stream_blocks
from scope_play.runtime.quantize import quantise_block
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.codec import Codec
from scope_play.session.loaded_model import LoadedModel
from scope_play.weights.checkpoint import Progress
from scope_play.weights.download import checkpoint_folder
from scope_play.weights.foreign.lora import LoraSpec
from scope_play.weights.hashing import HashCache, sha256_of_all
from scope_play.weights.official import CONFIG, ScopeFolder, open_scope_folder
from scope_play.weights.preview import find_tiny_decoder, read_tiny_decoder
from scope_play.weights.sources import Source

OFFICIAL_SIZE = (480, 832)
OFFICIAL_STREAM = StreamConfig(steps=4, shift=5.0, chunk=1, window=12)
"""Released weights were never streamed in training. On a world whose truth is known (`train/LOG.md`, 2026-11-30) mode
"window" follows the sticks better at equal steps, and 8 or 16 steps are no better than 4 in either mode. But a window
computes thirteen latents a pass where "cached" computes one: it is for those who can wait, and "cached" for play."""
DECODERS = ("full", "tiny")
PREVIEW = "taew2_2"
"""The tiny decoder's folder among the downloaded weights, for all models whose own folder does not hold it."""


@dataclass(frozen=True)
class MemoryOptions:
    """What makes a model lighter: `linears` None, "fp8" or "int8"; `decoder` "full" or "tiny"."""

    linears: str | None = None
    decoder: str = "full"


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory that streaming two networks of these configs takes, in the type `dtype`.

    text: what reading a prompt takes. on_gpu: passes are recorded there, unless blocks are offloaded.
    """

    network: DiTConfig
    vae: VAEConfig
    dtype: torch.dtype
    size: tuple[int, int] = OFFICIAL_SIZE
    text: int = 0
    on_gpu: bool = False

    def need(self, stream: StreamConfig, options: MemoryOptions, offload: str = "none") -> Need:
        """Of one session, with its caches."""
        return official_stream_need(
            self.network,
            self.vae,
            stream,
            self.size,
            self.dtype,
            linears=options.linears,
            decoder=options.decoder,
            offloaded=offload != "none",
            recorded=self.on_gpu and offload == "none" and stream.mode == "cached",
            text=self.text,
        )

    def lighter(self, stream: StreamConfig, options: MemoryOptions) -> Iterator[tuple[str, Need]]:
        """What can still be asked for, each with all before it: its words on the command line, and what it needs."""
        words = ""
        if options.linears is None:
            options, words = replace(options, linears="int8"), "--precision int8"
            yield words, self.need(stream, options)
        if stream.cache == "full" and stream.mode == "cached":
            stream, words = replace(stream, cache="fp8"), f"{words} --cache fp8".strip()
            yield words, self.need(stream, options)
        if options.decoder == "full":
            options, words = replace(options, decoder="tiny"), f"{words} --decoder tiny".strip()
            yield words, self.need(stream, options)
        for window in (8, 6, 4, 2):
            if window < stream.window:
                yield f"{words} --window {window}".strip(), self.need(replace(stream, window=window), options)


@dataclass(frozen=True)
class OfficialPlan:
    """How the released weights will be played: settled before any of them is read.

    offload: where the blocks will lie, one of OFFLOADS. need: the memory that this takes. preview: the tiny decoder.
    """

    opened: ScopeFolder
    device: torch.device
    dtype: torch.dtype
    options: MemoryOptions
    stream: StreamConfig
    preview: Source | None
    library: PromptLibrary
    prompts: tuple[str, ...]
    offload: str
    need: Need


def plan_official(folder: Path, request: LoadRequest) -> OfficialPlan:
    """Raises ScopeError naming the file or setting that does not fit, or what memory would suffice for."""
    device = pick_device(request.device)
    dtype, linears = resolve_precision(request.precision, default_precision(device), device)
    decoder = request.decoder or "full"
    if decoder not in DECODERS:
        raise ScopeError(f"decoder {decoder!r} is not known; use one of {', '.join(DECODERS)}")
    options = MemoryOptions(linears, decoder)
    opened = open_scope(folder, request.wan, request.lora)
    library = PromptLibrary(opened, dtype)
    stream = scope_stream(opened, request)
    prompts = ("", *([DEFAULT_NEGATIVE_PROMPT] if stream.guidance != 1 else []))
    preview = find_preview(folder) if decoder == "tiny" else None
    estimate = MemoryEstimate(
        opened.dit_config,
        opened.vae_config,
        dtype,
        size=OFFICIAL_SIZE,
        text=library.need(prompts),
        on_gpu=device.type == "cuda",
    )
    offload = require_place(
        lambda mode: estimate.need(stream, options, mode),
        FreeMemory.now(device),
        request.offload or ("auto" if device.type == "cpu" else "none"),
        "Playing this model",
        estimate.lighter(stream, options),
        in_real_time=True,
    )
    if offload != "none" and linears is not None:
        raise ScopeError(f"blocks in {linears} are not offloaded; use --precision bf16, or --offload none")
    need = estimate.need(stream, options, offload)
    return OfficialPlan(opened, device, dtype, options, stream, preview, library, prompts, offload, need)


def load_official(folder: Path, request: LoadRequest) -> LoadedModel:
    """The released weights as a stream. They were trained bidirectionally; see `scope_play.sampling.cached_stream`.

    Raises ScopeError as `plan_official`.
    """
    plan = plan_official(folder, request)
    opened, library, device = plan.opened, plan.library, plan.device

    def read(prompt: str) -> Tensor:
        return library.embed([prompt], device)[prompt]

    # Now, while there is room: beside the rest there may be none for the text encoder.
    library.embed(plan.prompts, device)
    codec = load_codec(opened, plan.preview, plan.dtype, device)
    return LoadedModel(
        load_network(opened, plan.dtype, device, plan.options.linears, plan.offload),
        codec,
        plan.stream,
        size=OFFICIAL_SIZE,
        name=folder.resolve().name,
        identity=identify(folder, request, plan.offload, hash_all(opened, plan.preview)),
        prompt_reader=read,
        precision=plan.options.linears,
        decoder=plan.options.decoder,
        negative_prompt=DEFAULT_NEGATIVE_PROMPT,
        first_scene=lambda: draw_first_scene(OFFICIAL_SIZE),
        row_dtype=torch.bfloat16,
    )


def open_scope(model: Path, wan: str | None, lora: Sequence[str]) -> ScopeFolder:
    """The weights that a request names. Raises ScopeError naming what is not there or does not fit."""
    specs = [LoraSpec.parse(text) for text in lora]
    return open_scope_folder(model, wan=None if wan is None else place(wan), loras=specs)


def scope_stream(opened: ScopeFolder, request: LoadRequest) -> StreamConfig:
    """As a training has left it to be streamed, or as the release is, with what is asked for."""
    try:
        return replace(OFFICIAL_STREAM, **{**opened.sampling, **request.stream_changes()})
    except TypeError as error:
        raise ScopeError(
            f"{opened.path / CONFIG}: sampling does not fit ({error}); export the training again"
        ) from error


def find_preview(folder: Path) -> Source:
    """The tiny decoder beside a model's weights or in its own place. Raises ScopeError when it is in neither."""
    return find_tiny_decoder([folder, checkpoint_folder(PREVIEW)])


def identify(model: Path, request: LoadRequest, offload: str, sha256: str) -> dict[str, str]:
    """What tells a loaded model from others, and finds it again."""
    found = {"model": str(model.resolve()), "sha256": sha256}
    if request.wan is not None:
        found["wan"] = str(place(request.wan))
    if request.lora:
        found["lora"] = "\n".join(request.lora)
    if offload != "none":
        found["offload"] = offload
    return found


def hash_all(opened: ScopeFolder, preview: Source | None) -> str:
    """One SHA-256 of all weights that the frames come from."""
    if preview is None:
        return opened.sha256()
    cache = HashCache()
    files = {f"decoder/{file.name}": cache.sha256(file) for file in preview.files}
    return sha256_of_all(opened.hashes(cache) | files)


def load_codec(opened: ScopeFolder, preview: Source | None, dtype: torch.dtype, device: torch.device) -> Codec:
    """The autoencoder; with a `preview` decoder only its encoder stays, for start images."""
    vae = opened.vae(dtype, device)
    if preview is None:
        return vae
    vae.drop_decoder()
    return PreviewCodec(vae, read_tiny_decoder(preview).to(device, dtype))


def load_network(
    opened: ScopeFolder,
    dtype: torch.dtype,
    device: torch.device,
    linears: str | None,
    offload: str,
    progress: Progress | None = None,
) -> DiT:
    """The transformer, block by block where it is put into 8 bits or stays elsewhere."""
    if offload == "disk":
        return load_streamed(opened, "dit", dtype, device)
    if offload == "blocks":
        network = opened.dit(dtype, "cpu", progress)
        stream_blocks(network, device)
        return network
    if linears is None:
        return opened.dit(dtype, device, progress)
    return opened.dit(dtype, device, progress, lambda block: quantise_block(block, linears))
