"""Building blocks of the Wan2.2 video autoencoder, and the memory that makes them stream.

Every layer that looks back in time is given a `StreamMemory` and keeps its last input frames there, so the layers
themselves stay stateless and one network can serve any number of streams. Shapes are (B, C, T, H, W) throughout.
Sub-module names are those of the released file `Wan2.2_VAE.pth`. Source: SPEC.md section 5.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class StreamMemory:
    """What one causal stream remembers: for each layer that looks back, the last frames of its input.

    Slots are written in place after the first chunk, so their addresses stay the same for the life of a stream.
    """

    def __init__(self) -> None:
        self.started = False
        self._slots: dict[nn.Module, Tensor] = {}

    def __contains__(self, layer: nn.Module) -> bool:
        return layer in self._slots

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Remember `frames` for `layer`, replacing what it remembered."""
        slot = self._slots.get(layer)
        if slot is None:
            self._slots[layer] = frames.clone()
        else:
            slot.copy_(frames)

    def join(self, layer: nn.Module, x: Tensor, history: int) -> Tensor:
        """Put `layer`'s last `history` frames (zeros at first) in front of `x`, and remember the newest ones."""
        past = self._slots.get(layer)
        if past is None:
            past = torch.zeros_like(x[:, :, :1]).expand(-1, -1, history, -1, -1)
        joined = torch.cat([past, x], dim=2)
        self.keep(layer, joined[:, :, -history:])
        return joined

    def clone(self, device: torch.device | None = None) -> StreamMemory:
        """A deep copy that shares no storage, on `device` if that is given."""
        copy = StreamMemory()
        copy.started = self.started
        copy._slots = {layer: frames.to(device or frames.device, copy=True) for layer, frames in self._slots.items()}
        return copy

    @property
    def nbytes(self) -> int:
        return sum(frames.nbytes for frames in self._slots.values())


class ChannelNorm(nn.Module):
    """L2 normalisation over channels, times sqrt(channels), times a learned gain (`RMS_norm` in the reference)."""

    def __init__(self, channels: int, axes: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * (self.gamma * self.gamma.shape[0] ** 0.5)


class CausalConv3d(nn.Conv3d):
    """3-D convolution that sees only the present and the past: 'same' in space, history instead of padding in time."""

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:  # type: ignore[override]
        history = self.kernel_size[0] - 1
        alone = x.shape[2] == 1 and self not in memory
        window = memory.join(self, x, history)
        if alone:
            # Over a zero past only the newest tap of the kernel contributes: a third of the work.
            return F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, padding=self.padding[1:]).unsqueeze(2)
        return super().forward(window)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, plus the input (through a 1x1x1 convolution when the width changes)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.ModuleDict(
            {
                "0": ChannelNorm(in_channels),
                "2": CausalConv3d(in_channels, out_channels, (3, 3, 3)),
                "3": ChannelNorm(out_channels),
                "6": CausalConv3d(out_channels, out_channels, (3, 3, 3)),
            }
        )
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv3d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        norm1, conv1, norm2, conv2 = self.residual.values()
        h = conv1(F.silu(norm1(x), inplace=True), memory)
        h = conv2(F.silu(norm2(h), inplace=True), memory)
        return h.add_(self.shortcut(x))


class AttentionBlock(nn.Module):
    """Single-head attention over the pixels of each frame, with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, axes=2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, _, h, _ = x.shape
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        qkv = rearrange(self.to_qkv(self.norm(frames)), "n (qkv c) h w -> qkv n 1 (h w) c", qkv=3)
        out = F.scaled_dot_product_attention(*qkv.unbind(0))
        out = self.proj(rearrange(out, "n 1 (h w) c -> n c h w", h=h))
        return x + rearrange(out, "(b t) c h w -> b c t h w", b=b)


class Downsample(nn.Module):
    """Halve height and width with a strided convolution; with `temporal`, halve the frames after the first too."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, stride=2)})
        self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1)) if temporal else None

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        b = x.shape[0]
        frames = F.pad(rearrange(x, "b c t h w -> (b t) c h w"), (0, 1, 0, 1))
        x = rearrange(self.resample["1"](frames), "(b t) c h w -> b c t h w", b=b)
        if self.time_conv is None:
            return x
        if not memory.started:
            memory.keep(self.time_conv, x)
            return x
        return self.time_conv(memory.join(self.time_conv, x, history=1))


class Upsample(nn.Module):
    """Double height and width; with `temporal`, first double the frames of every chunk but the first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, padding=1)})
        self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1)) if temporal else None

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        if self.time_conv is not None and memory.started:
            x = rearrange(self.time_conv(x, memory), "b (two c) t h w -> b c (t two) h w", two=2)
        conv = cast(nn.Conv2d, self.resample["1"])
        frames = double_and_convolve(rearrange(x, "b c t h w -> (b t) c h w"), conv.weight, conv.bias)
        return rearrange(frames, "(b t) c h w -> b c t h w", b=x.shape[0])


def double_and_convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 'same' convolution of `x` (N, C, H, W) enlarged twice by nearest neighbour: (N, C', 2H, 2W).

    At each of the four positions within an enlarged pixel, the nine taps fall on only 2x2 different pixels of `x`.
    So four 2x2 convolutions with summed taps give the same with 4/9 of the work, and no enlarged `x` is made.
    """
    n, _, h, w = x.shape
    padded = F.pad(x, (1, 1, 1, 1))
    shape = (n, weight.shape[0], 2 * h, 2 * w)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for row, tall in enumerate(_merge_taps(weight, dim=2)):
        for column, kernel in enumerate(_merge_taps(tall, dim=3)):
            window = padded[:, :, row : row + h + 1, column : column + w + 1]
            out[:, :, row::2, column::2] = F.conv2d(window, kernel, bias)
    return out


def _merge_taps(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Three taps as two: for the first half of an enlarged pixel (0, 1 + 2), for the second (0 + 1, 2)."""
    first, middle, last = weight.split(1, dim)
    return torch.cat([first, middle + last], dim), torch.cat([first + middle, last], dim)


def average_down(x: Tensor, out_channels: int, time: int, space: int) -> Tensor:
    """Parameter-free shortcut of a down stage: fold (time, row, column) into channels and average groups of them.

    Time is padded with zeros in front to a multiple of `time`, so a first lone frame is averaged with a zero frame.
    """
    x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % time, 0))
    x = rearrange(x, "b c (t dt) (h dh) (w dw) -> b (c dt dh dw) t h w", dt=time, dh=space, dw=space)
    return rearrange(x, "b (c group) t h w -> b c group t h w", c=out_channels).mean(dim=2)


def duplicate_up(x: Tensor, out_channels: int, time: int, space: int, first: bool) -> Tensor:
    """Parameter-free shortcut of an up stage: repeat channels and unfold them into (time, row, column).

    On the `first` chunk of a stream the leading `time - 1` frames are dropped, which leaves one frame.
    """
    x = x.repeat_interleave(out_channels * time * space * space // x.shape[1], dim=1)
    x = rearrange(x, "b (c dt dh dw) t h w -> b c (t dt) (h dh) (w dw)", dt=time, dh=space, dw=space)
    return x[:, :, time - 1 :] if first else x


def patchify(video: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, 4C, T, H/2, W/2); within a patch the column offset varies slower than the row offset."""
    return rearrange(video, "b c t (h row) (w col) -> b (c col row) t h w", row=2, col=2)


def unpatchify(x: Tensor) -> Tensor:
    """Inverse of `patchify`."""
    return rearrange(x, "b (c col row) t h w -> b c t (h row) (w col)", row=2, col=2)
