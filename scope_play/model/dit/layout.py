"""Which latent frame sees which, and where each stands in time: the plan of one forward pass.

Everything here is at the granularity of latent frames; the networks widen it to tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scope_play.errors import ScopeError


@dataclass(frozen=True)
class FrameLayout:
    """The F latent frames of one forward pass.

    positions: (F,) time position of each frame for RoPE.
    action_index: (F,) which latent's action window conditions each frame.
    timestep_index: (F,) which of the K timesteps each frame carries; None when K is 1 or F.
    visible: (F, F) bool, True where the row's frame may attend to the column's; None lets all see all.
    sink, sink_shift: the first `sink` frames are attention sinks; query frame i sees them moved later in time by
        `sink_shift[i]` positions, (F,), so that their distance never exceeds what the network was trained on.
    previous: (F,) which frame of the pass is the clean latent before each; for networks that predict from it.
    """

    positions: Tensor
    action_index: Tensor
    timestep_index: Tensor | None = None
    visible: Tensor | None = None
    sink: int = 0
    sink_shift: Tensor | None = None
    previous: Tensor | None = None

    def to(self, device: torch.device) -> FrameLayout:
        return FrameLayout(
            positions=self.positions.to(device),
            action_index=self.action_index.to(device),
            timestep_index=None if self.timestep_index is None else self.timestep_index.to(device),
            visible=None if self.visible is None else self.visible.to(device),
            sink=self.sink,
            sink_shift=None if self.sink_shift is None else self.sink_shift.to(device),
            previous=None if self.previous is None else self.previous.to(device),
        )


def chunk_starts(frames: int, chunk: int) -> Tensor:
    """(frames,) first latent of the chunk each latent belongs to. Latent 0, the start image, is a chunk of its own."""
    index = torch.arange(frames)
    return torch.where(index == 0, 0, (index - 1) // chunk * chunk + 1)


def bidirectional(frames: int) -> FrameLayout:
    """All frames see all: offline generation with the released weights."""
    index = torch.arange(frames)
    return FrameLayout(positions=index, action_index=index)


def block_causal(frames: int, *, chunk: int = 1, window: int | None = None, sink: int = 0) -> FrameLayout:
    """Each chunk sees itself, the `window` latents before it, and the first `sink` latents.

    This is what streaming computes with its caches, written as one mask: the two must agree to rounding.
    """
    index = torch.arange(frames)
    start = chunk_starts(frames, chunk)
    key = index[None, :]
    visible = key < start[:, None]
    shift = None
    if window is not None:
        visible &= (key >= start[:, None] - window) | (key < sink)
        shift = (start - window - sink).clamp(min=0) if sink else None
    visible |= start[:, None] == start[None, :]
    return FrameLayout(
        positions=index,
        action_index=index,
        visible=visible,
        sink=sink if window else 0,
        sink_shift=shift,
        previous=(start - 1).clamp(min=0),
    )


def commit_beside(
    position: int, noisy: int, clean: int, *, window: int, sink: int, device: torch.device | str = "cpu"
) -> FrameLayout:
    """A pass that denoises a chunk and commits the clean one before it, which begins at `position`.

    The pass has the latents `[noisy | clean]`, and what they see is `[noisy | clean | sinks | sinks | ring]`: the sinks
    first as the noisy chunk sees them, then as the clean one does, and the window before the clean chunk. Each sees
    what it would if the clean chunk were committed by a pass of its own; so the noisy one does not see those latents of
    the ring whose slots the clean ones will take. `visible` is (noisy + clean, all of these).

    Raises ScopeError when the clean chunk is longer than the window.
    """
    if clean > window:
        raise ScopeError(f"a chunk of {clean} latents cannot be committed beside the next in a window of {window}")
    sinks = min(position, sink)
    ring = torch.arange(min(position - sinks, window), device=device)
    first = max(position - sink, 0)
    leaving = (ring - first) % window < position + clean - sink - first
    yes, no = (torch.full((max(noisy, clean, sinks),), value, device=device) for value in (True, False))
    by_noisy = torch.cat([yes[:noisy], yes[:clean], yes[:sinks], no[:sinks], ~leaving])
    by_clean = torch.cat([no[:noisy], yes[:clean], no[:sinks], yes[:sinks], yes.new_ones(len(ring))])
    positions = torch.arange(position, position + clean + noisy, device=device).roll(noisy)
    visible = torch.cat([by_noisy.expand(noisy, -1), by_clean.expand(clean, -1)])
    return FrameLayout(positions=positions, action_index=positions, visible=visible)


def two_stream(frames: int, *, window: int | None = None) -> FrameLayout:
    """Teacher forcing in one pass: F context frames followed by F noisy targets of the same latents.

    Context i sees context j <= i; target i sees context j < i and itself. Both within `window`.
    """
    index = torch.arange(frames)
    earlier = index[None, :] < index[:, None]
    if window is not None:
        earlier = earlier & (index[None, :] >= index[:, None] - window)
    same = torch.eye(frames, dtype=torch.bool)
    none = torch.zeros(frames, frames, dtype=torch.bool)
    visible = torch.cat([torch.cat([earlier | same, none], 1), torch.cat([earlier, same], 1)], 0)
    both = torch.cat([index, index])
    before = (index - 1).clamp(min=0)
    return FrameLayout(positions=both, action_index=both, visible=visible, previous=torch.cat([before, before]))
