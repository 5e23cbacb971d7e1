"""Denoising without an end: a chunk of latents at a time against what came before.

`CachedStream` keeps keys and values: each pass computes the chunk alone, and the clean chunk is run once more at t=0
(the commit), which writes it into the caches: in a pass of its own, or beside the next chunk in that one's first pass,
whichever serves (`commits_beside`). Causal weights were trained for exactly this. For bidirectional weights
it is the training-free mode `cached`; the other, `window`, is `WindowStream`: the clean context runs again with every
pass, so that context and chunk see each other as in training, at a cost that grows with the window.

A bidirectional network was trained to see the start image inside the clip it denoises, so both modes put it into the
first chunk; a causal one commits it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.action import ActionWindows
from scope_play.model.cache import CacheConfig, CacheSnapshot, StreamCache
from scope_play.model.config import DiTConfig
from scope_play.model.dit import DiT, TextKV, join_prompts
from scope_play.model.layout import bidirectional
from scope_play.sampling.guidance import guidance_branches, guide, keep_mask
from scope_play.sampling.schedule import euler_step, make_sigmas, make_timesteps

MODES = ("cached", "window")
FEW_TOKENS = 32
"""In a chunk: twice as many cost a pass little more, since it waits for weights and launches rather than products."""


@dataclass(frozen=True)
class StreamConfig:
    """How a world is streamed. Sizes are in latent frames.

    steps, shift: the flow-matching schedule. chunk: latents denoised together. window: latents remembered. sink:
    first latents never forgotten. mode: see the module. guidance, action_guidance: scales, 1 is off. cache: how keys
    and values are kept, see CacheConfig.numbers.
    """

    steps: int = 2
    shift: float = 1.0
    chunk: int = 1
    window: int = 12
    sink: int = 0
    mode: str = "cached"
    guidance: float = 1.0
    action_guidance: float = 1.0
    cache: str = "full"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ScopeError(f"streaming mode {self.mode!r} is not known; use one of {', '.join(MODES)}")
        if self.mode == "window" and self.sink:
            raise ScopeError("streaming mode 'window' keeps no attention sink; set sink to 0")
        if self.steps < 1:
            raise ScopeError(f"steps is {self.steps}, but must be at least 1")
        if self.mode == "window" and self.cache != "full":
            raise ScopeError(f"streaming mode 'window' has no cache to keep as {self.cache!r}; use mode 'cached'")
        CacheConfig(self.window, self.chunk, self.sink, self.cache)

    def memory(self, causal: bool) -> CacheConfig:
        """The cache of such a stream."""
        return CacheConfig(self.window, self.room(causal), self.sink, self.cache)

    def room(self, causal: bool) -> int:
        """Latents of the longest chunk: a bidirectional network denoises the first one with the start image in it."""
        return self.chunk if causal else self.chunk + 1


def commits_beside(config: StreamConfig, causal: bool, tokens: int) -> bool:
    """Whether a chunk is committed in the first pass of the next one, rather than in a pass of its own.

    That saves a pass a chunk. But the next chunk's first pass takes as many tokens again, between the actions and the
    picture, while a commit of its own runs when the frames are out already. `scope-play bench stream` prints both.
    """
    room = config.room(causal)
    return room * tokens <= FEW_TOKENS and room <= config.window and config.cache == "full"


def latent_noise(seed: int, index: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 noise of latent `index`: a function of (seed, index) alone, on any machine and device."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, index], dtype=np.uint64)))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


class StreamingNetwork(Protocol):
    """What a CachedStream asks of a network: DiT, and the forms of it that are made for streaming.

    What `plan_chunk` and `embed_time` return is each form's own, for its `step` alone.
    """

    @property
    def config(self) -> DiTConfig: ...

    def tokens_per_frame(self, height: int, width: int) -> int: ...

    def plan_chunk(self, latents: Tensor, cache: StreamCache, windows: ActionWindows, clean: int = 0) -> Any: ...

    def embed_time(self, timesteps: Tensor, frames: int) -> Any: ...

    def step(
        self, latents: Tensor, time: Any, cache: StreamCache, plan: Any, *, text_cache: list[TextKV] | None = None
    ) -> Tensor: ...


class StreamState(Protocol):
    """A copy of a stream's memory."""

    @property
    def nbytes(self) -> int: ...


class Stream(Protocol):
    """One running world, or B of them in step, in latents."""

    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        """noise (B, C, n, h, w) and the windows of its n latents -> clean latents of that shape."""

    def commit(self) -> None:
        """Remember the latents last denoised."""

    def set_text(self, text: list[TextKV] | None, negative: list[TextKV] | None) -> None: ...

    def snapshot(self) -> StreamState: ...

    def restore(self, state: StreamState) -> None: ...


