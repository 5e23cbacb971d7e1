"""Denoising without an end: a chunk of latents at a time against what came before.

`CachedStream` keeps keys and values: each pass computes the chunk alone, and the clean chunk is run once more at t=0
(the commit), which writes it into the caches: in a pass of its own, or jointly with the next chunk in that one's first
pass, whichever serves (`commits_jointly`). Causal weights were trained for exactly this. For bidirectional weights
it is the training-free mode `cached`; the other, `window`, is `WindowStream`: the clean context runs again with every
pass, so that context and chunk see each other as in training, at a cost that grows with the window.

A bidirectional network was trained to see the start image inside the clip it denoises, so both modes put it into the
first chunk; a causal one commits it alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scope_play.actions import AXES, BUTTONS, WINDOW_ROWS
from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV
from scope_play.runtime.berths import Berth, Berths
from scope_play.runtime.cuda_graph import shapes
from scope_play.runtime.kv_cache import CacheSnapshot, StreamCache
from scope_play.sampling.guidance import Branches, join_windows, opening_windows
from scope_play.sampling.rehearsal import rehearse
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps
from scope_play.sampling.stream import (
    CleanChunk,
    Past,
    Progress,
    StreamingNetwork,
    StreamState,
    cache_config,
    commits_jointly,
)
from scope_play.sampling.stream_config import StreamConfig

UNLIKE_STEPS = 2
"""The first step of a chunk may differ from all others, which are alike."""


@dataclass(frozen=True)
class CachedState:
    cache: CacheSnapshot
    opening: Tensor | None
    waiting: CleanChunk | None
    kept: tuple[CleanChunk, ...]
    text: list[TextKV] | None

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes + (0 if self.waiting is None else self.waiting.latents.nbytes)


class CachedStream:
    """Streams against key and value caches.

    `joint` says whether chunks are committed with the next one; None leaves it to `commits_jointly`.
    """

    def __init__(
        self,
        network: StreamingNetwork,
        config: StreamConfig,
        first: Tensor,
        *,
        joint: bool | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
        berths: Berths | None = None,
    ) -> None:
        """Begins with the clean start-image latents `first`, (B, C, 1, h, w); `project` has the last word on every
        denoised chunk. `berths`: where the network's recordings and the cache come from, and go back to with `close`.
        """
        batch, _, _, height, width = first.shape
        self.network = network
        self.config = config
        self.project = project
        self.sigmas = make_sigmas(config.steps, config.shift)
        self.timesteps = make_timesteps(self.sigmas[:-1], first.dtype)
        self.guided = Branches(config, batch, first.device)
        self.opening: Tensor | None = first
        self.in_flight: CleanChunk | None = None
        self.waiting: CleanChunk | None = None
        """Committed, and to be written into the caches with the next chunk."""
        self.kept: tuple[CleanChunk, ...] = ()
        """The chunks in the caches: what they leave there depends on the prompt and on how it guides."""
        self.times: dict[tuple[float, ...], Any] = {}
        self.grid = height, width
        causal, tokens = network.config.causal, network.tokens_per_frame(height, width)
        if joint is None:
            joint = network.joint and commits_jointly(config, causal, tokens)
        sizes = replace(cache_config(config, causal), joint=joint)
        wide, device, dtype = batch * self.guided.count, first.device, first.dtype
        self._berths = berths
        self._berth: Berth | None = None
        if berths is None:
            self.cache = StreamCache(network.config, sizes, batch=wide, tokens=tokens, device=device, dtype=dtype)
        else:
            self._berth = berths.take(sizes, batch=wide, tokens=tokens, device=device, dtype=dtype)
            self.network, self.cache = self._berth.network, self._berth.cache

    def close(self) -> None:
        """Give the berth back; the stream cannot be used any more."""
        if self._berths is not None and self._berth is not None:
            self._berths.give_back(self._berth)
            self._berth = None

    @torch.inference_mode()
    def set_text(
        self, text: list[TextKV] | None, negative: list[TextKV] | None, progress: Progress | None = None
    ) -> None:
        """From now on, and as if it had been so all along: what is remembered runs again under the new prompt.

        If that raises, the prompt before is in force, and what is remembered runs again under it. `progress`: of
        recording the passes under a prompt of its length, where they are recorded and none was there before.
        """
        self.settle()
        before = self.guided.text
        self.guided.set_text(text, negative)
        start = self.cache.position - sum(chunk.latents.shape[2] for chunk in self.kept)
        try:
            self._rehearse(progress)
            self._write_again(start)
        except BaseException:
            self.guided.text = before
            self._write_again(start)
            raise

    def _rehearse(self, progress: Progress | None = None) -> None:
        """Record what a game can ask for under a prompt of this length, once a berth. Empties the cache then."""
        prompt = shapes(self.guided.text)
        if self._berth is None or prompt in self._berth.rehearsed:
            return
        position = self.cache.position
        config, causal = self.config, self.network.config.causal
        noise = self.cache.layers[0].frames.keys.new_zeros(
            self.guided.batch, self.network.config.in_channels, config.chunk, *self.grid
        )
        rows = (len(noise), config.chunk, WINDOW_ROWS)
        windows = ActionWindows(noise.new_zeros(*rows, len(AXES)), noise.new_zeros(*rows, len(BUTTONS)))
        actor = copy.copy(self)
        actor.project, actor.times = None, {}
        actor.sigmas = make_sigmas(UNLIKE_STEPS, config.shift)
        actor.timesteps = make_timesteps(actor.sigmas[:-1], noise.dtype)
        actor.opening, actor.in_flight, actor.waiting, actor.kept = noise[:, :, :1], None, None, ()
        self.cache.clear()

        def full() -> bool:
            return self.cache.filled == config.window

        try:
            rehearse(
                actor, noise, windows, window=config.window, full=full, latent_by_latent=not causal, progress=progress
            )
        finally:
            self.cache.clear(position)
        self._berth.rehearsed.add(prompt)

    def _write_again(self, start: int) -> None:
        """Fill the caches with what is remembered; its first latent stands at `start`."""
        if self.kept:
            self.cache.clear(start)
            for chunk in self.kept:
                self._write(chunk)

    def _note(self, chunk: CleanChunk) -> None:
        """`chunk` is in the caches: remember it until the window has passed it."""
        self.kept = self._in_window((*self.kept, replace(chunk, plan=None)))

    def _in_window(self, chunks: tuple[CleanChunk, ...]) -> tuple[CleanChunk, ...]:
        left = sum(one.latents.shape[2] for one in chunks) - self.config.window
        while chunks and chunks[0].latents.shape[2] <= left:
            left -= chunks[0].latents.shape[2]
            chunks = chunks[1:]
        return chunks

    @property
    def past(self) -> Past:
        waiting = () if self.waiting is None else (replace(self.waiting, plan=None),)
        ahead = sum(chunk.latents.shape[2] for chunk in waiting)
        return Past(self._in_window((*self.kept, *waiting)), self.cache.position + ahead)

    @torch.inference_mode()
    def recall(self, past: Past) -> None:
        if not past.chunks:
            return
        self.kept = self._in_window(past.chunks)
        self._write_again(past.position - sum(chunk.latents.shape[2] for chunk in self.kept))
        self.opening = None

    @torch.inference_mode()
    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        """See `Stream`. If it raises, nothing of it stays: not the start image either, which goes with its windows."""
        try:
            return self._denoise(noise, windows)
        except BaseException:
            if self.opening is not None:
                self.cache.clear()
                self.waiting, self.kept = None, ()
            raise

    def _denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        lead = None
        if self.opening is not None and self.network.config.causal:
            self._remember(CleanChunk(self.opening, opening_windows(windows)))
        elif self.opening is not None:
            lead, windows = self.opening, join_windows(opening_windows(windows), windows)
        x, plan = noise, None
        for step in range(len(self.timesteps)):
            if self.waiting is not None:
                velocity = self._joint_pass(x, step, windows, self.waiting)
            else:
                if plan is None:
                    plan = self._plan(x if lead is None else torch.cat([lead, x], 2), windows)
                velocity = self._pass(x, step, plan, lead)
            x = euler_step(x, velocity, self.sigmas[step], self.sigmas[step + 1])
        x = x if self.project is None else self.project(x)
        self.in_flight = CleanChunk(x if lead is None else torch.cat([lead, x], 2), windows, plan)
        self.opening = None
        return x

    @torch.inference_mode()
    def commit(self) -> None:
        if self.in_flight is None:
            raise ScopeError("there is no chunk in flight to commit; denoise one first")
        try:
            self._remember(self.in_flight)
        except BaseException:
            self.waiting = None  # it is in flight still
            raise
        self.in_flight = None

    @property
    def can_set_aside(self) -> bool:
        return not self.cache.config.joint  # there its first pass has committed the one before

    def set_aside(self) -> CleanChunk | None:
        aside, self.in_flight = self.in_flight, None
        return aside

    def take_up(self, aside: CleanChunk | None) -> None:
        self.in_flight = aside

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes

    def snapshot(self, *, on_host: bool = False) -> CachedState:
        if self.in_flight is not None:
            raise ScopeError("a chunk is in flight; commit it before taking a snapshot")
        return CachedState(
            self.cache.snapshot(on_host=on_host), self.opening, self.waiting, self.kept, self.guided.text
        )

    def restore(self, state: StreamState) -> None:
        if not isinstance(state, CachedState):
            raise ScopeError("this snapshot was taken in another streaming mode; restore it in the mode it came from")
        self.guided.text = state.text
        self._rehearse()
        self.cache.restore(state.cache)
        self.opening, self.waiting, self.kept = state.opening, state.waiting, state.kept
        self.in_flight = None

    def _plan(self, latents: Tensor, windows: ActionWindows, clean: int = 0) -> Any:
        return self.network.plan_chunk(latents, self.cache, self.guided.windows(windows), clean)

    def _time(self, *timesteps: float) -> Any:
        """The few timesteps of a schedule are embedded once in a stream's life."""
        if timesteps not in self.times:
            batch = self.cache.layers[0].frames.keys
            values = torch.tensor([timesteps], device=batch.device, dtype=batch.dtype).expand(len(batch), -1)
            self.times[timesteps] = self.network.embed_time(values, len(timesteps))
        return self.times[timesteps]

    def _pass(self, x: Tensor, step: int, plan: Any, lead: Tensor | None) -> Tensor:
        timestep = float(self.timesteps[step])
        if lead is None:
            return self._guided_step(x, self._time(timestep), plan)
        time = self._time(0.0, *[timestep] * x.shape[2])
        return self._guided_step(torch.cat([lead, x], 2), time, plan)[:, :, 1:]

    def _joint_pass(self, x: Tensor, step: int, windows: ActionWindows, waiting: CleanChunk) -> Tensor:
        """One pass that also writes the chunk before into the caches."""
        clean = waiting.latents.shape[2]
        both = torch.cat([x, waiting.latents], 2)
        plan = self._plan(both, join_windows(windows, waiting.windows), clean)
        time = self._time(*[float(self.timesteps[step])] * x.shape[2], *[0.0] * clean)
        velocity = self._guided_step(both, time, plan)
        self.cache.commit()
        self.waiting = None
        self._note(waiting)
        return velocity

    def _guided_step(self, x: Tensor, time: Any, plan: Any) -> Tensor:
        wide = self.guided.widen(x)
        return self.guided.guide(self.network.step(wide, time, self.cache, plan, text_cache=self.guided.text))

    def _remember(self, chunk: CleanChunk) -> None:
        self.waiting = chunk
        if not self.cache.config.joint:
            self.settle()

    def settle(self) -> None:
        """Commit what waits for the next chunk, in a pass of its own."""
        if self.waiting is None:
            return
        chunk = self.waiting
        self._write(chunk)
        self.waiting = None
        self._note(chunk)

    def _write(self, chunk: CleanChunk) -> None:
        plan = self._plan(chunk.latents, chunk.windows) if chunk.plan is None else chunk.plan
        self._guided_step(chunk.latents, self._time(0.0), plan)
        self.cache.commit()
