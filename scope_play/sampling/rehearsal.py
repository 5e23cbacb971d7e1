"""Every kind of pass that a game can ask for, run once before it begins: on a GPU each is recorded the first time.

What a pass looks like depends on how many latents it takes and on how many are remembered. Those numbers grow with the
first chunks, in steps that differ with and without the start image among what is remembered; and when a prompt changes
all that is remembered is written again, from nothing: chunk by chunk, or latent by latent what mode `window`
remembered. A game that comes from there in its first seconds, with chunks of several latents, may still find a pass
that is new.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from scope_play.actions import AXES, BUTTONS, WINDOW_ROWS
from scope_play.model.dit.action import ActionWindows
from scope_play.sampling.schedule import make_sigmas, make_timesteps
from scope_play.sampling.stream import CleanChunk, Past, Progress

if TYPE_CHECKING:
    from scope_play.sampling.cached_stream import CachedStream

STEPS = 2
"""The first step may differ from all others, which are alike."""


@torch.inference_mode()
def rehearse(stream: CachedStream, progress: Progress | None = None) -> None:
    """Leaves nothing behind in `stream` but an empty cache, which the caller fills again."""
    actor = copy.copy(stream)
    keys = stream.cache.layers[0].frames.keys
    batch, channels, chunk = stream.guided.batch, stream.network.config.in_channels, stream.config.chunk
    noise = keys.new_zeros(batch, channels, chunk, *stream.grid)
    rows = (batch, chunk, WINDOW_ROWS)
    windows = ActionWindows(keys.new_zeros(*rows, len(AXES)), keys.new_zeros(*rows, len(BUTTONS)))
    actor.project, actor.times = None, {}
    actor.sigmas = make_sigmas(STEPS, stream.config.shift)
    actor.timesteps = make_timesteps(actor.sigmas[:-1], keys.dtype)
    actor.opening, actor.in_flight, actor.waiting, actor.kept = noise[:, :, :1], None, None, ()
    stream.cache.clear()
    till_full = -(-stream.config.window // chunk) + 2
    done = 0

    def play() -> None:
        nonlocal done
        actor.denoise(noise, windows)
        actor.commit()
        done += 1
        if progress is not None:
            progress(min(done, 2 * till_full), 2 * till_full)

    def full() -> bool:
        return stream.cache.filled == stream.config.window

    play()
    opening = actor.past.chunks[0].latents
    early = actor.past
    while actor.past.chunks[0].latents is opening:
        early = actor.past
        play()
    while not full():
        play()
    play()
    late = actor.past
    actor.recall(early)
    actor.recall(Past(late.chunks[:1], late.position))
    while not full():
        play()
    play()
    actor.settle()
    actor.recall(late)
    if not stream.network.config.causal:
        actor.recall(Past(tuple(_latents(late.chunks)), late.position))
    stream.cache.clear()


def _latents(chunks: Sequence[CleanChunk]) -> Iterator[CleanChunk]:
    """Each a chunk of its own."""
    for chunk in chunks:
        for index in range(chunk.latents.shape[2]):
            one = slice(index, index + 1)
            yield CleanChunk(chunk.latents[:, :, one], chunk.windows.at(one))
