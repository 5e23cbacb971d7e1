"""Nano's autoencoder: four frames to one vector and back, streaming, small enough for two CPU cores.

A latent frame stands for four video frames and has no places: its channels are the strongest principal components of
whole pictures, found in two stages (patches of 4 frames x 16 x 16 pixels, then all patches of a picture together) and
never trained. Of one court, a few hundred of them hold nearly everything that a player sees, and what a walk or a turn
does to them is smooth. Since they are known before any training, a world model and a decoder can be trained side by
side, and a better decoder put under the same world later.

The decoder is the inverse map plus a convolutional network that sharpens what it draws (`Correction`): edges come out
of so few components soft and ringing, and of flat surfaces with hard edges much can be drawn back. Its last layer
starts at zero, so training begins at the best linear decoder.

Neither half has a memory. The very first latent of a video is its first frame shown four times; decoding it gives that
one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

PATCH = 16
FOLD = 4
"""The correction works on cells of FOLD x FOLD pixels of all four frames."""


@dataclass(frozen=True)
class TinyVAEConfig:
    """Sizes of `TinyVAE`. `frame`: height and width that it is made for, in pixels; `patch_components` kept of each
    patch, `latent_channels` of them all together; `width` and residual `blocks` of the correction."""

    frame: tuple[int, int] = (96, 160)
    patch_components: int = 96
    latent_channels: int = 768
    width: int = 64
    blocks: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", (int(self.frame[0]), int(self.frame[1])))
        if self.frame[0] % PATCH or self.frame[1] % PATCH:
            raise ValueError(f"frame {self.frame} does not divide into patches of {PATCH} pixels; change frame")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a frame."""
        return self.frame[0] // PATCH, self.frame[1] // PATCH

    @property
    def coefficients(self) -> int:
        """Numbers that the patches of a picture have together."""
        return self.grid[0] * self.grid[1] * self.patch_components

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a latent: one vector. Raises ValueError for frames of any size but `frame`."""
        if (height, width) != self.frame:
            raise ValueError(f"this codec is for frames of {self.frame} pixels, not {(height, width)}")
        return 1, 1


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Correction(nn.Module):
    """What the linear decoder misses: frames (B, 3, 4, H, W) as it drew them -> what to add, of the same shape."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        inside = 3 * 4 * FOLD**2
        self.read = nn.Conv2d(inside, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.blocks)))
        self.write = nn.Conv2d(config.width, inside, 3, padding=1)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, frames: Tensor) -> Tensor:
        cells = rearrange(frames, "b c t (h p) (w q) -> b (c t p q) h w", p=FOLD, q=FOLD)
        x = self.blocks(self.read(cells.contiguous(memory_format=torch.channels_last)))
        return rearrange(self.write(F.relu(x)), "b (c t p q) h w -> b c t (h p) (w q)", c=3, t=4, p=FOLD, q=FOLD)


class TinyVAE(nn.Module):
    """The pair. `encode_chunk` and `decode_chunk` are the networks; `encoder()` and `decoder()` walk along a video."""

    coarse = ("picture_map",)
    """Tensors for which eight bits are enough on disk: their rounding is far below what the map itself cuts off."""

    def __init__(self, config: TinyVAEConfig = TinyVAEConfig()) -> None:
        super().__init__()
        self.config = config
        numbers, kept, channels = 3 * 4 * PATCH**2, config.patch_components, config.latent_channels
        self.patch_map: Tensor
        self.patch_mean: Tensor
        self.place_weight: Tensor
        self.picture_map: Tensor
        self.picture_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("patch_map", torch.randn(kept, numbers) / numbers**0.5)
        self.register_buffer("patch_mean", torch.zeros(numbers))
        self.register_buffer("place_weight", torch.ones(config.grid[0] * config.grid[1]))
        self.register_buffer("picture_map", torch.randn(channels, config.coefficients))
        self.register_buffer("picture_mean", torch.zeros(config.coefficients))
        self.register_buffer("latent_std", torch.ones(channels))
        self.correction = Correction(config)
        for module in self.correction.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        # The picture map is kept with entries near 1, where eight-bit floats are exact; its rows are no unit vectors.
        self._row_norm = config.coefficients**0.5

    def patch_components(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 4, H, W) in [-1, 1] -> components of their patches (B, patches, components)."""
        if frames.shape[1:] != (3, 4, *self.config.frame):
            raise ValueError(f"frames must be (B, 3, 4, *{self.config.frame}), got {tuple(frames.shape)}")
        return F.linear(to_patches(frames) - self.patch_mean, self.patch_map)

    def encode_patches(self, patches: Tensor) -> Tensor:
        """Components of patches (B, patches, components) -> latent (B, C)."""
        weighted = (patches * self.place_weight[:, None]).flatten(1) - self.picture_mean
        return F.linear(weighted, self.picture_map) / (self.latent_std * self._row_norm)

    def decode_patches(self, latent: Tensor) -> Tensor:
        """Latent (B, C) -> components of patches (B, patches, components) by the inverse map alone."""
        weighted = (latent * (self.latent_std / self._row_norm)) @ self.picture_map + self.picture_mean
        return weighted.unflatten(1, (len(self.place_weight), -1)) / self.place_weight[:, None]

    def draw(self, patches: Tensor) -> Tensor:
        """Components of patches (B, patches, components) -> frames (B, 3, 4, H, W)."""
        rows, columns = self.config.grid
        pixels = patches @ self.patch_map + self.patch_mean
        return rearrange(pixels, "b (h w) (c t p q) -> b c t (h p) (w q)", h=rows, w=columns, t=4, p=PATCH, q=PATCH)

    def correct(self, frames: Tensor) -> Tensor:
        """The decoder's whole answer, not clamped: frames as `draw` made them, and the correction."""
        return frames + self.correction(frames)

    def encode_chunk(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 4, H, W) in [-1, 1] -> latent (B, C, 1, 1). Raises ValueError on others."""
        return self.encode_patches(self.patch_components(frames))[:, :, None, None]

    def decode_chunk(self, latent: Tensor) -> Tensor:
        """Latent (B, C, 1, 1) -> frames (B, 3, 4, H, W), not clamped. Raises ValueError on others."""
        if latent.shape[1:] != (self.config.latent_channels, 1, 1):
            raise ValueError(f"latents must be (B, {self.config.latent_channels}, 1, 1), got {tuple(latent.shape)}")
        return self.correct(self.draw(self.decode_patches(latent.flatten(1))))

    def encoder(self) -> EncoderStream:
        return EncoderStream(self)

    def decoder(self) -> DecoderStream:
        return DecoderStream(self)

    def encode(self, video: Tensor) -> Tensor:
        """Video (B, 3, 1+4n, H, W) in [-1, 1] -> latents (B, C, 1+n, 1, 1)."""
        frames = video.shape[2]
        if frames % 4 != 1:
            raise ValueError(f"a video needs 1+4n frames, got {frames}")
        chunks = video_to_chunks(video)
        return rearrange(self.encode_chunk(chunks.flatten(0, 1)), "(b n) c h w -> b c n h w", b=len(video))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, 1+n, 1, 1) -> video (B, 3, 1+4n, H, W) in [-1, 1]."""
        return self.decoder().push(latents)

    @torch.no_grad()
    def fit_patches(self, patches: Tensor) -> None:
        """First stage of the linear maps, from sample patches (N, 3072)."""
        components, mean, _ = principal_components(patches, self.config.patch_components)
        self.patch_map.copy_(components)
        self.patch_mean.copy_(mean)

    @torch.no_grad()
    def fit_pictures(self, patches: Tensor, weight: Tensor) -> None:
        """Second stage, from the patch components of sample pictures (N, patches, components); `weight` (patches,) says
        how much squared errors of each place count."""
        self.place_weight.copy_(weight.sqrt())
        weighted = (patches * self.place_weight[:, None]).flatten(1)
        components, mean, deviations = principal_components(weighted, self.config.latent_channels)
        self.picture_map.copy_(components * self._row_norm)
        self.picture_mean.copy_(mean)
        self.latent_std.copy_(deviations.clamp_min(1e-4))


