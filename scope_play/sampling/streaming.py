"""Denoising without an end: a chunk of latents at a time against what came before.

`CachedStream` keeps keys and values: each pass computes the chunk alone, and one more pass over the clean chunk at
t=0 (the commit) writes it into the caches. Causal weights were trained for exactly this. For bidirectional weights
it is the training-free mode `cached`; the other, `window`, is `WindowStream`: the clean context runs again with every
pass, so that context and chunk see each other as in training, at a cost that grows with the window.

A bidirectional network was trained to see the start image inside the clip it denoises, so both modes put it into the
first chunk; a causal one commits it alone.
"""

from __future__ import annotations

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
        """Latents in the longest pass: a bidirectional network denoises the first chunk with the start image in it."""
        return self.chunk if causal else self.chunk + 1


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

    def turn_sinks(self, cache: StreamCache) -> None: ...

    def plan_chunk(self, latents: Tensor, cache: StreamCache, windows: ActionWindows) -> Any: ...

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


def make_stream(network: StreamingNetwork, config: StreamConfig, first: Tensor) -> Stream:
    """A stream that begins with the clean start-image latents `first`, (B, C, 1, h, w)."""
    if config.mode == "cached":
        return CachedStream(network, config, first)
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
class CachedState:
    cache: CacheSnapshot
    opening: Tensor | None
    text: list[TextKV] | None

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes


class CachedStream:
    """Streams against key and value caches."""

    def __init__(self, network: StreamingNetwork, config: StreamConfig, first: Tensor) -> None:
        batch, _, _, height, width = first.shape
        self.network = network
        self.config = config
        self.sigmas = make_sigmas(config.steps, config.shift)
        self.timesteps = make_timesteps(self.sigmas[:-1], first.dtype)
        self.guided = _Branches(config, batch, first.device)
        self.opening: Tensor | None = first
        self.in_flight: tuple[Tensor, Any] | None = None
        self.times: dict[tuple[float, ...], Any] = {}
        self.cache = StreamCache(
            network.config,
            config.memory(network.config.causal),
            batch=batch * self.guided.count,
            tokens=network.tokens_per_frame(height, width),
            device=first.device,
            dtype=first.dtype,
        )

    def set_text(self, text: list[TextKV] | None, negative: list[TextKV] | None) -> None:
        self.guided.set_text(text, negative)

    @torch.inference_mode()
    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor:
        lead = None
        if self.opening is not None and self.network.config.causal:
            self.network.turn_sinks(self.cache)
            self._write(self.opening, self._plan(self.opening, _opening(windows)))
        elif self.opening is not None:
            lead, windows = self.opening, _join(_opening(windows), windows)
        self.network.turn_sinks(self.cache)
        x = noise
        plan = self._plan(x if lead is None else torch.cat([lead, x], 2), windows)
        for step in range(len(self.timesteps)):
            velocity = self._pass(x, step, plan, lead)
            x = euler_step(x, velocity, self.sigmas[step], self.sigmas[step + 1])
        self.in_flight = (x if lead is None else torch.cat([lead, x], 2), plan)
        self.opening = None
        return x

    @torch.inference_mode()
    def commit(self) -> None:
        if self.in_flight is None:
            raise ScopeError("there is no chunk in flight to commit; denoise one first")
        self._write(*self.in_flight)
        self.in_flight = None

    def snapshot(self) -> CachedState:
        if self.in_flight is not None:
            raise ScopeError("a chunk is in flight; commit it before taking a snapshot")
        return CachedState(self.cache.snapshot(), self.opening, self.guided.text)

    def restore(self, state: StreamState) -> None:
        if not isinstance(state, CachedState):
            raise ScopeError("this snapshot was taken in another streaming mode; restore it in the mode it came from")
        self.cache.restore(state.cache)
        self.opening = state.opening
        self.guided.text = state.text
        self.in_flight = None

    def _plan(self, latents: Tensor, windows: ActionWindows) -> Any:
        return self.network.plan_chunk(latents, self.cache, self.guided.windows(windows))

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

    def _guided_step(self, x: Tensor, time: Any, plan: Any) -> Tensor:
        wide = self.guided.widen(x)
        return self.guided.guide(self.network.step(wide, time, self.cache, plan, text_cache=self.guided.text))

    def _write(self, clean: Tensor, plan: Any) -> None:
        self._guided_step(clean, self._time(0.0), plan)
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
