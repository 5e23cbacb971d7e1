"""Arena: simulator and renderer together, for a batch of environments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.arena.simulate import ArenaState, Simulator
from scope_play.errors import ScopeError


def spread_seeds(batch: int, seed: int | Sequence[int]) -> list[int]:
    """One seed per environment: `seed + i`, or the sequence itself."""
    if isinstance(seed, int):
        return [seed + i for i in range(batch)]
    if len(seed) != batch:
        raise ScopeError(f"arena: {len(seed)} seeds for a batch of {batch}; give one each.")
    return [int(value) for value in seed]


class Arena:
    """A batch of courts. Environment i depends on its own seed only, never on its neighbours.

    `varied` starts with random ammunition, weapon, pitch and targets (for training); otherwise everything is fresh.
    """

    def __init__(
        self,
        batch: int,
        seed: int | Sequence[int] = 0,
        config: ArenaConfig | None = None,
        height: int = 96,
        width: int = 160,
        *,
        varied: bool = True,
        threads: int | None = None,
    ) -> None:
        self.config = config or ArenaConfig()
        self.varied = varied
        self.batch = batch
        self._simulator = Simulator(spread_seeds(batch, seed), self.config, varied)
        self._renderer = Renderer(self.config, height, width, threads)

    @property
    def state(self) -> ArenaState:
        """The structured array (B,) behind everything; assign a copy to go back."""
        return self._simulator.state

    @state.setter
    def state(self, state: ArenaState) -> None:
        self._simulator.state = state.copy()

    def reset(self, seed: int | Sequence[int]) -> None:
        """Start all environments again from new seeds."""
        self._simulator = Simulator(spread_seeds(self.batch, seed), self.config, self.varied)

    def step(self, rows: np.ndarray) -> None:
        """Take every environment one frame on. `rows`: (B, 10) as in `scope_play.actions`."""
        self._simulator.step(rows)

    def render(self) -> np.ndarray:
        """The pictures now: uint8 (B, H, W, 3)."""
        return self._renderer.render(self.state)[0]

    def mask(self) -> np.ndarray:
        """Where weapon and HUD are drawn now: bool (B, H, W)."""
        return self._renderer.render(self.state)[1]

    def render_with_mask(self) -> tuple[np.ndarray, np.ndarray]:
        """Both in one pass."""
        return self._renderer.render(self.state)
