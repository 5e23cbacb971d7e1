"""Worlds of released shapes with random weights: they cost what the trained ones cost, and need no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.config import SCOPE_5B, DiTConfig
from scope_play.model.wan_vae.config import WAN22_VAE, VAEConfig

if TYPE_CHECKING:
    from scope_play.model.dit.dit import DiT
    from scope_play.session.codec import Codec
    from scope_play.world import World

PROMPT_TOKENS = 512
WORDS = 40
"""Tokens of the prompts; the rest is padding, as in play."""


@dataclass(frozen=True)
class Shape:
    """Two networks and the frame size they are used at."""

    network: DiTConfig
    vae: VAEConfig
    size: tuple[int, int]


SHAPES = {
    "scope-random": Shape(SCOPE_5B, WAN22_VAE, (480, 832)),
    "small-random": Shape(
        DiTConfig(dim=128, layers=2, heads=2, ffn_dim=256, text_dim=32, freq_dim=32),
        VAEConfig(dim=8, dec_dim=8),
        (64, 96),
    ),
}
"""`scope-random` is for a GPU; `small-random` tries the same code on a CPU."""


@contextmanager
def made_as(dtype: torch.dtype, device: torch.device, seed: int) -> Iterator[None]:
    """New modules get this type, place and seed, so that a large one never exists in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_default_dtype(before)


def random_network(config: DiTConfig, dtype: torch.dtype, device: torch.device, seed: int = 0) -> DiT:
    from scope_play.model.dit.dit import DiT

    with made_as(dtype, device, seed):
        return DiT(config).eval().requires_grad_(False)


def random_context(config: DiTConfig, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """A prompt of `WORDS` random tokens and its padding, (1, 512, text_dim), on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(1, PROMPT_TOKENS, config.text_dim or 1, generator=generator)
    context[:, WORDS:] = 0
    return context.to(dtype)


def random_codec(vae: VAEConfig, dtype: torch.dtype, device: torch.device, decoder: str) -> Codec:
    from scope_play.model.taehv import PreviewCodec, TaehvDecoder
    from scope_play.model.wan_vae.network import VAENetwork
    from scope_play.model.wan_vae.vae import WanVAE

    with made_as(dtype, device, seed=1):
        full = WanVAE(VAENetwork(vae).eval().requires_grad_(False))
        if decoder == "full":
            return full
        full.drop_decoder()
        return PreviewCodec(full, TaehvDecoder().eval().requires_grad_(False))


def random_world(
    name: str,
    *,
    device: str | None = None,
    precision: str | None = None,
    decoder: str = "full",
    overrides: Mapping[str, Any] | None = None,
) -> World:
    """A world of one of `SHAPES`; the other arguments as in `World.load`. It starts from a grey picture."""
    import numpy as np

    from scope_play.loading.device import pick_device, resolve_precision
    from scope_play.loading.scope import OFFICIAL_STREAM
    from scope_play.runtime.quantize import quantise_blocks
    from scope_play.session.loaded_model import LoadedModel
    from scope_play.world import World

    if name not in SHAPES:
        raise ScopeError(f"random model {name!r} is not known; use one of {', '.join(SHAPES)}")
    shape, where = SHAPES[name], pick_device(device)
    dtype, linears = resolve_precision(precision, "bf16" if where.type == "cuda" else "fp32", where)
    network = random_network(shape.network, dtype, where)
    quantise_blocks(network, linears or "bf16")
    model = LoadedModel(
        network,
        random_codec(shape.vae, dtype, where, decoder),
        replace(OFFICIAL_STREAM, **(overrides or {})),
        size=shape.size,
        name=name,
        identity={"model": name, "sha256": ""},
        precision=linears,
        decoder=decoder,
        prompt_reader=lambda prompt: random_context(shape.network, dtype, seed=len(prompt)),
        first_scene=lambda: np.full((*shape.size, 3), 128, np.uint8),
    )
    return World(model)
