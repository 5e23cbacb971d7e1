"""One pass that denoises a chunk and commits the clean one before it: who stands where, and who sees whom."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.layers import frames_to_tokens
from scope_play.model.dit.layout import FrameLayout


class JointCommit(NamedTuple):
    """The last `clean` latents of a pass are committed; 0 or -inf on the scores for who sees whom.

    video: (tokens of the pass, tokens seen); pixels: (n, latents seen); buttons: (tokens of the pass, latents seen).
    """

    clean: int
    video: Tensor
    pixels: Tensor
    buttons: Tensor


def joint_layout(
    position: int, noisy: int, clean: int, *, window: int, start: int = 0, device: torch.device | str = "cpu"
) -> FrameLayout:
    """A pass over the latents `[noisy | clean]`, the clean chunk beginning at `position`, the first one at `start`.

    What they see is `[noisy | clean | ring]`, the window before the clean chunk last. Each sees what it would if the
    clean chunk were committed by a pass of its own; so the noisy one does not see those latents of the ring whose slots
    the clean ones will take. `visible` is (noisy + clean, all of these).

    Raises ScopeError when the clean chunk is longer than the window.
    """
    if clean > window:
        raise ScopeError(f"a chunk of {clean} latents cannot be committed with the next in a window of {window}")
    since = position - start
    ring = torch.arange(min(since, window), device=device)
    stays = (ring - since) % window >= clean
    seen = torch.ones(noisy + clean, device=device, dtype=torch.bool)
    by_noisy = torch.cat([seen, stays])
    by_clean = torch.cat([seen[:clean].new_zeros(noisy), seen[:clean], torch.ones_like(stays)])
    positions = torch.arange(position, position + clean + noisy, device=device).roll(noisy)
    visible = torch.cat([by_noisy.expand(noisy, -1), by_clean.expand(clean, -1)])
    return FrameLayout(positions=positions, action_index=positions, visible=visible)


def joint_commit(visible: Tensor, clean: int, tokens: int, dtype: torch.dtype) -> JointCommit:
    """`visible` of a `joint_layout` as scores, for latents of so many `tokens`."""

    def scores(queries: int, keys: int) -> Tensor:
        mask = frames_to_tokens(visible, queries, keys)
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)

    return JointCommit(clean, scores(tokens, tokens), scores(1, 1), scores(tokens, 1))
