"""Nano's autoencoder: four frames to one vector and back, streaming, small enough for two CPU cores.

A latent frame stands for four video frames and is a vector of features of them: where the player stands and looks, what
the weapon does, which targets are down. What they are is the training's affair (`scope_play.train.states`); here they
are numbers with a mean and a spread. Pictures are reached through the strongest principal components of whole frames,
found in two stages (patches of 4 frames x 16 x 16 pixels, then all patches of a picture together):

    encode  frames -> components -> `Finder` -> features
    decode  features -> `Renderer` -> components -> frames -> `Correction` -> frames

Of so few numbers nothing can be drawn but the world that the renderer has learned: an error in a latent moves the
player a little instead of dissolving the picture. The price is that a start image is not kept but recognised.

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
    """Sizes of `TinyVAE`. `frame`: height and width that it is made for, in pixels. `latent_channels`: features of the
    four frames, side by side, among which are `place` (x, y) and `heading` (sine, cosine). `patch_components` kept of
    each patch, `picture_components` of them all together. Width and residual blocks of the renderer, the finder and
    the correction."""

    frame: tuple[int, int] = (96, 160)
    latent_channels: int = 188
    patch_components: int = 96
    picture_components: int = 768
    renderer_width: int = 768
    renderer_blocks: int = 3
    finder_width: int = 512
    finder_blocks: int = 2
    width: int = 64
    blocks: int = 3
    place: tuple[int, int] = (0, 1)
    heading: tuple[int, int] = (3, 4)

    def __post_init__(self) -> None:
        for name in ("frame", "place", "heading"):
            object.__setattr__(self, name, tuple(int(number) for number in getattr(self, name)))
        if self.latent_channels % 4 or self.features <= max(*self.place, *self.heading):
            raise ValueError(f"latent_channels {self.latent_channels} are not four times enough features; change it")
        if self.frame[0] % PATCH or self.frame[1] % PATCH:
            raise ValueError(f"frame {self.frame} does not divide into patches of {PATCH} pixels; change frame")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a frame."""
        return self.frame[0] // PATCH, self.frame[1] // PATCH

    @property
    def features(self) -> int:
        """Features of one frame."""
        return self.latent_channels // 4

    @property
    def coefficients(self) -> int:
        """Numbers that the patches of a picture have together."""
        return self.grid[0] * self.grid[1] * self.patch_components

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a latent: one vector. Raises ValueError for frames of any size but `frame`."""
        if (height, width) != self.frame:
            raise ValueError(f"this codec is for frames of {self.frame} pixels, not {(height, width)}")
        return 1, 1


class ResidualMLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x)), approximate="tanh"))


def _mlps(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualMLP(width) for _ in range(count)))


class Renderer(nn.Module):
    """Features of four frames (B, C), as they are, -> picture components (B, n) at unit scale.

    Place and heading of the last frame are given as waves of several lengths too: a picture changes with them faster
    than a small network would by itself (Tancik et al. 2020, "Fourier features").
    """

    place_waves, heading_waves = 6, 8

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.config = config
        width = config.renderer_width
        waves = 2 * 2 * self.place_waves + 2 * self.heading_waves
        self.read = nn.Linear(config.latent_channels + waves, width)
        self.blocks = _mlps(width, config.renderer_blocks)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.write = nn.Linear(width, config.picture_components)
        nn.init.zeros_(self.write.weight)

    def forward(self, features: Tensor) -> Tensor:
        last = features[:, -self.config.features :]
        place = last[:, self.config.place, None] * self._lengths(self.place_waves, last) * (torch.pi / 2)
        sine, cosine = last[:, self.config.heading].unbind(1)
        heading = torch.atan2(sine, cosine)[:, None] * self._lengths(self.heading_waves, last)
        waves = [place.sin().flatten(1), place.cos().flatten(1), heading.sin(), heading.cos()]
        return self.write(self.norm(self.blocks(self.read(torch.cat([features, *waves], 1)))))

    @staticmethod
    def _lengths(count: int, like: Tensor) -> Tensor:
        return torch.arange(1, count + 1, device=like.device, dtype=like.dtype)


class Finder(nn.Module):
    """Picture components (B, n) at unit scale -> latent (B, C): where this is, and what goes on."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.read = nn.Linear(config.picture_components, config.finder_width)
        self.blocks = _mlps(config.finder_width, config.finder_blocks)
        self.norm = nn.LayerNorm(config.finder_width, elementwise_affine=False)
        self.write = nn.Linear(config.finder_width, config.latent_channels)

    def forward(self, components: Tensor) -> Tensor:
        return self.write(self.norm(self.blocks(self.read(components))))


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Correction(nn.Module):
    """What components leave soft: frames (B, 3, 4, H, W) as they draw them -> what to add, of the same shape."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        inside = 3 * 4 * FOLD**2
        self.read = nn.Conv2d(inside, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width) for _ in range(config.blocks)))
        self.write = nn.Conv2d(config.width, inside, 3, padding=1)
        nn.init.zeros_(self.write.weight)
        if self.write.bias is not None:
            nn.init.zeros_(self.write.bias)

    def forward(self, frames: Tensor) -> Tensor:
        cells = rearrange(frames, "b c t (h p) (w q) -> b (c t p q) h w", p=FOLD, q=FOLD)
        x = self.blocks(self.read(cells.contiguous(memory_format=torch.channels_last)))
        return rearrange(self.write(F.relu(x)), "b (c t p q) h w -> b c t (h p) (w q)", c=3, t=4, p=FOLD, q=FOLD)


class TinyVAE(nn.Module):
    """The pair. `encode_chunk` and `decode_chunk` are the networks; `encoder()` and `decoder()` walk along a video."""

    coarse = ("patch_map", "picture_map", "renderer.", "finder.")
    """Beginnings of names of matrices for which eight bits are enough on disk."""

    def __init__(self, config: TinyVAEConfig = TinyVAEConfig()) -> None:
        super().__init__()
        self.config = config
        numbers, kept, channels = 3 * 4 * PATCH**2, config.patch_components, config.picture_components
        self.patch_map: Tensor
        self.patch_mean: Tensor
        self.place_weight: Tensor
        self.picture_map: Tensor
        self.picture_mean: Tensor
        self.picture_std: Tensor
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("patch_map", torch.randn(kept, numbers) / numbers**0.5)
        self.register_buffer("patch_mean", torch.zeros(numbers))
        self.register_buffer("place_weight", torch.ones(config.grid[0] * config.grid[1]))
        self.register_buffer("picture_map", torch.randn(channels, config.coefficients))
        self.register_buffer("picture_mean", torch.zeros(config.coefficients))
        self.register_buffer("picture_std", torch.ones(channels))
        self.register_buffer("feature_mean", torch.zeros(config.latent_channels))
        self.register_buffer("feature_std", torch.ones(config.latent_channels))
        self.renderer = Renderer(config)
        self.finder = Finder(config)
        self.correction = Correction(config)
        for module in self.correction.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def patch_components(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 4, H, W) in [-1, 1] -> components of their patches (B, patches, components)."""
        if frames.shape[1:] != (3, 4, *self.config.frame):
            raise ValueError(f"frames must be (B, 3, 4, *{self.config.frame}), got {tuple(frames.shape)}")
        return F.linear(to_patches(frames) - self.patch_mean, self.patch_map)

    def picture_components(self, patches: Tensor) -> Tensor:
        """Components of patches (B, patches, components) -> components of the picture (B, n), at unit scale."""
        weighted = (patches * self.place_weight[:, None]).flatten(1) - self.picture_mean
        return F.linear(weighted, self.picture_map) / self.picture_std

    def to_patches(self, components: Tensor) -> Tensor:
        """Inverse of `picture_components`, as far as it has one."""
        weighted = (components * self.picture_std) @ self.picture_map + self.picture_mean
        return weighted.unflatten(1, (len(self.place_weight), -1)) / self.place_weight[:, None]

    def from_features(self, features: Tensor) -> Tensor:
        """Features (..., C) as they are -> latents (..., C), of mean 0 and spread 1."""
        return (features - self.feature_mean) / self.feature_std

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
        return self.finder(self.picture_components(self.patch_components(frames)))[:, :, None, None]

    def decode_chunk(self, latent: Tensor) -> Tensor:
        """Latent (B, C, 1, 1) -> frames (B, 3, 4, H, W), not clamped. Raises ValueError on others."""
        if latent.shape[1:] != (self.config.latent_channels, 1, 1):
            raise ValueError(f"latents must be (B, {self.config.latent_channels}, 1, 1), got {tuple(latent.shape)}")
        components = self.renderer(latent.flatten(1) * self.feature_std + self.feature_mean)
        return self.correct(self.draw(self.to_patches(components)))

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
        components, mean, deviations = principal_components(weighted, self.config.picture_components)
        self.picture_map.copy_(components)
        self.picture_mean.copy_(mean)
        self.picture_std.copy_(deviations.clamp_min(1e-4))


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
