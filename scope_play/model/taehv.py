"""The decoder of the public tiny autoencoder for Wan2.2 5B (`taew2_2`, madebyollin/taehv, MIT): previews in a few ms.

Architecture as published in that repository, under its parameter names: three stages of memory blocks, each followed
by a doubling of the picture, the last two also by a doubling of the frame rate. It takes the latents exactly as the
transformer makes them, and its first three frames are start-up, so that the first latent gives one frame like the
full decoder's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.errors import ScopeError

LATENT_CHANNELS = 48
PATCH = 2
WIDTHS = (256, 128, 64, 64)
GROWTH = (1, 2, 2)
"""Frames each stage makes of one."""
START_UP = 3
"""Frames the very first latent yields before its own."""


def _conv(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class SoftClamp(nn.Module):
    """Keeps latents within -3 .. 3, smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.tanh(x / 3)


class MemoryBlock(nn.Module):
    """A residual block that sees each frame and the one before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return F.relu(x + self.conv(torch.cat([x, before], 1)))


class Grow(nn.Module):
    """Makes `frames` frames of one, by a 1x1 convolution."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(width, width * frames, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.conv(x), "b (frames c) h w -> (b frames) c h w", frames=self.frames)


class TaehvDecoder(nn.Module):
    """Normalised latents (B, 48, n, h, w) to frames (B, 3, 4n - 3, 16h, 16w), as a stream."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [SoftClamp(), _conv(LATENT_CHANNELS, WIDTHS[0]), nn.ReLU()]
        for width, after, frames in zip(WIDTHS, WIDTHS[1:], GROWTH, strict=False):
            layers += [MemoryBlock(width) for _ in range(3)]
            layers += [nn.Upsample(scale_factor=2), Grow(width, frames), _conv(width, after, bias=False)]
        layers += [nn.ReLU(), _conv(WIDTHS[-1], 3 * PATCH**2)]
        self.decoder = nn.Sequential(*layers)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], where: str) -> TaehvDecoder:
        """From the tensors of the published file `where`; those of its encoder are not used.

        Raises ScopeError naming the first tensor that is missing or has another shape.
        """
        made = cls()
        state = made.state_dict()
        for name, want in state.items():
            if name not in tensors:
                raise ScopeError(f"{where}: tensor {name!r} is missing; this is not a taew2_2 file")
            given = tensors[name]
            if isinstance(made.decoder[int(name.split(".")[1])], Grow):
                given = given[-want.shape[0] :]  # files may hold frames that a stage without growth does not make
            if given.shape != want.shape:
                raise ScopeError(
                    f"{where}: tensor {name!r} is {tuple(given.shape)} where taew2_2 has {tuple(want.shape)}; "
                    "give the plain taew2_2 file"
                )
            state[name] = given
        made.load_state_dict(state)
        return made.eval().requires_grad_(False)

    def decode_latent(self, latent: Tensor, memory: list[Tensor | None]) -> Tensor:
        """One latent (B, 48, h, w) -> four frames (B, 3, 4, 16h, 16w) in [-1, 1]. Updates `memory`, one per layer."""
        batch, x = latent.shape[0], latent
        for index, layer in enumerate(self.decoder):
            if not isinstance(layer, MemoryBlock):
                x = layer(x)
                continue
            frames = rearrange(x, "(b t) c h w -> b t c h w", b=batch)
            last = memory[index]
            earlier = torch.zeros_like(frames[:, :1]) if last is None else last
            before = torch.cat([earlier, frames[:, :-1]], 1)
            memory[index] = frames[:, -1:].clone()
            x = layer(x, before.flatten(0, 1))
        pixels = F.pixel_shuffle(x, PATCH).clamp(0, 1)
        return rearrange(2 * pixels - 1, "(b t) c h w -> b c t h w", b=batch)


class TaehvStream:
    """Decodes latents as they come: one frame for the very first, four for each later one."""

    def __init__(self, network: TaehvDecoder) -> None:
        self.network = network
        self.memory: list[Tensor | None] = [None] * len(network.decoder)
        self.started = False

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        """latents (B, 48, n, h, w) -> frames (B, 3, 4n, 16h, 16w) in [-1, 1], 4n - 3 in the first call."""
        if latents.ndim != 5 or latents.shape[1] != LATENT_CHANNELS:
            raise ScopeError(
                f"tiny decoder: latents must be (B, {LATENT_CHANNELS}, n, h, w) but are {tuple(latents.shape)}; "
                "it serves models with Wan2.2's latents only"
            )
        chunks = []
        for latent in latents.unbind(2):
            frames = self.network.decode_latent(latent, self.memory)
            chunks.append(frames if self.started else frames[:, :, START_UP:])
            self.started = True
        return torch.cat(chunks, 2)

    def clone(self, device: torch.device | None = None) -> TaehvStream:
        """A stream that continues from here independently, its memory on `device` if that is given."""
        twin = TaehvStream(self.network)
        twin.memory = [None if x is None else x.to(device or x.device, copy=True) for x in self.memory]
        twin.started = self.started
        return twin

    @property
    def nbytes(self) -> int:
        """Bytes of memory this stream carries from chunk to chunk."""
        return sum(tensor.nbytes for tensor in self.memory if tensor is not None)


class Encoding(Protocol):
    @property
    def config(self) -> Any: ...

    def encoder(self) -> Any: ...

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Any: ...


class PreviewCodec:
    """A full codec whose decoder is replaced by the tiny one: the start image is still encoded by the full encoder."""

    def __init__(self, codec: Encoding, tiny: TaehvDecoder) -> None:
        self.codec = codec
        self.tiny = tiny

    @property
    def config(self) -> Any:
        return self.codec.config

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> PreviewCodec:
        """Move or cast both in place, as a module does."""
        self.codec.to(device=device, dtype=dtype)
        self.tiny.to(device=device, dtype=dtype)
        return self

    def encoder(self) -> Any:
        return self.codec.encoder()

    def decoder(self) -> TaehvStream:
        return TaehvStream(self.tiny)