def make_stream(
    network: StreamingNetwork, config: StreamConfig, first: Tensor, settle: Callable[[Tensor], Tensor] | None = None
) -> Stream:
    """A stream that begins with the clean start-image latents `first`, (B, C, 1, h, w).

    In mode `cached`, `settle` has the last word on every denoised chunk.
    """
    if config.mode == "cached":
        return CachedStream(network, config, first, settle=settle)
    if not isinstance(network, DiT):
        raise ScopeError("streaming mode 'window' runs the DiT itself; give that rather than a form made for caches")
    return WindowStream(network, config, first)


class _Branches:
    """The passes that guidance asks for, laid out along the batch axis."""

    def __init__(self, config: StreamConfig, batch: int, device: torch.device) -> None:
        self.scales = config.guidance, config.action_guidance
        self.branches = guidance_branches(*self.scales)
        self.count = len(self.branches)
        self.keep = keep_mask(self.branches, batch, device)
        self.text: list[TextKV] | None = None

    def set_text(self, text: list[TextKV] | None, negative: list[TextKV] | None) -> None:
        if text is None:
            self.text = None
            return
        if negative is None and not all(branch.prompt for branch in self.branches):
            raise ScopeError("text guidance needs a negative prompt; give one or set guidance to 1")
        per_branch = [text if branch.prompt or negative is None else negative for branch in self.branches]
        self.text = join_prompts(per_branch)

    def widen(self, x: Tensor) -> Tensor:
        """Repeat a batch for every branch."""
        return x if self.count == 1 else x.repeat(self.count, *([1] * (x.dim() - 1)))

    def guide(self, velocities: Tensor) -> Tensor:
        return guide(velocities, *self.scales)

    def windows(self, windows: ActionWindows) -> ActionWindows:
        sticks = None if windows.sticks is None else self.widen(windows.sticks)
        buttons = None if windows.buttons is None else self.widen(windows.buttons)
        return ActionWindows(sticks, buttons, self.keep)


