"""What work on a model takes beside its weights and caches, found by doing it on the meta device.

The networks are those that will run, of fewer layers: a pass needs no more for 30 blocks than for two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from scope_play.images import to_levels
from scope_play.kernels.dispatch import torch_kernels
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.taehv import TaehvDecoder, TaehvStream
from scope_play.model.umt5.encoder import TextEncoder, TextEncoderConfig
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.live_bytes import peak_live_bytes
from scope_play.runtime.plain_dit import PlainDiT
from scope_play.runtime.quantize import quantise_blocks
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.clip import ClipShape, Conditions, GuidedVelocity, Sampling
from scope_play.sampling.schedule import euler_step
from scope_play.sampling.stream_config import StreamConfig
from scope_play.sampling.window_stream import WindowStream
from scope_play.weights.checkpoint import build_on_meta

META = torch.device("meta")
LAYERS = 2


def build(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    return build_on_meta(make).to(dtype).eval().requires_grad_(False)


@lru_cache(maxsize=64)
@torch.inference_mode()
def clip_pass_bytes(config: DiTConfig, shape: ClipShape, latents: tuple[int, int], prompt: int, dtype: torch.dtype,
                    guidance: float, action_guidance: float) -> int:  # fmt: skip
    """A step over a whole clip of latents of `latents` (height, width), with prompts of `prompt` tokens."""
    network = build(lambda: DiT(replace(config, layers=min(LAYERS, config.layers))), dtype)
    x = torch.empty(1, config.in_channels, shape.latents, *latents, dtype=dtype, device=META)
    rows = [torch.empty(1, shape.frames, width, dtype=dtype, device=META) for width in (6, 4)]
    sampling = Sampling(guidance=guidance, action_guidance=action_guidance)
    velocity = GuidedVelocity(network, Conditions(None, None, *rows), sampling, image_given=True)  # type: ignore[arg-type]
    if config.text_dim is not None:
        velocity.text = text_on_meta(config, prompt, dtype, 1)
        velocity.negative_text = velocity.text if guidance != 1 else None

    def step() -> None:
        euler_step(x, velocity(x, torch.tensor(500.0)), torch.tensor(1.0), torch.tensor(0.9))

    return peak_live_bytes(network.parameters(), step)


def text_on_meta(config: DiTConfig, prompt: int, dtype: torch.dtype, batch: int) -> list[TextKV]:
    """Keys and values of a prompt for the few layers of a simulation."""
    keys = torch.empty(batch, config.heads, prompt, config.head_dim, dtype=dtype, device=META)
    bias = torch.empty(batch, 1, 1, prompt, dtype=dtype, device=META)
    return [TextKV(keys, keys, bias)] * min(LAYERS, config.layers)


@lru_cache(maxsize=64)
@torch.inference_mode()
def stream_pass_bytes(config: DiTConfig, stream: StreamConfig, latents: tuple[int, int], prompt: int,
                      dtype: torch.dtype, linears: str | None, *, offloaded: bool = False) -> int:  # fmt: skip
    """The largest pass of a stream of latents of `latents` (height, width): the first, or one with a full window."""
    network = build(lambda: DiT(replace(config, layers=min(LAYERS, config.layers))), dtype)
    quantise_blocks(network, linears or "bf16")
    first = torch.empty(1, config.in_channels, 1, *latents, dtype=dtype, device=META)
    noise = torch.empty(1, config.in_channels, stream.chunk, *latents, dtype=dtype, device=META)
    action = config.action

    def windows(count: int) -> ActionWindows:
        if action is None:
            return ActionWindows(None, None)
        shape = (1, count, action.window_rows)
        return ActionWindows(*(torch.empty(*shape, n, dtype=dtype, device=META) for n in (action.axes, action.buttons)))

    made: CachedStream | WindowStream
    if stream.mode == "cached":
        form = PlainDiT(network) if offloaded else FusedDiT(network, torch_kernels("a simulation"))  # type: ignore[arg-type]
        made = CachedStream(form, replace(stream, steps=1), first)
        held = [tensor for memory in made.cache.memories() for tensor in memory.tensors()]
        held += [*form.parameters(), *form.buffers()] if isinstance(form, nn.Module) else []
    else:
        made, held = WindowStream(network, replace(stream, steps=1), first), []  # type: ignore[arg-type]
    held += [*network.parameters(), *network.buffers()]
    if config.text_dim is not None:
        made.guided.text = text_on_meta(config, prompt, dtype, made.guided.count)

    def chunk() -> None:
        made.denoise(noise, windows(stream.chunk))
        made.commit()

    opening = peak_live_bytes(held, chunk)
    if isinstance(made, CachedStream):
        made.cache.position = stream.window
        for memory in made.cache.memories():
            memory.filled = stream.window
    else:
        made.context = torch.empty(1, config.in_channels, stream.window, *latents, dtype=dtype, device=META)
        made.windows = windows(stream.window)
    return max(opening, peak_live_bytes(held, chunk))


@lru_cache(maxsize=64)
@torch.inference_mode()
def decode_bytes(vae: VAEConfig, height: int, width: int, latents: int, dtype: torch.dtype) -> int:
    """Decoding latents one after the other, with what the stream remembers."""
    codec = WanVAE(build(lambda: VAENetwork(vae), dtype))  # type: ignore[arg-type]
    return _decoding(codec.network, codec.decoder().push, vae, height, width, latents, dtype)


@lru_cache(maxsize=64)
@torch.inference_mode()
def preview_bytes(vae: VAEConfig, height: int, width: int, dtype: torch.dtype) -> int:
    """The same with the tiny decoder."""
    network = build(TaehvDecoder, dtype)
    return _decoding(network, TaehvStream(network).push, vae, height, width, 3, dtype)  # type: ignore[arg-type]


def _decoding(
    network: nn.Module,
    push: Callable[[Tensor], Tensor],
    vae: VAEConfig,
    height: int,
    width: int,
    latents: int,
    dtype: torch.dtype,
) -> int:
    size = (1, vae.z_dim, 1, height // vae.spatial_stride, width // vae.spatial_stride)

    def decode() -> None:
        for _ in range(min(latents, 3)):
            to_levels(push(torch.empty(size, dtype=dtype, device=META)).float())

    return peak_live_bytes(network.parameters(), decode)


@lru_cache(maxsize=64)
@torch.inference_mode()
def encode_bytes(vae: VAEConfig, height: int, width: int, dtype: torch.dtype) -> int:
    """Encoding a start image."""
    codec = WanVAE(build(lambda: VAENetwork(vae), dtype))  # type: ignore[arg-type]

    def encode() -> None:
        codec.encoder().push(torch.empty(1, 3, 1, height, width, dtype=dtype, device=META))

    return peak_live_bytes(codec.network.parameters(), encode)


@lru_cache(maxsize=64)
@torch.inference_mode()
def text_pass_bytes(config: TextEncoderConfig, tokens: int, dtype: torch.dtype) -> int:
    """Encoding a prompt of `tokens` tokens."""
    network = build(lambda: TextEncoder(replace(config, layers=min(LAYERS, config.layers))), dtype)
    ids = torch.empty(1, tokens, dtype=torch.long, device=META)

    def encode() -> None:
        network(ids, torch.empty(1, tokens, dtype=torch.long, device=META))

    return peak_live_bytes(network.parameters(), encode)
