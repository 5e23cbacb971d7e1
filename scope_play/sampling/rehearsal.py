"""Every kind of pass that a game can ask for, run once before it begins: on a GPU each is recorded the first time.

What a pass looks like depends on how many latents it takes and on how many are remembered. Those numbers grow with the
first chunks, in steps that differ with and without the start image among what is remembered; and when a prompt changes
all that is remembered is written again, from nothing: chunk by chunk, or latent by latent what mode `window`
remembered. A game that comes from there with chunks of several latents may still find a pass that is new: while the
window fills, and where its prompt changes before all that came from there is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from torch import Tensor

from scope_play.model.dit.action import ActionWindows
from scope_play.sampling.stream import CleanChunk, Past, Progress


class Understudy(Protocol):
    """A stream that stands at its beginning."""

    def denoise(self, noise: Tensor, windows: ActionWindows) -> Tensor: ...

    def commit(self) -> None: ...

    @property
    def past(self) -> Past: ...

    def recall(self, past: Past) -> None: ...


def rehearse(
    actor: Understudy,
    noise: Tensor,
    windows: ActionWindows,
    *,
    window: int,
    full: Callable[[], bool],
    latent_by_latent: bool,
    progress: Progress | None = None,
) -> None:
    """Leaves `actor` anywhere. `noise` and `windows` are of a chunk, `window` latents are remembered, and `full` says
    whether so many are. latent_by_latent: it may have to recall what another mode remembered."""
    till_full = -(-window // noise.shape[2]) + 2
    done = 0

    def play() -> None:
        nonlocal done
        actor.denoise(noise, windows)
        actor.commit()
        done += 1
        if progress is not None:
            progress(min(done, 2 * till_full), 2 * till_full)

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
    actor.recall(late)
    if latent_by_latent:
        actor.recall(Past(tuple(_latents(late.chunks)), late.position))


def _latents(chunks: Sequence[CleanChunk]) -> Iterator[CleanChunk]:
    """Each a chunk of its own."""
    for chunk in chunks:
        for index in range(chunk.latents.shape[2]):
            one = slice(index, index + 1)
            yield CleanChunk(chunk.latents[:, :, one], chunk.windows.at(one))
