"""Shapes of the diffusion transformer, as frozen dataclasses: SCOPE's, nano's, and whatever a file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scope_play.errors import ScopeError
from scope_play.records import require_positive


@dataclass(frozen=True)
class ActionConfig:
    """What an ActionModule reads: `axes` stick values and `buttons` button values in each video frame.

    A latent frame stands for `frames_per_latent` video frames and sees the `windows * frames_per_latent` action
    rows before it (SPEC.md section 2). With `modulates` the rows also shift, scale and gate every block, as the
    timestep does: a turn is a product of the stick and the picture, which a small network adds up slowly without.
    Rows before the first repeat it, as SCOPE was trained, or, with `from_rest`, are 0: then a button held from the
    first row on is seen to be pressed in it.
    """

    axes: int = 4
    buttons: int = 6
    frames_per_latent: int = 4
    windows: int = 4
    modulates: bool = False
    from_rest: bool = False

    def __post_init__(self) -> None:
        require_positive(self, "axes", "buttons", "frames_per_latent", "windows")

    @property
    def window_rows(self) -> int:
        return self.frames_per_latent * self.windows


@dataclass(frozen=True)
class DiTConfig:
    """Everything that fixes the transformer's tensors. The defaults are SCOPE's (SPEC.md section 3).

    `text_dim=None` leaves out the text cross-attention, `action=None` the ActionModules. `causal` says how the
    weights were trained: block-causal over latent frames (they stream natively) or bidirectional. `prediction` is
    what the head's output stands for: the velocity itself, or the clean latent from which the velocity follows. A
    token of nano carries as many noise numbers as its width, and would spend it on copying them into a velocity.
    `from_previous` joins each latent with the clean latent before it and makes the clean prediction a change from that
    one, so that a world in which nothing happens is an output of zero. `noise_scale` is the spread of the noise that
    latents are denoised from, beside theirs of 1: a network of one step gets little from it but a disturbance.
    """

    dim: int = 3072
    layers: int = 30
    heads: int = 24
    ffn_dim: int = 14336
    in_channels: int = 48
    out_channels: int = 48
    patch: tuple[int, int, int] = (1, 2, 2)
    text_dim: int | None = 4096
    freq_dim: int = 256
    eps: float = 1e-6
    action: ActionConfig | None = ActionConfig()
    causal: bool = False
    prediction: str = "velocity"
    from_previous: bool = False
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "dim", "layers", "heads", "ffn_dim", "in_channels", "out_channels", "freq_dim")
        if min(self.patch) < 1 or self.eps <= 0 or (self.text_dim is not None and self.text_dim < 1):
            raise ScopeError(
                f"patch {self.patch}, eps {self.eps} and text_dim {self.text_dim} must be above 0; change them"
            )
        if self.prediction not in ("velocity", "clean"):
            raise ScopeError(f"prediction {self.prediction!r} is unknown; use 'velocity' or 'clean'")
        if self.from_previous and not (self.causal and self.prediction == "clean"):
            raise ScopeError("from_previous needs causal=true and prediction='clean'; change them or leave it out")
        if not 0 <= self.noise_scale <= 1:
            raise ScopeError(f"noise_scale is {self.noise_scale}, but must be in [0, 1]; change it")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ScopeError(f"dim {self.dim} does not split into {self.heads} heads of even size; change dim or heads")
        if self.patch[0] != 1:
            raise ScopeError(f"patch {self.patch} spans several latent frames; its first number must be 1")
        if self.action is not None and self.dim % self.action.window_rows:
            raise ScopeError(
                f"dim {self.dim} is not a multiple of the {self.action.window_rows} rows of an action window"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @classmethod
    def from_reference(cls, values: Mapping[str, Any]) -> DiTConfig:
        """From the reference's own constructor arguments, as stored beside its golden vectors."""
        action = values["action_config"] if values.get("enable_action") else None
        return cls(
            dim=values["dim"],
            layers=values["num_layers"],
            heads=values["num_heads"],
            ffn_dim=values["ffn_dim"],
            in_channels=values["in_dim"],
            out_channels=values["out_dim"],
            patch=tuple(values["patch_size"]),
            text_dim=values["text_dim"],
            freq_dim=values["freq_dim"],
            eps=values["eps"],
            action=None
            if action is None
            else ActionConfig(
                axes=action["mouse_dim_in"],
                buttons=action["keyboard_dim_in"],
                frames_per_latent=action["vae_time_compression_ratio"],
                windows=action["windows_size"],
            ),
        )


SCOPE_5B = DiTConfig()
NANO = DiTConfig(
    dim=256,
    layers=4,
    heads=4,
    ffn_dim=1024,
    in_channels=212,
    out_channels=212,
    patch=(1, 1, 1),
    text_dim=None,
    causal=True,
    prediction="clean",
    from_previous=True,
    noise_scale=0.1,
    action=ActionConfig(modulates=True, from_rest=True),
)
"""One token a latent: nano's codec makes one vector of four frames."""