def _join(first: ActionWindows, second: ActionWindows) -> ActionWindows:
    """Windows of some latents followed by windows of others."""

    def cat(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.cat([a, b], 1)

    return ActionWindows(cat(first.sticks, second.sticks), cat(first.buttons, second.buttons), second.keep)


def _opening(windows: ActionWindows) -> ActionWindows:
    """Windows of the start image: it sees row 0 alone, which is the oldest row the first chunk sees."""

    def fill(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[:, :1, :1].expand(-1, -1, x.shape[2], -1)

    return ActionWindows(fill(windows.sticks), fill(windows.buttons), windows.keep)


@dataclass(frozen=True)
class CleanChunk:
    """A denoised chunk (B, C, n, h, w) and its windows; the plan of its passes, if the cache's tail is still theirs."""

    latents: Tensor
    windows: ActionWindows
    plan: Any = None


@dataclass(frozen=True)
class CachedState:
    cache: CacheSnapshot
    opening: Tensor | None
    waiting: CleanChunk | None
    text: list[TextKV] | None

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes + (0 if self.waiting is None else self.waiting.latents.nbytes)


class CachedStream:
    """Streams against key and value caches.

    `beside` says whether chunks are committed beside the next one; None leaves it to `commits_beside`.
    """

    def __init__(
        self,
        network: StreamingNetwork,
        config: StreamConfig,
        first: Tensor,
        *,
        beside: bool | None = None,
        settle: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        batch, _, _, height, width = first.shape
        self.network = network
        self.config = config
        self.settle = settle
        self.sigmas = make_sigmas(config.steps, config.shift)
        self.timesteps = make_timesteps(self.sigmas[:-1], first.dtype)
        self.guided = _Branches(config, batch, first.device)
        self.opening: Tensor | None = first
        self.in_flight: CleanChunk | None = None
        self.waiting: CleanChunk | None = None
        """Committed, and to be written into the caches beside the next chunk."""
        self.times: dict[tuple[float, ...], Any] = {}
        causal, tokens = network.config.causal, network.tokens_per_frame(height, width)
        self.cache = StreamCache(
            network.config,
            replace(config.memory(causal), joined=commits_beside(config, causal, tokens) if beside is None else beside),
            batch=batch * self.guided.count,
            tokens=tokens,
            device=first.device,
            dtype=first.dtype,
        )

    @torch.inference_mode()
    def set_text(self, text: list[TextKV] | None, negative: list[TextKV] | None) -> None:
        self._write_waiting()  # what was made under a prompt is remembered under it
        self.guided.set_text(text, negative)

    @torch.inference_mode()
    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        lead = None
        if self.opening is not None and self.network.config.causal:
            self._remember(CleanChunk(self.opening, _opening(windows)))
        elif self.opening is not None:
            lead, windows = self.opening, _join(_opening(windows), windows)
        x, plan = noise, None
        for step in range(len(self.timesteps)):
            if self.waiting is not None:
                velocity = self._pass_beside(x, step, windows, self.waiting)
            else:
                if plan is None:
                    plan = self._plan(x if lead is None else torch.cat([lead, x], 2), windows)
                velocity = self._pass(x, step, plan, lead)
            x = euler_step(x, velocity, self.sigmas[step], self.sigmas[step + 1])
        x = x if self.settle is None else self.settle(x)
        self.in_flight = CleanChunk(x if lead is None else torch.cat([lead, x], 2), windows, plan)
        self.opening = None
        return x

    @torch.inference_mode()
    def commit(self) -> None:
        if self.in_flight is None:
            raise ScopeError("there is no chunk in flight to commit; denoise one first")
        self._remember(self.in_flight)
        self.in_flight = None

    def snapshot(self) -> CachedState:
        if self.in_flight is not None:
            raise ScopeError("a chunk is in flight; commit it before taking a snapshot")
        return CachedState(self.cache.snapshot(), self.opening, self.waiting, self.guided.text)

    def restore(self, state: StreamState) -> None:
        if not isinstance(state, CachedState):
            raise ScopeError("this snapshot was taken in another streaming mode; restore it in the mode it came from")
        self.cache.restore(state.cache)
        self.opening, self.waiting = state.opening, state.waiting
        self.guided.text = state.text
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

    def _pass_beside(self, x: Tensor, step: int, windows: ActionWindows, waiting: CleanChunk) -> Tensor:
        """One pass that also writes the chunk before into the caches."""
        clean = waiting.latents.shape[2]
        both = torch.cat([x, waiting.latents], 2)
        plan = self._plan(both, _join(windows, waiting.windows), clean)
        time = self._time(*[float(self.timesteps[step])] * x.shape[2], *[0.0] * clean)
        velocity = self._guided_step(both, time, plan)
        self.cache.commit()
        self.waiting = None
        return velocity

    def _guided_step(self, x: Tensor, time: Any, plan: Any) -> Tensor:
        wide = self.guided.widen(x)
        return self.guided.guide(self.network.step(wide, time, self.cache, plan, text_cache=self.guided.text))

    def _remember(self, chunk: CleanChunk) -> None:
        self.waiting = chunk
        if not self.cache.config.joined:
            self._write_waiting()

    def _write_waiting(self) -> None:
        """Commit what waits in a pass of its own."""
        if self.waiting is None:
            return
        chunk, self.waiting = self.waiting, None
        plan = self._plan(chunk.latents, chunk.windows) if chunk.plan is None else chunk.plan
        self._guided_step(chunk.latents, self._time(0.0), plan)
        self.cache.commit()


@dataclass(frozen=True)
class WindowState:
    context: Tensor
    windows: ActionWindows | None
    opening: bool
    text: list[TextKV] | None

    @property
    def nbytes(self) -> int:
        return self.context.nbytes


class WindowStream:
    """Streams by running the clean context again beside the chunk; positions always start at 0."""

    def __init__(self, network: DiT, config: StreamConfig, first: Tensor) -> None:
        if network.config.causal:
            raise ScopeError("streaming mode 'window' is for bidirectional weights; use 'cached' with this model")
        self.network = network
        self.config = config
        self.sigmas = make_sigmas(config.steps, config.shift)
        self.timesteps = make_timesteps(self.sigmas[:-1], first.dtype)
        self.guided = _Branches(config, len(first), first.device)
        self.context = first
        self.windows: ActionWindows | None = None
        self.in_flight: tuple[Tensor, ActionWindows] | None = None

    def set_text(self, text: list[TextKV] | None, negative: list[TextKV] | None) -> None:
        self.guided.set_text(text, negative)

    @torch.inference_mode()
    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        earlier = _opening(windows) if self.windows is None else self.windows
        joined = _join(earlier, windows)
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
        self.in_flight = (x, joined)
        return x

    def commit(self) -> None:
        if self.in_flight is None:
            raise ScopeError("there is no chunk in flight to commit; denoise one first")
        x, windows = self.in_flight
        keep = slice(-self.config.window, None)
        self.context = torch.cat([self.context, x], 2)[:, :, keep]
        self.windows = ActionWindows(
            None if windows.sticks is None else windows.sticks[:, keep],
            None if windows.buttons is None else windows.buttons[:, keep],
        )
        self.in_flight = None

    def snapshot(self) -> WindowState:
        if self.in_flight is not None:
            raise ScopeError("a chunk is in flight; commit it before taking a snapshot")
        return WindowState(self.context, self.windows, self.windows is None, self.guided.text)

    def restore(self, state: StreamState) -> None:
        if not isinstance(state, WindowState):
            raise ScopeError("this snapshot was taken in another streaming mode; restore it in the mode it came from")
        self.context, self.windows, self.guided.text = state.context, state.windows, state.text
        self.in_flight = None
