"""Building blocks of the Wan2.2 video autoencoder, and the memory that makes them stream.

Every layer that looks back in time is given a `StreamMemory` and keeps its last input frames there, so the layers
themselves stay stateless and one network can serve any number of streams. Shapes are (B, C, T, H, W) throughout, and
what lies behind them is channels-last, which is what convolutions and norms want: no layer copies for the next one's
sake. Sub-module names are those of the released file `Wan2.2_VAE.pth`. Source: SPEC.md section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

NormSilu = Callable[[Tensor, Tensor, Tensor], None]
"""`norm_silu` of one of the kernels' backends."""
WORTH_PAIRING = 1000
"""Pixels of a chunk from which on `convolve_pairs` gains more than summing its kernels' taps costs."""


class StreamMemory:
    """What one causal stream remembers: for each layer that looks back, the last frames of its input.

    Slots are written in place after the first chunk, so their addresses stay the same for the life of a stream. With it
    come the stream's kernels: `norm_silu`, and whether frames are convolved in `pairs`.
    """

    def __init__(self, norm_silu: NormSilu, *, pairs: bool) -> None:
        self.started = False
        self.norm_silu, self.pairs = norm_silu, pairs
        self._slots: dict[nn.Module, Tensor] = {}
        self._spare: dict[nn.Module, Tensor] = {}
        """Slots of a video before, for layers that have not looked back yet in this one."""

    def __contains__(self, layer: nn.Module) -> bool:
        return layer in self._slots

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Remember `frames` for `layer`, replacing what it remembered."""
        slot = self._slots.get(layer)
        if slot is None:
            slot = self._spare.pop(layer, None)
            if slot is None or slot.shape != frames.shape:
                self._slots[layer] = frames.clone()
                return
            self._slots[layer] = slot
        slot.copy_(frames)

    def forget(self) -> None:
        """Begin another video; what this one kept stays where it is, for that one."""
        self.started = False
        self._spare |= self._slots
        self._slots = {}

    @property
    def complete(self) -> bool:
        """Whether every layer that looked back in a video before has done so in this one."""
        return self.started and not self._spare

    def adopt(self, other: StreamMemory) -> None:
        """Remember what `other` remembers, at the addresses there are."""
        self.forget()
        for layer, frames in other._slots.items():
            self.keep(layer, frames)
        self.started = other.started

    def behind(self, layer: nn.Module, x: Tensor, history: int, norm: ChannelNorm | None = None) -> Tensor:
        """`x`, through `norm` and SiLU if that is given, behind `layer`'s last `history` frames, zeros at first.

        Written straight to its place; the newest frames are remembered.
        """
        b, c, t, h, w = x.shape
        shape = (b, c, history + t, h, w)
        window = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
        past = self._slots.get(layer)
        if past is None:
            window[:, :, :history].zero_()
        else:
            window[:, :, :history].copy_(past)
        if norm is None:
            window[:, :, history:].copy_(x)
        else:
            self.norm_silu(x, norm.gain, window[:, :, history:])
        self.keep(layer, window[:, :, -history:])
        return window

    def clone(self, device: torch.device | None = None) -> StreamMemory:
        """A deep copy that shares no storage, on `device` if that is given."""
        copy = StreamMemory(self.norm_silu, pairs=self.pairs)
        copy.started = self.started
        copy._slots = {layer: frames.to(device or frames.device, copy=True) for layer, frames in self._slots.items()}
        return copy

    @property
    def nbytes(self) -> int:
        return sum(frames.nbytes for frames in self._slots.values())

    @property
    def spare_nbytes(self) -> int:
        return sum(frames.nbytes for frames in self._spare.values())


class ChannelNorm(nn.Module):
    """L2 normalisation over channels, times sqrt(channels), times a learned gain (`RMS_norm` in the reference)."""

    def __init__(self, channels: int, axes: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    @property
    def gain(self) -> Tensor:
        """(C,): what normalised channels are multiplied by."""
        return self.gamma.flatten() * self.gamma.shape[0] ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.gain.view_as(self.gamma)


class CausalConv3d(nn.Conv3d):
    """3-D convolution that sees only the present and the past: 'same' in space, history instead of padding in time."""

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(  # type: ignore[override]
        self, x: Tensor, memory: StreamMemory, norm: ChannelNorm | None = None
    ) -> Tensor:
        """Of `x`, or of what `norm` and SiLU make of it."""
        alone = x.shape[2] == 1 and self not in memory
        window = memory.behind(self, x, self.kernel_size[0] - 1, norm)
        if alone:
            # Over a zero past only the newest tap of the kernel contributes: a third of the work.
            newest = self.weight[:, :, -1]
            return F.conv2d(window[:, :, -1], newest, self.bias, padding=self.padding[1:]).unsqueeze(2)
        pixels = x.shape[2:].numel()
        if memory.pairs and self.kernel_size == (3, 3, 3) and x.shape[2] % 2 == 0 and pixels >= WORTH_PAIRING:
            return convolve_pairs(window, self.weight, self.bias)
        return super().forward(window)


def convolve_pairs(window: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3x3 convolution of `window` (B, C, T + 2, H, W), T even, 'same' in space: (B, C', T, H, W).

    Two neighbouring frames at a time, by four flat convolutions of sums and differences of frames in place of six: the
    minimal filtering F(2, 3) along time (Winograd 1980, Lavin and Gray, arXiv 1509.09308).
    """
    b, _, frames, h, w = window.shape
    t = frames - 2
    oldest, middle, newest = weight.unbind(2)
    outer = oldest + newest
    first, second, third, fourth = (window[:, :, i : i + t - 1 : 2] for i in range(4))
    shape = (b, len(weight), t, h, w)
    out = torch.empty(shape, dtype=window.dtype, device=window.device, memory_format=torch.channels_last_3d)
    even, odd = out[:, :, 0::2], out[:, :, 1::2]

    def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        flat = F.conv2d(rearrange(x, "b c t h w -> (b t) c h w"), kernel, bias, padding=1)
        return rearrange(flat, "(b t) c h w -> b c t h w", b=b)

    # One at a time, so that only one is in memory; the bias goes where it reaches both frames with a plus.
    even.copy_(convolve(first - third, oldest))
    both = convolve(second + third, (outer + middle) / 2, bias)
    even.add_(both)
    odd.copy_(both)
    both = convolve(third - second, (outer - middle) / 2)
    even.add_(both)
    odd.sub_(both)
    odd.sub_(convolve(second - fourth, newest))
    return out


