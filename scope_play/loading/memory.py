"""How much memory a model will take, known before anything is loaded: one estimate for all commands.

Weights, keys and values are counted; what passes take besides is simulated (`simulate`). `MARGIN` and `WORKSPACE` cover
what no tensor shows: memory that the allocator cannot give out again, and what libraries use beside their results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn

from scope_play.loading.simulate import (
    clip_pass_bytes,
    decode_bytes,
    encode_bytes,
    preview_bytes,
    stream_pass_bytes,
    text_pass_bytes,
)
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.taehv import TaehvDecoder
from scope_play.model.umt5.encoder import TextEncoder, TextEncoderConfig
from scope_play.model.umt5.tokenizer import TOKENS
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import Decoder, VAENetwork
from scope_play.runtime.offload import SLOTS
from scope_play.runtime.quantize import eight_bit_saving
from scope_play.sampling.clip import ClipShape, Sampling
from scope_play.sampling.guidance import guidance_branches
from scope_play.sampling.stream import cache_config
from scope_play.sampling.stream_config import StreamConfig
from scope_play.weights.checkpoint import build_on_meta

MARGIN = 1.05
WORKSPACE = 1.2
"""Of `Need.working`, which is mostly convolutions: as measured at full size on a processor (see the log)."""
OFFLOADS = ("none", "blocks", "disk")
"""Where the transformer's blocks lie: on the device, in host memory, in their files."""


@dataclass(frozen=True)
class Need:
    """What a way of using a model takes, in bytes.

    weights: of all that stays loaded, of which `blocks` can lie elsewhere, in pieces of `block`. held: caches, keys of
    prompts. working: the most that comes and goes beside them. loading: what the loader holds for a moment beside the
    weights. text: the moment in which a prompt is read, before the rest is loaded; 0 if there is none.
    """

    weights: int
    blocks: int
    block: int
    held: int
    working: int
    loading: int
    text: int = 0

    def kept(self, offload: str = "none") -> int:
        """Weights on the device."""
        return self.weights if offload == "none" else self.weights - self.blocks + SLOTS * self.block

    def tensors(self, offload: str = "none") -> int:
        """The most that tensors take on the device, of all moments but `text`."""
        return self.kept(offload) + max(self.held + self.working, self.loading)

    def on_device(self, offload: str = "none") -> int:
        """The peak on the device, of all moments but `text`."""
        at_work = MARGIN * self.held + WORKSPACE * self.working
        return int(MARGIN * self.kept(offload) + max(at_work, MARGIN * self.loading))

    def on_host(self, offload: str) -> int:
        """What lies in host memory beside."""
        return self.blocks if offload == "blocks" else 0


def module_bytes(build: Callable[[], nn.Module], dtype: torch.dtype) -> int:
    """Bytes of the parameters of what `build` makes, without allocating them."""
    return parameter_bytes(build_on_meta(build), dtype)


def parameter_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a module's parameters once they are cast to `dtype`."""
    return sum(parameter.numel() for parameter in module.parameters()) * dtype.itemsize


def latent_size(vae: VAEConfig, height: int, width: int) -> tuple[int, int]:
    return height // vae.spatial_stride, width // vae.spatial_stride


