"""The Triton kernels against their twins, on a GPU or in the interpreter."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_play.kernels import modulate_torch as twin
from tests.helpers.kernel_cases import Draw, assert_close, draws, on, poisoned_outputs


@settings(max_examples=15, deadline=None, derandomize=True)
@given(draw=draws(), one_batch=st.booleans(), one_frame=st.booleans())
def test_equal_their_twins(device: torch.device, draw: Draw, one_batch: bool, one_frame: bool) -> None:
    from scope_play.kernels import modulate

    draw = on(draw, device)
    frames = (1 if one_batch else draw.batch, 1 if one_frame else draw.latents)
    # Slices of one table, as the six parts of a block's modulation are.
    shift, scale, gate = draw.normal(*frames, 3, draw.width).split(1, dim=2)
    with poisoned_outputs():
        modulated = modulate.modulate(draw.q, shift, scale)
        gated = modulate.gate_add(draw.q, draw.k, gate)
        fused = modulate.action_fuse(20 * draw.q, shift)
    assert_close(modulated, twin.modulate(draw.q, shift, scale), draw.dtype)
    assert_close(gated, twin.gate_add(draw.q, draw.k, gate), draw.dtype)
    assert_close(fused, twin.action_fuse(20 * draw.q, shift), draw.dtype)
