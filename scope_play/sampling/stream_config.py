"""How a world is streamed. Without torch, so that what describes a world need not load it."""

from __future__ import annotations

from dataclasses import dataclass

from scope_play.errors import ScopeError
from scope_play.records import require_positive, require_scales

MODES = ("cached", "window")
CACHES = ("full", "fp8")


@dataclass(frozen=True)
class StreamConfig:
    """Sizes are in latent frames.

    steps, shift: the flow-matching schedule. chunk: latents denoised together. window: latents remembered. mode:
    "cached" or "window", see `cached_stream`. guidance, action_guidance: scales, 1 is off. cache: how keys and values
    are kept, "full" or "fp8".
    """

    steps: int = 2
    shift: float = 1.0
    chunk: int = 1
    window: int = 12
    mode: str = "cached"
    guidance: float = 1.0
    action_guidance: float = 1.0
    cache: str = "full"

    def __post_init__(self) -> None:
        require_positive(self, "steps", "chunk", "window")
        require_scales(self, "shift", "guidance", "action_guidance")
        if self.shift == 0:
            raise ScopeError("shift is 0, which leaves no noise to begin from; use a positive number such as 5")
        if self.mode not in MODES:
            raise ScopeError(f"streaming mode {self.mode!r} is not known; use one of {', '.join(MODES)}")
        if self.cache not in CACHES:
            raise ScopeError(f"cache {self.cache!r} is not known; use one of {', '.join(CACHES)}")
        if self.mode == "window" and self.cache != "full":
            raise ScopeError(f"streaming mode 'window' has no cache to keep as {self.cache!r}; use mode 'cached'")

    @property
    def branches(self) -> int:
        """Passes that guidance makes of one, side by side."""
        return 1 + (self.guidance != 1) + (self.action_guidance != 1)

    def room(self, causal: bool) -> int:
        """Latents of the longest chunk: a bidirectional network denoises the first one with the start image in it."""
        return self.chunk if causal else self.chunk + 1
