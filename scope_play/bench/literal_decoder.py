"""The full decoder as it is written down, layer by layer and each thing by itself: what `bench decode` compares with.

It takes the weights of a `VAENetwork`. Every layer joins its past and its input, normalises, scales and applies SiLU in
passes of their own, enlarges a frame before it convolves it, and repeats a shortcut before it adds it; nothing minds
how a tensor lies in memory. Source: SPEC.md section 5.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.model.wan_vae.layers import unpatchify
from scope_play.model.wan_vae.network import VAENetwork


class LiteralDecoder:
    """One stream: `push` a normalised latent (B, 48, 1, h, w) at a time, for (B, 3, T, 16h, 16w), T = 1 and then 4.

    Frames are not clamped.
    """

    def __init__(self, network: VAENetwork) -> None:
        self.network = network
        self.past: dict[nn.Module, Tensor] = {}
        self.started = False
        mean, std = (
            torch.tensor(x).view(1, -1, 1, 1, 1) for x in (network.config.latent_mean, network.config.latent_std)
        )
        weight = network.conv2.weight
        self.mean, self.inverse_std = mean.to(weight), (1 / std).to(weight)

    @torch.no_grad()
    def push(self, latent: Tensor) -> Tensor:
        decoder: Any = self.network.decoder
        x = self.convolve(decoder.conv1, self.mix(self.network.conv2, latent / self.inverse_std + self.mean))
        before, attention, after = decoder.middle
        x = self.residual(after, self.attend(attention, self.residual(before, x)))
        for stage in decoder.upsamples:
            x = self.stage(stage, x)
        norm, conv = decoder.head.values()
        x = self.convolve(conv, F.silu(self.norm(norm, x)))
        self.started = True
        return unpatchify(x)

    def convolve(self, conv: Any, x: Tensor) -> Tensor:
        """Behind the last frames of its input, zeros at first."""
        history = conv.kernel_size[0] - 1
        past = self.past.get(conv, torch.zeros_like(x[:, :, :1]).expand(-1, -1, history, -1, -1))
        joined = torch.cat([past, x], dim=2)
        self.past[conv] = joined[:, :, -history:].clone()
        return F.conv3d(joined, conv.weight, conv.bias, padding=conv.padding)

    def mix(self, conv: Any, x: Tensor) -> Tensor:
        return (F.conv2d if x.ndim == 4 else F.conv3d)(x, conv.weight, conv.bias)

    def norm(self, norm: Any, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * (norm.gamma * norm.gamma.shape[0] ** 0.5)

    def residual(self, block: Any, x: Tensor) -> Tensor:
        norm1, conv1, norm2, conv2 = block.residual.values()
        h = self.convolve(conv1, F.silu(self.norm(norm1, x)))
        h = self.convolve(conv2, F.silu(self.norm(norm2, h)))
        return h + (self.mix(block.shortcut, x) if isinstance(block.shortcut, nn.Conv3d) else x)

    def attend(self, block: Any, x: Tensor) -> Tensor:
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        qkv = rearrange(
            self.mix(block.to_qkv, self.norm(block.norm, frames)), "n (qkv c) h w -> qkv n 1 (h w) c", qkv=3
        )
        query, key, value = qkv.unbind(0)
        out = F.scaled_dot_product_attention(query, key, value)
        out = rearrange(out, "n 1 (h w) c -> n c h w", h=x.shape[3])
        return x + rearrange(self.mix(block.proj, out), "(b t) c h w -> b c t h w", b=len(x))

    def stage(self, stage: Any, x: Tensor) -> Tensor:
        y = x
        *blocks, last = stage.upsamples
        for block in blocks:
            y = self.residual(block, y)
        if not hasattr(last, "resample"):
            return self.residual(last, y)
        conv, time = last.resample["1"], 1 if last.time_conv is None else 2
        if time == 2 and self.started:
            y = rearrange(self.convolve(last.time_conv, y), "b (two c) t h w -> b c (t two) h w", two=2)
        frames = F.interpolate(rearrange(y, "b c t h w -> (b t) c h w"), scale_factor=2.0, mode="nearest-exact")
        y = rearrange(F.conv2d(frames, conv.weight, conv.bias, padding=1), "(b t) c h w -> b c t h w", b=len(x))
        repeated = x.repeat_interleave(y.shape[1] * time * 4 // x.shape[1], dim=1)
        repeated = rearrange(repeated, "b (c dt dh dw) t h w -> b c (t dt) (h dh) (w dw)", dt=time, dh=2, dw=2)
        return y + (repeated if self.started else repeated[:, :, time - 1 :])