class EncoderStream:
    """Encodes a video as it arrives. Its only memory is whether the first frame has been seen."""

    nbytes = 0

    def __init__(self, codec: TinyVAE, started: bool = False) -> None:
        self._codec = codec
        self._started = started

    def push(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 1, H, W) at first, then (B, 3, 4, H, W), in [-1, 1] -> latents (B, C, 1, 1, 1)."""
        if frames.shape[2] != (4 if self._started else 1):
            wanted = "four frames" if self._started else "one frame first"
            raise ValueError(f"the encoder stream takes {wanted}, got {frames.shape[2]}")
        chunk = frames if self._started else frames.expand(-1, -1, 4, -1, -1)
        self._started = True
        return self._codec.encode_chunk(chunk)[:, :, None]

    def clone(self) -> EncoderStream:
        return EncoderStream(self._codec, self._started)


class DecoderStream:
    """Decodes latents as they come. Its only memory is whether the first latent has been seen."""

    nbytes = 0

    def __init__(self, codec: TinyVAE, started: bool = False) -> None:
        self._codec = codec
        self._started = started

    def push(self, latents: Tensor) -> Tensor:
        """Latents (B, C, n, 1, 1) -> frames (B, 3, 4n, H, W) in [-1, 1]; the very first latent gives one frame."""
        flat = rearrange(latents, "b c n h w -> (b n) c h w")
        frames = rearrange(self._codec.decode_chunk(flat), "(b n) c t h w -> b c (n t) h w", b=len(latents))
        first, self._started = not self._started, True
        return (frames[:, :, 3:] if first else frames).clamp(-1, 1)

    def clone(self) -> DecoderStream:
        return DecoderStream(self._codec, self._started)


def principal_components(samples: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """PCA of samples (N, width) -> the `count` strongest components (count, width), mean (width,), deviations (count,).

    Raises ValueError when there are no more samples than components.
    """
    number, width = samples.shape
    if number <= count:
        raise ValueError(f"{count} components need more than {count} samples, got {number}")
    mean = samples.mean(dim=0)
    centred = (samples - mean) / (number - 1) ** 0.5
    if number < width:  # the smaller of the two Gram matrices has the same eigenvalues
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())
        components = F.normalize(vectors[:, -count:].T.float() @ centred)
    else:
        values, vectors = torch.linalg.eigh((centred.T @ centred).double())
        components = vectors[:, -count:].T.float()
    return components.flip(0).contiguous(), mean, values[-count:].flip(0).clamp_min(0).sqrt().float()


def to_patches(chunks: Tensor) -> Tensor:
    """Frames (B, 3, 4, H, W) -> patches (B, patches, 3072), each flattened as (colour, frame, row, column)."""
    return rearrange(chunks, "b c t (h p) (w q) -> b (h w) (c t p q)", p=PATCH, q=PATCH)


def video_to_chunks(video: Tensor) -> Tensor:
    """Video (B, 3, 1+4n, H, W) -> chunks (B, 1+n, 3, 4, H, W); the first frame is shown four times."""
    first: Sequence[Tensor] = [video[:, :, :1]] * 3
    return rearrange(torch.cat([*first, video], dim=2), "b c (n t) h w -> b n c t h w", t=4)
