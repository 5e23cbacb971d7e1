"""The Wan2.2 video autoencoder's network, under the names of the released `Wan2.2_VAE.pth`.

The modules take one chunk at a time and keep what they must remember in a `StreamMemory`; `wan_vae.vae` makes streams
and whole clips out of them. Source: SPEC.md section 5.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.layers import (
    AttentionBlock,
    CausalConv3d,
    ChannelNorm,
    Downsample,
    Pointwise,
    ResidualBlock,
    StreamMemory,
    Upsample,
    average_down,
)


class Middle(nn.ModuleList):
    """Residual block, attention within each frame, residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            [ResidualBlock(channels, channels), AttentionBlock(channels), ResidualBlock(channels, channels)]
        )

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        before, attention, after = self
        return after(attention(before(x, memory)), memory)


class Head(nn.ModuleDict):
    """norm, SiLU, causal convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__({"0": ChannelNorm(in_channels), "2": CausalConv3d(in_channels, out_channels, (3, 3, 3))})

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        norm, conv = self.values()
        return conv(x, memory, norm)


class DownStage(nn.Module):
    """Residual blocks and a resampler, beside an average-pooling shortcut of the stage's input."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, space: int, time: int) -> None:
        super().__init__()
        self.out_channels, self.space, self.time = out_channels, space, time
        widths = [in_channels, *[out_channels] * blocks]
        self.downsamples = nn.ModuleList([ResidualBlock(a, b) for a, b in pairwise(widths)])
        if space == 2:
            self.downsamples.append(Downsample(out_channels, temporal=time == 2))

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        shortcut = average_down(x, self.out_channels, self.time, self.space)
        for layer in self.downsamples:
            x = layer(x, memory)
        return x + shortcut


class UpStage(nn.Module):
    """Residual blocks and, in all stages but the last, a resampler beside a duplicating shortcut."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, space: int, time: int) -> None:
        super().__init__()
        widths = [in_channels, *[out_channels] * blocks]
        self.upsamples = nn.ModuleList([ResidualBlock(a, b) for a, b in pairwise(widths)])
        if space == 2:
            self.upsamples.append(Upsample(out_channels, temporal=time == 2))

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        y = x
        for layer in self.upsamples:
            y = layer(y, memory, x) if isinstance(layer, Upsample) else layer(y, memory)
        return y


class Encoder(nn.Module):
    """Patchified frames (B, 12, 1 or 4, H/2, W/2) -> mean and log-variance (B, 2 * z_dim, 1, H/16, W/16)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dim * m for m in (1, *config.dim_mult)]
        times = [2 if temporal else 1 for temporal in config.temporal_downsample]
        factors = [*[(2, time) for time in times], (1, 1)]
        self.conv1 = CausalConv3d(12, widths[0], (3, 3, 3))
        self.downsamples = nn.ModuleList(
            DownStage(a, b, config.num_res_blocks, space, time)
            for (a, b), (space, time) in zip(pairwise(widths), factors, strict=True)
        )
        self.middle = Middle(widths[-1])
        self.head = Head(widths[-1], 2 * config.z_dim)

    def forward(self, x: Tensor, memory: StreamMemory) -> Tensor:
        x = self.conv1(x, memory)
        for stage in self.downsamples:
            x = stage(x, memory)
        x = self.head(self.middle(x, memory), memory)
        memory.started = True
        return x


class Decoder(nn.Module):
    """One latent frame (B, z_dim, 1, h, w) -> patchified frames (B, 12, 1 or 4, 8h, 8w)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.dec_dim * m for m in (config.dim_mult[-1], *reversed(config.dim_mult))]
        times = [2 if temporal else 1 for temporal in reversed(config.temporal_downsample)]
        factors = [*[(2, time) for time in times], (1, 1)]
        self.conv1 = CausalConv3d(config.z_dim, widths[0], (3, 3, 3))
        self.middle = Middle(widths[0])
        self.upsamples = nn.ModuleList(
            UpStage(a, b, config.num_res_blocks + 1, space, time)
            for (a, b), (space, time) in zip(pairwise(widths), factors, strict=True)
        )
        self.head = Head(widths[-1], 12)

    def forward(self, z: Tensor, memory: StreamMemory) -> Tensor:
        x = self.middle(self.conv1(z, memory), memory)
        for stage in self.upsamples:
            x = stage(x, memory)
        x = self.head(x, memory)
        memory.started = True
        return x


class VAENetwork(nn.Module):
    """The weights of `Wan2.2_VAE.pth`: encoder, `conv1` after it, `conv2` before the decoder."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.conv1 = Pointwise(2 * config.z_dim, 2 * config.z_dim)
        self.conv2 = Pointwise(config.z_dim, config.z_dim)
        self.decoder = Decoder(config)
        _store_channels_last(self)


def _store_channels_last(network: nn.Module) -> None:
    """Lay convolution weights out channels-last: per-channel norms then read contiguously, and frames fold for free."""
    for parameter in network.parameters():
        if parameter.ndim in (4, 5):
            layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
            parameter.data = parameter.data.contiguous(memory_format=layout)
