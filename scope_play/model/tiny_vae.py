"""Nano's autoencoder: 16x in space, 4x in time, streaming, small enough for two CPU cores.

Every latent frame stands for four video frames. The encoder is a linear map of 4x16x16 patches, set once from a
principal component analysis (`TinyVAE.set_linear`) and never trained: latents are known before any training, and a
better decoder can replace an older one under a world model without retraining it. The decoder is the inverse map plus a
convolutional residual whose last layer starts at zero, so training begins at the best linear decoder. The encoder
needs no past; the decoder remembers the previous latent frame and nothing else, so an error in a generated latent
leaves it after one chunk.

Latents are normalised per channel (`latent_mean`, `latent_std`). The very first latent of a video is its first frame
shown four times; decoding it gives that one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True)
class TinyVAEConfig:
    """Sizes of `TinyVAE`. Decoder widths go from fine to coarse: at 1/4, 1/8 and 1/16 of the frame's size."""

    latent_channels: int = 128
    decoder_widths: tuple[int, int, int] = (64, 96, 192)
    decoder_blocks: int = 2
    spatial_stride: int = 16
    temporal_stride: int = 4

    def __post_init__(self) -> None:
        widths = tuple(self.decoder_widths)
        if len(widths) != 3:
            raise ValueError(f"decoder_widths needs three widths (1/4, 1/8, 1/16), got {widths}")
        object.__setattr__(self, "decoder_widths", widths)
        if (self.spatial_stride, self.temporal_stride) != (16, 4):
            raise ValueError(f"strides are fixed at 16 and 4, got {self.spatial_stride} and {self.temporal_stride}")

    @property
    def patch_size(self) -> int:
        """Numbers in one 4-frame patch: what one latent vector stands for."""
        return 3 * self.temporal_stride * self.spatial_stride**2


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(width) for _ in range(count)]


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Encoder(nn.Module):
    """Four frames (B, 3, 4, H, W) -> raw latent (B, C, H/16, W/16)."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.linear = nn.Conv2d(config.patch_size, config.latent_channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.linear(rearrange(frames, "b c t (h p) (w q) -> b (c t p q) h w", p=16, q=16))


class Decoder(nn.Module):
    """Raw latent and the one before it, each (B, C, h, w) -> four frames (B, 3, 4, 16h, 16w)."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.decoder_widths
        count = config.decoder_blocks
        self.linear = nn.Conv2d(config.latent_channels, config.patch_size, 1)
        self.input_scale: Tensor
        self.register_buffer("input_scale", torch.ones(config.latent_channels))
        self.residual = nn.Sequential(
            nn.Conv2d(2 * config.latent_channels, coarse, 3, padding=1),
            *_blocks(coarse, count),
            nn.Conv2d(coarse, 4 * middle, 1),
            nn.PixelShuffle(2),
            *_blocks(middle, count),
            nn.Conv2d(middle, 4 * fine, 1),
            nn.PixelShuffle(2),
            *_blocks(fine, count),
            nn.SiLU(),
            _zero(nn.Conv2d(fine, 3 * 4 * 4 * 4, 3, padding=1)),
        )

    def forward(self, raw: Tensor, previous: Tensor) -> Tensor:
        patches = rearrange(self.linear(raw), "b (c t p q) h w -> b c t (h p) (w q)", c=3, t=4, p=16, q=16)
        both = torch.cat([raw, previous], dim=1) * self.input_scale.repeat(2)[:, None, None]
        tiles = self.residual(both.contiguous(memory_format=torch.channels_last))
        tiles = rearrange(tiles, "b (c t p q) h w -> b c t (h p) (w q)", c=3, t=4, p=4, q=4)
        return patches + tiles


