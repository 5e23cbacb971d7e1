"""Nano's autoencoder: four frames to one vector and back, streaming, small enough for two CPU cores.

A latent frame stands for four video frames and is a vector of what is known of them: where the player stands and looks,
what the weapon does, which targets are down. What these features are is the training's affair
(`scope_play.train.data.states`); here they are numbers with a mean and a spread, some of which place a camera.

    encode  each frame -> `Finder` -> its features; those of a start image are then looked at more closely (`fit_pose`)
    decode  the features of each frame -> `LightField` -> the frame

Of so few numbers nothing can be drawn but the world that was learned: an error in a latent moves the player a little
instead of dissolving the picture. The price is that a start image is not kept but recognised.

Neither half has a memory. The very first latent of a video is its first frame shown four times; decoding it gives that
one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.model.nano_codec.events import EventConfig, begun, decided
from scope_play.model.nano_codec.light_field import CameraConfig, FieldConfig, LightField, with_sight
from scope_play.model.nano_codec.pose_fit import fit_pose
from scope_play.model.nano_codec.walkable import snap_to_walkable

BLOCK = 8
"""The finder looks at blocks of BLOCK x BLOCK pixels, and then at pairs of those."""
Drawer = Callable[[Tensor, Tensor], Tensor]
"""Features (N, F) and the same at unit spread -> pictures (N, 3, H, W) in [-1, 1], not clamped."""
FOREIGN = 0.045
"""Mean squared error, colours being in [0, 1], above which what was drawn is not the place that a picture shows."""
BOUNDLESS = 1e4
"""Bounds of features before any are known."""


@dataclass(frozen=True)
class NanoCodecConfig:
    """Sizes of `NanoCodec`.

    frame: height and width in pixels of what is drawn. seen: to what size frames are brought for the finder; that of
    `frame` unless given, and never larger. latent_channels: features of the four frames, side by side. ground: nodes to
    a side of the walkable table (`nano_codec.walkable`). court, hand, finish_channels: the decoder's two fields and its
    finish. fine: multiples of a unit of which both fields are also given waves, for what is smaller than a cell of
    96x160 pixels. half: whether a CPU draws with bfloat16 products, where it has instructions for them. events: which
    features tell of what passes, if drawing and beginning are to decide whether it goes on. finder_channels,
    finder_width: the finder's convolutions and what follows them.
    """

    frame: tuple[int, int] = (96, 160)
    seen: tuple[int, int] | None = None
    latent_channels: int = 212
    ground: int = 128
    camera: CameraConfig = field(default_factory=lambda: CameraConfig(sight=48))
    court: FieldConfig = field(default_factory=lambda: FieldConfig(width=320, layers=3))
    hand: FieldConfig = field(default_factory=lambda: FieldConfig(width=192, layers=2))
    finish_channels: int = 64
    fine: tuple[int, ...] = ()
    half: bool = False
    events: EventConfig | None = None
    finder_channels: int = 64
    finder_width: int = 384

    def __post_init__(self) -> None:
        if self.latent_channels % 4 or self.features < self.camera.columns:
            raise ValueError(f"latent_channels {self.latent_channels} are not four times enough features; change it")
        if self.events is not None and not all(0 <= column < self.features for column in self.events.columns):
            raise ValueError(f"events names columns of which a frame's {self.features} features have none; change it")
        if min(*self.frame, *self.finder_frame) < 1:
            raise ValueError(f"frame {self.frame} or seen {self.seen} has no pixels; change it")
        if self.finder_frame[0] % (2 * BLOCK) or self.finder_frame[1] % (2 * BLOCK):
            raise ValueError(f"frame {self.finder_frame} does not divide into blocks of {2 * BLOCK} pixels; change it")
        if self.frame[0] % self.finder_frame[0] or self.frame[1] % self.finder_frame[1]:
            raise ValueError(f"frames of {self.frame} pixels cannot be seen at {self.seen}; give a whole fraction")

    @property
    def finder_frame(self) -> tuple[int, int]:
        """Height and width of what the finder looks at."""
        return self.frame if self.seen is None else self.seen

    @property
    def features(self) -> int:
        """Features of one frame."""
        return self.latent_channels // 4

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a latent: one vector. Raises ValueError for frames of any size but `frame`."""
        if (height, width) != self.frame:
            raise ValueError(f"this codec is for frames of {self.frame} pixels, not {(height, width)}")
        return 1, 1


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Finder(nn.Module):
    """Frames (N, 3, H, W) in [-1, 1] -> what is known of each, at unit spread (N, F). Larger ones are brought to its
    size."""

    def __init__(self, config: NanoCodecConfig) -> None:
        super().__init__()
        channels, width = config.finder_channels, config.finder_width
        self.frame = config.finder_frame
        cells = self.frame[0] * self.frame[1] // (2 * BLOCK) ** 2
        self.see = nn.Sequential(
            nn.Conv2d(3, channels, BLOCK, stride=BLOCK),
            ResidualBlock(channels),
            ResidualBlock(channels),
            nn.Conv2d(channels, channels, 2, stride=2),
            ResidualBlock(channels),
        )
        self.think = nn.Sequential(
            nn.Linear(channels * cells, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.write = nn.Linear(width, config.features)

    def forward(self, frames: Tensor) -> Tensor:
        if frames.shape[-2:] != self.frame:
            frames = F.interpolate(frames, self.frame, mode="area")
        return self.write(self.think(F.relu(self.see(frames)).flatten(1)))


class NanoCodec(nn.Module):
    """The pair. `encode_chunk` and `decode_chunk` are the networks; `encoder()` and `decoder()` walk along a video."""

    def __init__(self, config: NanoCodecConfig = NanoCodecConfig()) -> None:
        super().__init__()
        self.config = config
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(config.latent_channels))
        self.register_buffer("feature_std", torch.ones(config.latent_channels))
        self.feature_low: Tensor
        self.feature_high: Tensor
        self.register_buffer("feature_low", torch.full((config.latent_channels,), -BOUNDLESS))
        self.register_buffer("feature_high", torch.full((config.latent_channels,), BOUNDLESS))
        self.ground: Tensor
        self.register_buffer("ground", torch.full((config.ground, config.ground), -1.0))
        self.field = LightField(
            config.features,
            config.frame,
            config.camera,
            config.court,
            config.hand,
            config.finish_channels,
            config.fine,
        )
        self.finder = Finder(config)
        self.drawer: Drawer | None = None
        """A faster form of the field, made of weights that change no more, where there is one: `runtime.fast_field`."""

    def from_features(self, features: Tensor) -> Tensor:
        """Features (..., C) as they are -> latents (..., C), of mean 0 and spread 1."""
        return (features - self.feature_mean) / self.feature_std

    def to_features(self, latents: Tensor) -> Tensor:
        """Inverse of `from_features`, in float32."""
        return latents.float() * self.feature_std.float() + self.feature_mean.float()

    def project(self, latents: Tensor) -> Tensor:
        """Latents (B, C, n, 1, 1) -> the nearest that stand for something: no feature is beyond what it can be, one
        stands where one can, every heading has length one, and the line of sight is the camera's. A world that goes on
        from what it made would be led further astray each time."""
        features = self.to_features(latents.movedim(1, -1))
        frames = features.clamp(self.feature_low.float(), self.feature_high.float()).unflatten(-1, (4, -1))
        place, heading = list(self.config.camera.place), list(self.config.camera.heading)
        frames[..., place] = snap_to_walkable(frames[..., place], self.ground)
        frames[..., heading] = F.normalize(frames[..., heading], dim=-1)
        frames = with_sight(frames, self.config.camera)
        return self.from_features(frames.flatten(-2)).movedim(-1, 1).to(latents.dtype)

    def state(self, features: Tensor) -> Tensor:
        """Features of single frames (N, F) -> the same at unit spread: that of a latent's last frame."""
        return (features - self.feature_mean[-self.config.features :]) / self.feature_std[-self.config.features :]

    def found(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) in [-1, 1] -> their features (N, F), as they are."""
        last = slice(-self.config.features, None)
        return self.finder(frames) * self.feature_std[last] + self.feature_mean[last]

    def encode_chunk(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 4, H, W) in [-1, 1] -> latent (B, C, 1, 1). Raises ValueError on others."""
        if frames.shape[1:] != (3, 4, *self.config.frame):
            raise ValueError(f"frames must be (B, 3, 4, *{self.config.frame}), got {tuple(frames.shape)}")
        features = self.found(rearrange(frames, "b c t h w -> (b t) c h w"))
        return self.from_features(rearrange(features, "(b t) f -> b (t f)", t=4))[:, :, None, None]

    def encode_image(self, frames: Tensor) -> Tensor:
        """Start images (B, 3, H, W) in [-1, 1] -> latents (B, C, 1, 1). Raises ValueError on others."""
        if frames.shape[1:] != (3, *self.config.frame):
            raise ValueError(f"frames must be (B, 3, *{self.config.frame}), got {tuple(frames.shape)}")
        features, missed = fit_pose(self, frames)
        if self.config.events is not None:
            resting = [
                begun(some, self.config.events, off > FOREIGN) for some, off in zip(features, missed, strict=True)
            ]
            features = torch.stack(resting)
        features = features.repeat(1, 4)
        return self.project(self.from_features(features)[:, :, None, None, None])[:, :, 0].to(frames.dtype)

    def decode_chunk(self, latent: Tensor, draw: Drawer | None = None) -> Tensor:
        """Latent (B, C, 1, 1) -> frames (B, 3, 4, H, W), not clamped. `draw` is the field, or a faster form of it.

        Raises ValueError on others.
        """
        if latent.shape[1:] != (self.config.latent_channels, 1, 1):
            raise ValueError(f"latents must be (B, {self.config.latent_channels}, 1, 1), got {tuple(latent.shape)}")
        features = rearrange(self.to_features(latent.flatten(1)), "b (t f) -> (b t) f", t=4)
        if self.config.events is not None:
            features = decided(features, self.config.events)
        frames = (draw or self.field)(features, self.state(features))
        return rearrange(frames, "(b t) c h w -> b c t h w", t=4)

    def encoder(self) -> EncoderStream:
        return EncoderStream(self)

    def decoder(self) -> DecoderStream:
        return DecoderStream(self)

    def encode(self, video: Tensor) -> Tensor:
        """Video (B, 3, 1+4n, H, W) in [-1, 1] -> latents (B, C, 1+n, 1, 1)."""
        frames = video.shape[2]
        if frames % 4 != 1:
            raise ValueError(f"a video needs 1+4n frames, got {frames}")
        first, later = self.encoder().push(video[:, :, :1]), video[:, :, 1:]
        chunks = rearrange(later, "b c (n t) h w -> (b n) c t h w", t=4)
        if len(chunks) == 0:
            return first
        return torch.cat([first, rearrange(self.encode_chunk(chunks), "(b n) c h w -> b c n h w", b=len(video))], 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, 1+n, 1, 1) -> video (B, 3, 1+4n, H, W) in [-1, 1]."""
        return self.decoder().push(latents)


class EncoderStream:
    """Encodes a video as it arrives. Its only memory is whether the first frame has been seen."""

    nbytes = 0

    def __init__(self, codec: NanoCodec, started: bool = False) -> None:
        self._codec = codec
        self._started = started

    def push(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 1, H, W) at first, then (B, 3, 4, H, W), in [-1, 1] -> latents (B, C, 1, 1, 1)."""
        if frames.shape[2] != (4 if self._started else 1):
            wanted = "four frames" if self._started else "one frame first"
            raise ValueError(f"the encoder stream takes {wanted}, got {frames.shape[2]}")
        if self._started:
            return self._codec.encode_chunk(frames)[:, :, None]
        self._started = True
        return self._codec.encode_image(frames[:, :, 0])[:, :, None]

    def clone(self, device: torch.device | None = None) -> EncoderStream:
        return EncoderStream(self._codec, self._started)


class DecoderStream:
    """Decodes latents as they come. Its only memory is whether the first latent has been seen."""

    nbytes = 0

    def __init__(self, codec: NanoCodec, started: bool = False, draw: Drawer | None = None) -> None:
        self._codec = codec
        self._started = started
        self._draw = draw or codec.drawer or codec.field

    def push(self, latents: Tensor) -> Tensor:
        """Latents (B, C, n, 1, 1) -> frames (B, 3, 4n, H, W) in [-1, 1]; the very first latent gives one frame."""
        flat = rearrange(latents, "b c n h w -> (b n) c h w")
        drawn = self._codec.decode_chunk(flat, self._draw)
        frames = rearrange(drawn, "(b n) c t h w -> b c (n t) h w", b=len(latents))
        first, self._started = not self._started, True
        return (frames[:, :, 3:] if first else frames).clamp(-1, 1)

    def clone(self, device: torch.device | None = None) -> DecoderStream:
        return DecoderStream(self._codec, self._started, self._draw)
