"""Shape and normalisation constants of the Wan2.2 video autoencoder. Source: SPEC.md section 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scope_play.errors import ScopeError

# fmt: off
LATENT_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
LATENT_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on


@dataclass(frozen=True)
class VAEConfig:
    """Wan2.2's autoencoder; the defaults are the released size (705 million parameters)."""

    dim: int = 160
    """Width of the encoder's first stage; later stages are `dim * dim_mult`."""
    dec_dim: int = 256
    """Width of the decoder's last stage; earlier stages are `dec_dim * dim_mult`, reversed."""
    z_dim: int = 48
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    """Residual blocks per encoder stage; the decoder has one more."""
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    """For each encoder stage but the last, whether it halves time as well as space."""
    latent_mean: tuple[float, ...] = LATENT_MEAN
    latent_std: tuple[float, ...] = LATENT_STD

    def __post_init__(self) -> None:
        if len(self.temporal_downsample) != len(self.dim_mult) - 1:
            raise ScopeError(
                f"VAE config: temporal_downsample has {len(self.temporal_downsample)} entries for "
                f"{len(self.dim_mult)} stages in dim_mult; give one fewer than there are stages."
            )
        if not len(self.latent_mean) == len(self.latent_std) == self.z_dim:
            raise ScopeError(
                f"VAE config: latent_mean has {len(self.latent_mean)} and latent_std {len(self.latent_std)} values "
                f"for z_dim {self.z_dim}; give one value per latent channel."
            )

    @property
    def latent_channels(self) -> int:
        return self.z_dim

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell along each axis: 2 from patchifying, 2 from each stage but the last."""
        return 2 ** len(self.dim_mult)

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latents of height x width frames."""
        return height // self.spatial_stride, width // self.spatial_stride

    @property
    def temporal_stride(self) -> int:
        """Video frames per latent frame, after the first."""
        return 2 ** sum(self.temporal_downsample)

    @classmethod
    def from_reference(cls, values: Mapping[str, Any]) -> VAEConfig:
        """From the reference's own constructor arguments, as stored beside its golden vectors."""
        return cls(
            dim=values["dim"],
            dec_dim=values["dec_dim"],
            z_dim=values["z_dim"],
            dim_mult=tuple(values["dim_mult"]),
            num_res_blocks=values["num_res_blocks"],
            temporal_downsample=tuple(values["temperal_downsample"]),
        )


WAN22_VAE = VAEConfig()
