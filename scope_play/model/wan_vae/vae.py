"""Wan2.2 video autoencoder: 16x smaller in space, 4x in time, 48 channels, and causal, so it streams.

`WanVAE` is the codec around `VAENetwork`: it normalises latents and hands out streams. A stream takes one chunk of
frames or latents at a time and carries its own memory; a whole clip is a loop over a stream, so a prefix of a clip
gives exactly the prefix of its result. Source: SPEC.md section 5.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.kernels.dispatch import convolve_in_pairs, select_norm_silu
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.layers import StreamMemory, patchify, unpatchify
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.tiling import Tiling, blend_tiles, cover


class EncoderStream:
    """Encodes a video chunk by chunk: first a single frame, then `temporal_stride` frames at a time."""

    def __init__(self, network: VAENetwork) -> None:
        self.network = network
        self.memory = _memory(network)
        self._mean, self._inverse_std = _normalisation(network)

    @torch.no_grad()
    def push(self, frames: Tensor) -> Tensor:
        """Encode the next chunk.

        Args:
            frames: (B, 3, T, H, W) in [-1, 1], T = 1 in the first call and 4 afterwards; H and W multiples of 16.

        Returns:
            (B, 48, 1, H/16, W/16) normalised latents.
        """
        expected = self.network.config.temporal_stride if self.memory.started else 1
        if frames.ndim != 5 or frames.shape[2] != expected:
            raise ScopeError(
                f"VAE encoder: this chunk must be (B, 3, {expected}, H, W) but is {tuple(frames.shape)}; "
                f"push one frame first and {self.network.config.temporal_stride} at a time after it."
            )
        _check_size(frames, self.network.config)
        x = patchify(frames).contiguous(memory_format=torch.channels_last_3d)
        moments = self.network.conv1(self.network.encoder(x, self.memory))
        mean = moments[:, : self.network.config.z_dim]
        return (mean - self._mean) * self._inverse_std

    def clone(self, device: torch.device | None = None) -> EncoderStream:
        """A stream that continues from here independently: a deep copy of the memory, on `device` if that is given."""
        twin = copy.copy(self)
        twin.memory = self.memory.clone(device)
        return twin

    @property
    def nbytes(self) -> int:
        """Bytes of memory this stream carries from chunk to chunk."""
        return self.memory.nbytes


class DecoderStream:
    """Decodes latents as they come: the very first latent frame gives one video frame, each later one four."""

    def __init__(self, network: VAENetwork, clamp: bool = True) -> None:
        self.network = network
        self.clamp = clamp
        self.memory = _memory(network)
        self._mean, self._inverse_std = _normalisation(network)

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        """Decode the next latent frames.

        Args:
            latents: (B, 48, n, h, w) normalised latents, n >= 1.

        Returns:
            (B, 3, T, 16h, 16w) frames, in [-1, 1] when clamping; T = 4n, or 4n - 3 in the first call.
        """
        if latents.ndim != 5 or latents.shape[1] != self.network.config.z_dim or latents.shape[2] < 1:
            raise ScopeError(
                f"VAE decoder: latents must be (B, {self.network.config.z_dim}, n, h, w) with n at least 1 "
                f"but are {tuple(latents.shape)}; check the model's latent channels."
            )
        chunks = [self._decode(latent) for latent in latents.split(1, dim=2)]
        frames = chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=2)
        return frames.clamp_(-1, 1) if self.clamp else frames

    def _decode(self, latent: Tensor) -> Tensor:
        z = (latent / self._inverse_std + self._mean).contiguous(memory_format=torch.channels_last_3d)
        return unpatchify(self.network.decoder(self.network.conv2(z), self.memory))

    def clone(self, device: torch.device | None = None) -> DecoderStream:
        """A stream that continues from here independently: a deep copy of the memory, on `device` if that is given."""
        twin = copy.copy(self)
        twin.memory = self.memory.clone(device)
        return twin

    @property
    def nbytes(self) -> int:
        """Bytes of memory this stream carries from chunk to chunk."""
        return self.memory.nbytes


class WanVAE:
    """The codec: video in [-1, 1] to the normalised latents the DiT sees, and back, whole or streamed."""

    def __init__(self, network: VAENetwork) -> None:
        self.network = network

    @property
    def config(self) -> VAEConfig:
        return self.network.config

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> WanVAE:
        """Move or cast the weights in place. Streams opened before keep their memory where it was: open new ones."""
        self.network.to(device=device, dtype=dtype)
        return self

    def drop_decoder(self) -> None:
        """Frees the decoder's weights; from now on this codec only encodes."""
        del self.network.decoder

    def encoder(self) -> EncoderStream:
        """A fresh encoding stream."""
        return EncoderStream(self.network)

    def decoder(self, clamp: bool = True) -> DecoderStream:
        """A fresh decoding stream. `clamp=False` leaves values outside [-1, 1] as they are."""
        return DecoderStream(self.network, clamp)

    def encode(self, video: Tensor, tiling: Tiling | None = None) -> Tensor:
        """Encode a whole clip.

        Args:
            video: (B, 3, T, H, W) in [-1, 1]. Frames beyond the last full 1 + 4k are not used.
            tiling: encode overlapping tiles one after another and blend them; saves memory on large frames.

        Returns:
            (B, 48, 1 + (T - 1) // 4, H/16, W/16) normalised latents.
        """
        _check_size(video, self.config)
        if tiling is None:
            return self._encode(video)
        scale = self.config.spatial_stride
        tiles = cover(video.shape[-2] // scale, video.shape[-1] // scale, tiling)
        return blend_tiles(tiles, tiling, lambda tile: self._encode(tile.crop(video, scale)), scale=1)

    def decode(self, latents: Tensor, tiling: Tiling | None = None, clamp: bool = True) -> Tensor:
        """Decode a whole clip.

        Args:
            latents: (B, 48, n, h, w) normalised latents.
            tiling: decode overlapping tiles one after another and blend them; saves memory on large frames.
            clamp: bring the result into [-1, 1].

        Returns:
            (B, 3, 4n - 3, 16h, 16w) frames.
        """
        if tiling is None:
            return self.decoder(clamp).push(latents)
        tiles = cover(latents.shape[-2], latents.shape[-1], tiling)
        video = blend_tiles(
            tiles, tiling, lambda tile: self.decoder(clamp=False).push(tile.crop(latents)), self.config.spatial_stride
        )
        return video.clamp_(-1, 1) if clamp else video

    def _encode(self, video: Tensor) -> Tensor:
        stream, stride = self.encoder(), self.config.temporal_stride
        last = 1 + (video.shape[2] - 1) // stride * stride
        chunks = [video[:, :, :1], *video[:, :, 1:last].split(stride, dim=2)] if last > 1 else [video[:, :, :1]]
        return torch.cat([stream.push(chunk) for chunk in chunks], dim=2)


def _memory(network: VAENetwork) -> StreamMemory:
    """Of a new stream, with the kernels of the device where the weights are."""
    weight = network.conv2.weight
    where = weight.device, weight.dtype
    return StreamMemory(select_norm_silu(*where), pairs=convolve_in_pairs(*where))


def _normalisation(network: VAENetwork) -> tuple[Tensor, Tensor]:
    """Per-channel mean and 1/std of the latents in the weights' dtype, shaped to broadcast over (B, C, T, H, W)."""
    weight, config = network.conv2.weight, network.config
    mean = torch.tensor(config.latent_mean).view(1, -1, 1, 1, 1)
    inverse_std = 1 / torch.tensor(config.latent_std).view(1, -1, 1, 1, 1)
    return mean.to(weight.device, weight.dtype), inverse_std.to(weight.device, weight.dtype)


def _check_size(video: Tensor, config: VAEConfig) -> None:
    height, width = video.shape[-2:]
    if height % config.spatial_stride or width % config.spatial_stride:
        raise ScopeError(
            f"VAE encoder: frames are {height}x{width}, but both sides must be multiples of {config.spatial_stride}; "
            f"resize or crop them."
        )