class Pointwise(nn.Conv3d):
    """1x1x1 convolution: a product with every pixel's channels, which lie together."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


class FlatPointwise(nn.Conv2d):
    """The same of frames (N, C, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


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
        self.shortcut = nn.Identity() if in_channels == out_channels else Pointwise(in_channels, out_channels)

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        norm1, conv1, norm2, conv2 = self.residual.values()
        h = conv2(conv1(x, memory, norm1), memory, norm2)
        return h.add_(self.shortcut(x))


class AttentionBlock(nn.Module):
    """Single-head attention over the pixels of each frame, with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, axes=2)
        self.to_qkv = FlatPointwise(channels, 3 * channels)
        self.proj = FlatPointwise(channels, channels)

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
        return self.time_conv(memory.behind(self.time_conv, x, history=1))


class Upsample(nn.Module):
    """Double height and width; with `temporal`, first double the frames of every chunk but the first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, padding=1)})
        self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1)) if temporal else None

    def forward(self, x: Tensor, memory: StreamMemory, shortcut: Tensor) -> Tensor:
        """`shortcut`: the stage's input, repeated over what is doubled and added."""
        conv = cast(nn.Conv2d, self.resample["1"])
        first = not memory.started
        times = 1
        if self.time_conv is not None and not first:
            x, times = self.time_conv(x, memory), 2
        quarters = double_and_convolve(x, times, conv.weight, conv.bias)
        return interleave(quarters, shortcut, 2 if self.time_conv is not None else 1, first)


def double_and_convolve(x: Tensor, times: int, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """A 3x3 'same' convolution of `x` (B, `times` x C, T, H, W) enlarged twice by nearest neighbour, in quarters.

    Of `times` frames that lie side by side in the channels each is convolved. Returns four tensors of
    (B, C', `times` x T, H, W): the pixels of even rows and even columns, even and odd, odd and even, odd and odd.

    At each of the four positions within an enlarged pixel, the nine taps fall on only 2x2 different pixels of `x`.
    So four 2x2 convolutions with summed taps give the same with 4/9 of the work, and no enlarged `x` is made; side by
    side in the output's channels they are one convolution.
    """
    b, channels, t, h, w = x.shape
    shape = (b * t * times, channels // times, h + 2, w + 2)
    padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for edge in (padded[..., 0, :], padded[..., -1, :], padded[..., 0], padded[..., -1]):
        edge.zero_()
    frames = rearrange(padded[..., 1:-1, 1:-1], "(b t times) c h w -> b times c t h w", b=b, times=times)
    frames.copy_(rearrange(x, "b (times c) t h w -> b times c t h w", times=times))
    kernels = torch.cat([kernel for tall in _merge_taps(weight, dim=2) for kernel in _merge_taps(tall, dim=3)])
    made = F.conv2d(padded, kernels, None if bias is None else bias.repeat(4))
    # All four were made at every place of a 2x2 window; each belongs to another corner of it.
    made = rearrange(made, "(b t) (row col c) h w -> row col b c t h w", b=b, row=2, col=2)
    return [made[row, col, ..., row : row + h, col : col + w] for row in range(2) for col in range(2)]


def interleave(corners: list[Tensor], x: Tensor, time: int, first: bool) -> Tensor:
    """The corners of every pixel put together, and `x` added, the stage's input (B, C, T / `time`, H, W).

    For that the channels of `x` are repeated and unfolded into (time, row, column). On the `first` chunk of a stream
    the leading `time - 1` frames are left out, which leaves one.
    """
    b, channels, t, h, w = corners[0].shape
    shape = (b, channels, t, 2 * h, 2 * w)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
    frames = [(time - 1, slice(None))] if first else [(frame, slice(frame, None, time)) for frame in range(time)]
    for place, corner in enumerate(corners):
        row, column = divmod(place, 2)
        pixels = out[..., row::2, column::2]
        for frame, those in frames:
            repeated = _unfolded(x, channels, 4 * frame + place, 4 * time)
            torch.add(corner[:, :, those], repeated, out=pixels[:, :, those])
    return out


def _unfolded(x: Tensor, channels: int, place: int, places: int) -> Tensor:
    """What lies at one of the `places` that the repeated channels of `x` unfold into: (B, `channels`, T, H, W)."""
    repeats = channels * places // x.shape[1]
    if places % repeats == 0:
        return x[:, place // repeats :: places // repeats]
    return x[:, (torch.arange(channels, device=x.device) * places + place) // repeats]


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


def patchify(video: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, 4C, T, H/2, W/2); within a patch the column offset varies slower than the row offset."""
    return rearrange(video, "b c t (h row) (w col) -> b (c col row) t h w", row=2, col=2)


def unpatchify(x: Tensor) -> Tensor:
    """Inverse of `patchify`."""
    return rearrange(x, "b (c col row) t h w -> b c t (h row) (w col)", row=2, col=2)