class TinyVAE(nn.Module):
    """The pair. `encode_chunk` and `decode_chunk` are the networks; `encoder()` and `decoder()` walk along a video."""

    def __init__(self, config: TinyVAEConfig = TinyVAEConfig()) -> None:
        super().__init__()
        self.config = config
        self.encode_net = Encoder(config)
        self.decode_net = Decoder(config)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def encode_chunk(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 4, H, W) in [-1, 1] -> normalised latent (B, C, H/16, W/16). Raises ValueError on others."""
        _, colours, count, height, width = frames.shape
        if colours != 3 or count != 4 or height % 16 or width % 16:
            raise ValueError(f"frames must be (B, 3, 4, 16h, 16w), got {tuple(frames.shape)}")
        raw = self.encode_net(frames)
        return (raw - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode_chunk(self, latent: Tensor, previous: Tensor) -> Tensor:
        """Normalised latent and its predecessor, each (B, C, h, w) -> frames (B, 3, 4, 16h, 16w), not clamped.

        The first latent of a video is its own predecessor.
        """
        if latent.shape != previous.shape or latent.shape[1] != self.config.latent_channels:
            expected = self.config.latent_channels
            raise ValueError(
                f"latents must be (B, {expected}, h, w), got {tuple(latent.shape)}, {tuple(previous.shape)}"
            )
        mean, std = self.latent_mean[:, None, None], self.latent_std[:, None, None]
        return self.decode_net(latent * std + mean, previous * std + mean)

    def encoder(self) -> EncoderStream:
        return EncoderStream(self)

    def decoder(self) -> DecoderStream:
        return DecoderStream(self)

    def encode(self, video: Tensor) -> Tensor:
        """Video (B, 3, 1+4n, H, W) in [-1, 1] -> latents (B, C, 1+n, H/16, W/16)."""
        frames = video.shape[2]
        if frames % 4 != 1:
            raise ValueError(f"a video needs 1+4n frames, got {frames}")
        stream = self.encoder()
        parts = [video[:, :, :1], *video[:, :, 1:].split(4, dim=2)] if frames > 1 else [video]
        return torch.cat([stream.push(part) for part in parts], dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, 1+n, h, w) -> video (B, 3, 1+4n, 16h, 16w) in [-1, 1]."""
        return self.decoder().push(latents)

    @torch.no_grad()
    def set_linear(self, components: Tensor, mean: Tensor, deviations: Tensor) -> None:
        """Sets both linear maps: orthonormal `components` (C, 3072), `mean` (3072,), `deviations` (C,) of the latents.

        Patches are flattened as (colour, frame, row, column).
        """
        encode, decode = self.encode_net.linear, self.decode_net.linear
        encode.weight.copy_(components[:, :, None, None])
        encode.bias.copy_(-components @ mean)  # type: ignore[union-attr]
        decode.weight.copy_(components.T[:, :, None, None])
        decode.bias.copy_(mean)  # type: ignore[union-attr]
        self.decode_net.input_scale.copy_(1 / deviations)
        self.set_normalisation(torch.zeros_like(deviations), deviations)

    @torch.no_grad()
    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Latents become (raw - mean) / std, each (C,). What a video decodes to does not change."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)


class EncoderStream:
    """Encodes a video as it arrives. Its only memory is whether the first frame has been seen."""

    nbytes = 0

    def __init__(self, codec: TinyVAE, started: bool = False) -> None:
        self._codec = codec
        self._started = started

    def push(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 1, H, W) at first, then (B, 3, 4, H, W), in [-1, 1] -> latents (B, C, 1, H/16, W/16)."""
        if frames.shape[2] != (4 if self._started else 1):
            wanted = "four frames" if self._started else "one frame first"
            raise ValueError(f"the encoder stream takes {wanted}, got {frames.shape[2]}")
        chunk = frames if self._started else frames.expand(-1, -1, 4, -1, -1)
        self._started = True
        return self._codec.encode_chunk(chunk)[:, :, None]

    def clone(self) -> EncoderStream:
        return EncoderStream(self._codec, self._started)


class DecoderStream:
    """Decodes latents as they come. It remembers the latent frame before."""

    def __init__(self, codec: TinyVAE, previous: Tensor | None = None) -> None:
        self._codec = codec
        self._previous = previous

    @property
    def nbytes(self) -> int:
        return 0 if self._previous is None else self._previous.nbytes

    def push(self, latents: Tensor) -> Tensor:
        """Latents (B, C, n, h, w) -> frames (B, 3, 4n, 16h, 16w) in [-1, 1]; the very first latent gives one frame."""
        parts: list[Tensor] = []
        for latent in latents.unbind(2):
            first = self._previous is None
            frames = self._codec.decode_chunk(latent, latent if self._previous is None else self._previous)
            parts.append(frames[:, :, -1:] if first else frames)
            self._previous = latent.detach().clone()
        return torch.cat(parts, dim=2).clamp(-1, 1)

    def clone(self) -> DecoderStream:
        return DecoderStream(self._codec, None if self._previous is None else self._previous.clone())


def principal_components(patches: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """PCA of patches (N, 3072) -> the `count` strongest components (count, 3072), mean (3072,), deviations (count,).

    Raises ValueError when there are no more patches than components.
    """
    samples, width = patches.shape
    if samples <= count:
        raise ValueError(f"{count} components need more than {count} patches, got {samples}")
    mean = patches.mean(dim=0)
    centred = (patches - mean) / (samples - 1) ** 0.5
    if samples < width:  # the smaller of the two Gram matrices has the same eigenvalues
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())
        components = F.normalize(vectors[:, -count:].T.float() @ centred)
    else:
        values, vectors = torch.linalg.eigh((centred.T @ centred).double())
        components = vectors[:, -count:].T.float()
    return components.flip(0).contiguous(), mean, values[-count:].flip(0).clamp_min(0).sqrt().float()


def to_patches(chunks: Tensor) -> Tensor:
    """Frames (B, 3, 4, H, W) -> patches (B*h*w, 3072), flattened as `TinyVAE.set_linear` wants them."""
    return rearrange(chunks, "b c t (h p) (w q) -> (b h w) (c t p q)", p=16, q=16)


def video_to_chunks(video: Tensor) -> Tensor:
    """Video (B, 3, 1+4n, H, W) -> chunks (B, 1+n, 3, 4, H, W); the first frame is shown four times."""
    first: Sequence[Tensor] = [video[:, :, :1]] * 3
    return rearrange(torch.cat([*first, video], dim=2), "b c (n t) h w -> b n c t h w", t=4)
