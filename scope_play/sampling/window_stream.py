"""Streaming without caches: the clean context runs again beside every chunk, for bidirectional weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.dit import DiT
from scope_play.model.dit.layout import bidirectional
from scope_play.sampling.guidance import Branches, join_windows, opening_windows
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps
from scope_play.sampling.stream import CleanChunk, Past, Progress, StreamState
from scope_play.sampling.stream_config import StreamConfig


@dataclass(frozen=True)
class WindowState:
    context: Tensor
    windows: ActionWindows | None
    position: int
    text: list[TextKV] | None

    @property
    def nbytes(self) -> int:
        return self.context.nbytes


class WindowStream:
    """Streams by running the clean context again beside the chunk; positions always start at 0."""

    def __init__(
        self,
        network: DiT,
        config: StreamConfig,
        first: Tensor,
        *,
        project: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """See `CachedStream`."""
        if network.config.causal:
            raise ScopeError("streaming mode 'window' is for bidirectional weights; use 'cached' with this model")
        self.network = network
        self.config = config
        self.project = project
        self.sigmas = make_sigmas(config.steps, config.shift)
        self.timesteps = make_timesteps(self.sigmas[:-1], first.dtype)
        self.guided = Branches(config, len(first), first.device)
        self.context = first
        self.windows: ActionWindows | None = None
        self.position = first.shape[2]
        self.in_flight: tuple[Tensor, ActionWindows] | None = None

    def set_text(
        self, text: list[TextKV] | None, negative: list[TextKV] | None, progress: Progress | None = None
    ) -> None:
        self.guided.set_text(text, negative)

    @torch.inference_mode()
    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        earlier = opening_windows(windows) if self.windows is None else self.windows
        joined = join_windows(earlier, windows)
        wide = self.guided.windows(joined)
        context, x = self.context, noise
        frames = context.shape[2] + x.shape[2]
        layout = replace(bidirectional(frames), timestep_index=(torch.arange(frames) >= context.shape[2]).long())
        for step, timestep in enumerate(self.timesteps):
            whole = torch.cat([context, x], 2)
            times = torch.stack([torch.zeros(()), timestep]).to(x.device).expand(len(x) * self.guided.count, 2)
            velocity = self.network(
                self.guided.widen(whole), times, layout=layout, windows=wide, text_cache=self.guided.text
            )
            velocity = self.guided.guide(velocity)[:, :, context.shape[2] :]
            x = euler_step(x, velocity, self.sigmas[step], self.sigmas[step + 1])
        x = x if self.project is None else self.project(x)
        self.in_flight = (x, joined)
        return x

    def commit(self) -> None:
        if self.in_flight is None:
            raise ScopeError("there is no chunk in flight to commit; denoise one first")
        x, windows = self.in_flight
        self._remember(torch.cat([self.context, x], 2), windows)
        self.position += x.shape[2]
        self.in_flight = None

    def _remember(self, latents: Tensor, windows: ActionWindows) -> None:
        keep = slice(-self.config.window, None)
        self.context, self.windows = latents[:, :, keep], windows.at(keep)

    @property
    def past(self) -> Past:
        """Latent by latent: what a cache takes at once is a chunk."""
        if self.windows is None:
            return Past((), self.position)
        latents = self.context.split(1, dim=2)
        chunks = (CleanChunk(x, self.windows.at(slice(i, i + 1))) for i, x in enumerate(latents))
        return Past(tuple(chunks), self.position)

    def recall(self, past: Past) -> None:
        if past.chunks:
            first, *others = (chunk.windows for chunk in past.chunks)
            for windows in others:
                first = join_windows(first, windows)
            self._remember(torch.cat([chunk.latents for chunk in past.chunks], 2), first)
            self.position = past.position

    @property
    def can_set_aside(self) -> bool:
        return True

    def set_aside(self) -> tuple[Tensor, ActionWindows] | None:
        aside, self.in_flight = self.in_flight, None
        return aside

    def take_up(self, aside: tuple[Tensor, ActionWindows] | None) -> None:
        self.in_flight = aside

    @property
    def nbytes(self) -> int:
        return self.context.nbytes

    def snapshot(self, *, on_host: bool = False) -> WindowState:
        if self.in_flight is not None:
            raise ScopeError("a chunk is in flight; commit it before taking a snapshot")
        return WindowState(self.context, self.windows, self.position, self.guided.text)

    def restore(self, state: StreamState) -> None:
        if not isinstance(state, WindowState):
            raise ScopeError("this snapshot was taken in another streaming mode; restore it in the mode it came from")
        self.context, self.windows, self.guided.text = state.context, state.windows, state.text
        self.position = state.position
        self.in_flight = None

    def close(self) -> None:
        """See `Stream`."""
