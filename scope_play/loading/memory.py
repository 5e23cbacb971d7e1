"""How much memory a model will take, computed from its config before anything is loaded.

Weights, keys and values are exact. Activations are estimates of what lives at once in the largest operation; the
`MARGIN` on the whole covers what is not counted (workspaces, fragmentation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.taehv import WIDTHS, TaehvDecoder
from scope_play.model.umt5.encoder import TextEncoder, TextEncoderConfig
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import Decoder, VAENetwork
from scope_play.runtime.kv_cache import CacheConfig
from scope_play.runtime.offload import SLOTS
from scope_play.runtime.quantize import eight_bit_saving
from scope_play.sampling.clip import ClipShape

MARGIN = 1.1
PROMPT_TOKENS = 512


def module_bytes(build: Callable[[], nn.Module], dtype: torch.dtype) -> int:
    """Bytes of the parameters of what `build` makes, without allocating them."""
    with torch.device("meta"):
        return parameter_bytes(build(), dtype)


def parameter_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a module's parameters once they are cast to `dtype`."""
    return sum(parameter.numel() for parameter in module.parameters()) * dtype.itemsize


def tokens_per_latent(config: DiTConfig, vae: VAEConfig, shape: ClipShape) -> int:
    """Tokens of one latent frame of a clip."""
    _, rows, columns = config.patch
    return (shape.height // vae.spatial_stride // rows) * (shape.width // vae.spatial_stride // columns)


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


def pass_bytes(config: DiTConfig, tokens: int, dtype: torch.dtype) -> int:
    """Estimate for one pass over `tokens` tokens: hidden states, then either attention or the feed-forward."""
    hidden = tokens * config.dim
    attention = 6 * hidden * dtype.itemsize + 4 * hidden * torch.float32.itemsize
    feed_forward = (5 * hidden + 2 * tokens * config.ffn_dim) * dtype.itemsize
    return max(attention, feed_forward)


def decode_bytes(vae: VAEConfig, height: int, width: int, dtype: torch.dtype) -> int:
    """Estimate for decoding one latent frame: the last two stages at half resolution, and the stream's memory."""
    pixels = (height // 2) * (width // 2)
    widest = vae.temporal_stride * pixels * 2 * vae.dec_dim
    memory = 2 * 2 * (vae.num_res_blocks + 1) * pixels * 2 * vae.dec_dim
    return (6 * widest + memory) * dtype.itemsize + widest * torch.float32.itemsize


def encode_bytes(vae: VAEConfig, height: int, width: int, dtype: torch.dtype) -> int:
    """Estimate for encoding the start image: its first stage, at half resolution, with the stream's memory."""
    return 18 * (height // 2) * (width // 2) * vae.dim * dtype.itemsize


def preview_bytes(height: int, width: int, dtype: torch.dtype) -> int:
    """Estimate for decoding one latent frame with the tiny decoder: four frames at half resolution, and its memory."""
    return 12 * WIDTHS[-1] * (height // 2) * (width // 2) * dtype.itemsize


def network_bytes(config: DiTConfig, dtype: torch.dtype, linears: str | None = None) -> int:
    """The transformer's weights; `linears` "fp8" or "int8" for 8 bits in its blocks."""
    with torch.device("meta"):
        network = DiT(config)
    total = parameter_bytes(network, dtype)
    if linears is None:
        return total
    weights, scales = eight_bit_saving(network)
    return total - weights * (dtype.itemsize - 1) + scales * torch.float32.itemsize


def text_bytes(config: TextEncoderConfig, dtype: torch.dtype) -> int:
    """What encoding a prompt takes."""
    return int(MARGIN * module_bytes(lambda: TextEncoder(config), dtype))


@dataclass(frozen=True)
class ClipNeed:
    """What an offline clip takes, in bytes.

    `text` is the peak while prompts are encoded, before the rest is loaded. `block` is one block of `blocks`, which
    are part of `transformer`.
    """

    text: int
    transformer: int
    blocks: int
    block: int
    vae: int
    text_keys: int
    activations: int

    def on_device(self, offload: str) -> int:
        """Peak on the device while sampling or decoding; the text encoder has been freed by then."""
        weights = self.transformer
        if offload == "blocks":
            weights += SLOTS * self.block - self.blocks
        return int(MARGIN * (weights + self.vae + self.text_keys + self.activations))


def clip_need(
    config: DiTConfig,
    vae: VAEConfig,
    text: TextEncoderConfig | None,
    shape: ClipShape,
    dtype: torch.dtype,
    *,
    prompts: int = 2,
    prompt_tokens: int = PROMPT_TOKENS,
) -> ClipNeed:
    """The memory of an offline clip. `text` is None when all prompts are already encoded."""
    with torch.device("meta"):
        network = DiT(config)
    blocks = parameter_bytes(network.blocks, dtype)
    return ClipNeed(
        text=0 if text is None else text_bytes(text, dtype),
        transformer=parameter_bytes(network, dtype),
        blocks=blocks,
        block=blocks // max(1, config.layers),
        vae=module_bytes(lambda: VAENetwork(vae), dtype),
        text_keys=prompts * text_key_bytes(config, prompt_tokens, dtype),
        activations=clip_activations(config, vae, shape, dtype),
    )


def clip_activations(config: DiTConfig, vae: VAEConfig, shape: ClipShape, dtype: torch.dtype) -> int:
    """Estimate of what one pass over a whole clip, or decoding one of its latent frames, takes beside the weights."""
    tokens = shape.latents * tokens_per_latent(config, vae, shape)
    return max(pass_bytes(config, tokens, dtype), decode_bytes(vae, shape.height, shape.width, dtype))


@dataclass(frozen=True)
class StreamNeed:
    """What one streaming session takes, in bytes: weights, working memory, and what each latent leaves in the caches.

    `per_latent` is that in full, `per_latent_fp8` in fp8, `widened` what one layer's attention unpacks of the latter.
    """

    weights: int
    working: int
    per_latent: int
    per_latent_fp8: int
    widened: int

    def on_device(self, cache: CacheConfig) -> int:
        """Peak with caches of this size."""
        remembered = self.per_latent_fp8 + self.widened if cache.kv_dtype == "fp8" else self.per_latent
        held = self.per_latent * cache.tail + remembered * cache.window
        return int(MARGIN * (self.weights + self.working + held))


def stream_need(
    config: DiTConfig,
    codec: int,
    tokens: int,
    dtype: torch.dtype,
    *,
    chunk: int = 1,
    decoding: int = 0,
    linears: str | None = None,
) -> StreamNeed:
    """For a network and `codec` bytes of autoencoder, whose decoder takes `decoding` bytes a latent."""
    return StreamNeed(
        weights=network_bytes(config, dtype, linears) + codec,
        working=text_key_bytes(config, PROMPT_TOKENS, dtype) + max(pass_bytes(config, tokens * chunk, dtype), decoding),
        per_latent=slot_bytes(config, tokens, dtype),
        per_latent_fp8=slot_bytes_fp8(config, tokens, dtype),
        widened=2 * tokens * config.dim * dtype.itemsize,
    )


def official_stream_need(
    config: DiTConfig,
    vae: VAEConfig,
    size: tuple[int, int],
    dtype: torch.dtype,
    *,
    chunk: int = 1,
    linears: str | None = None,
    decoder: str = "full",
) -> StreamNeed:
    """For the released networks at `size` (height, width); with the tiny decoder the full one is not kept."""
    codec, decoding = module_bytes(lambda: VAENetwork(vae), dtype), decode_bytes(vae, *size, dtype)
    if decoder == "tiny":
        codec += module_bytes(TaehvDecoder, dtype) - module_bytes(lambda: Decoder(vae), dtype)
        decoding = max(preview_bytes(*size, dtype), encode_bytes(vae, *size, dtype))
    return stream_need(
        config,
        codec,
        tokens_per_latent(config, vae, ClipShape(1, *size)),
        dtype,
        chunk=chunk,
        decoding=decoding,
        linears=linears,
    )