def tokens_per_latent(config: DiTConfig, latents: tuple[int, int]) -> int:
    """Tokens of one latent frame of that (height, width)."""
    return (latents[0] // config.patch[1]) * (latents[1] // config.patch[2])


def slot_bytes(config: DiTConfig, tokens: int, dtype: torch.dtype) -> int:
    """Keys and values of one latent frame: video, pixel and button attention in every block."""
    shared = 2 * config.dim if config.action is not None else 0
    return config.layers * (2 * _row_attentions(config) * tokens * config.dim + shared) * dtype.itemsize


def slot_bytes_fp8(config: DiTConfig, tokens: int, dtype: torch.dtype) -> int:
    """The same once remembered in fp8: a byte a number and a float32 scale a head; the buttons' few stay in `dtype`."""
    row = config.dim + torch.float32.itemsize * config.heads
    shared = 2 * config.dim * dtype.itemsize if config.action is not None else 0
    return config.layers * (2 * _row_attentions(config) * tokens * row + shared)


def _row_attentions(config: DiTConfig) -> int:
    """Attentions of a block that keep keys for every token."""
    return 1 if config.action is None else 2


def text_key_bytes(config: DiTConfig, prompt_tokens: int, dtype: torch.dtype) -> int:
    """Cross-attention keys and values of one prompt in every block."""
    return 0 if config.text_dim is None else 2 * config.layers * prompt_tokens * config.dim * dtype.itemsize


class DiTCounts(NamedTuple):
    """Numbers in a transformer: in all, in its blocks, in its largest tensor; and what 8 bits would make of it."""

    total: int
    blocks: int
    largest: int
    eighths: int
    scales: int


@lru_cache(maxsize=16)
def dit_counts(config: DiTConfig) -> DiTCounts:
    network = build_on_meta(lambda: DiT(config))
    sizes = [parameter.numel() for parameter in network.parameters()]
    blocks = sum(parameter.numel() for parameter in network.blocks.parameters())
    return DiTCounts(sum(sizes), blocks, max(sizes), *eight_bit_saving(network))


def network_bytes(config: DiTConfig, dtype: torch.dtype, linears: str | None = None) -> int:
    """The transformer's weights; `linears` "fp8" or "int8" for 8 bits in its blocks."""
    counts = dit_counts(config)
    if linears is None:
        return counts.total * dtype.itemsize
    return (counts.total - counts.eighths) * dtype.itemsize + counts.eighths + counts.scales * torch.float32.itemsize


def text_bytes(config: TextEncoderConfig, dtype: torch.dtype, *, streamed: bool) -> int:
    """What reading a prompt takes; `streamed`, with the encoder's blocks left in their files."""
    network = build_on_meta(lambda: TextEncoder(config))
    weights = parameter_bytes(network, dtype)
    if streamed:
        blocks = parameter_bytes(network.blocks, dtype)
        weights += SLOTS * (blocks // config.layers) - blocks
    return int(MARGIN * (weights + text_pass_bytes(config, TOKENS, dtype)))


def cache_bytes(config: DiTConfig, stream: StreamConfig, tokens: int, dtype: torch.dtype) -> int:
    """Keys and values of a stream, for all its branches."""
    if stream.mode != "cached":
        return 0
    layout = cache_config(stream, config.causal)
    slot = slot_bytes(config, tokens, dtype)
    ring = slot_bytes_fp8(config, tokens, dtype) if layout.kv_dtype == "fp8" else slot
    branches = len(guidance_branches(stream.guidance, stream.action_guidance))
    return branches * (layout.tail * slot + layout.window * ring)


def clip_need(
    config: DiTConfig,
    vae: VAEConfig,
    shape: ClipShape,
    sampling: Sampling,
    dtype: torch.dtype,
    *,
    text: int = 0,
    prompt_tokens: int = TOKENS,
) -> Need:
    """Of an offline clip. `text` is what reading its prompts takes; 0 when they were read before."""
    counts = dit_counts(config)
    size, latents = (shape.height, shape.width), latent_size(vae, shape.height, shape.width)
    prompts = len({branch.prompt for branch in guidance_branches(sampling.guidance, sampling.action_guidance)})
    one_pass = clip_pass_bytes(
        config, shape, latents, prompt_tokens, dtype, sampling.guidance, sampling.action_guidance
    )
    frames = 2 * shape.frames * shape.height * shape.width * 3
    decoding = decode_bytes(vae, *size, shape.latents, dtype) + frames
    blocks = counts.blocks * dtype.itemsize
    return Need(
        weights=network_bytes(config, dtype) + module_bytes(lambda: VAENetwork(vae), dtype),
        blocks=blocks,
        block=blocks // max(1, config.layers),
        held=prompts * text_key_bytes(config, prompt_tokens, dtype),
        working=max(one_pass, decoding, encode_bytes(vae, *size, dtype)),
        loading=counts.largest * dtype.itemsize,
        text=text,
    )


def stream_need(
    config: DiTConfig,
    stream: StreamConfig,
    latents: tuple[int, int],
    dtype: torch.dtype,
    *,
    codec: int,
    coding: int,
    linears: str | None = None,
    offloaded: bool = False,
    recorded: bool = False,
    text: int = 0,
) -> Need:
    """Of one session of a network with `codec` bytes of autoencoder, whose work takes `coding` bytes a latent.

    recorded: passes and decoding are CUDA graphs, each with memory of its own; otherwise they share it.
    """
    counts, weights = dit_counts(config), network_bytes(config, dtype, linears)
    blocks = weights - (counts.total - counts.blocks) * dtype.itemsize
    block = blocks // max(1, config.layers)
    branches = guidance_branches(stream.guidance, stream.action_guidance)
    keys = text_key_bytes(config, TOKENS, dtype)
    held = len(branches) * keys + cache_bytes(config, stream, tokens_per_latent(config, latents), dtype)
    one_pass = stream_pass_bytes(config, stream, latents, TOKENS, dtype, linears, offloaded=offloaded)
    return Need(
        weights=weights + codec,
        blocks=blocks,
        block=block,
        held=held,
        working=one_pass + coding if recorded else max(one_pass, coding),
        # What is put into 8 bits is read block by block.
        loading=(counts.largest if linears is None else counts.blocks // max(1, config.layers)) * dtype.itemsize,
        text=text,
    )


def official_stream_need(
    config: DiTConfig,
    vae: VAEConfig,
    stream: StreamConfig,
    size: tuple[int, int],
    dtype: torch.dtype,
    *,
    linears: str | None = None,
    decoder: str = "full",
    offloaded: bool = False,
    recorded: bool = False,
    text: int = 0,
) -> Need:
    """For the released networks at `size` (height, width); with the tiny decoder the full one is not kept."""
    codec = module_bytes(lambda: VAENetwork(vae), dtype)
    if decoder == "tiny":
        codec += module_bytes(TaehvDecoder, dtype) - module_bytes(lambda: Decoder(vae), dtype)
        decoding = preview_bytes(vae, *size, dtype)
    else:
        decoding = decode_bytes(vae, *size, 3, dtype)
    coding = max(decoding, encode_bytes(vae, *size, dtype))
    latents = latent_size(vae, *size)
    return stream_need(
        config,
        stream,
        latents,
        dtype,
        codec=codec,
        coding=coding,
        linears=linears,
        offloaded=offloaded,
        recorded=recorded,
        text=text,
    )
