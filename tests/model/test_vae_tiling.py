"""Tiles, ramps and their blend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_play.errors import ScopeError
from scope_play.model.wan_vae.tiling import Span, Tile, Tiling, blend_tiles, cover, spans
from tests.helpers.golden import golden_json

MASKS = golden_json("vae/constants.json")["masks_1d"]


@pytest.mark.parametrize("mask", MASKS)
def test_ramps_of_the_reference(mask: dict) -> None:
    length = mask["length"]
    start, after = (0 if mask["left_bound"] else 1), (0 if mask["right_bound"] else 1)
    span = Span(start, start + length, start + length + after)
    torch.testing.assert_close(span.weights(mask["border"], scale=1), torch.tensor(mask["mask"]))


def test_default_tiling_covers_480x832_with_one_tile() -> None:
    assert cover(30, 52, Tiling()) == [Tile(Span(0, 30, 30), Span(0, 52, 52))]


def test_last_tile_may_be_short() -> None:
    assert spans(5, size=3, stride=2) == [Span(0, 3, 5), Span(2, 5, 5)]
    assert spans(6, size=3, stride=2) == [Span(0, 3, 6), Span(2, 5, 6), Span(4, 6, 6)]


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    data=st.data(),
)
def test_blending_what_tiles_agree_on_changes_nothing(
    height: int, width: int, size: tuple[int, int], data: st.DataObject
) -> None:
    stride = (data.draw(st.integers(1, size[0])), data.draw(st.integers(1, size[1])))
    tiling, scale = Tiling(size, stride), 2
    x = torch.rand(1, 3, 2, height * scale, width * scale)
    blended = blend_tiles(cover(height, width, tiling), tiling, lambda tile: tile.crop(x, scale).clone(), scale)
    torch.testing.assert_close(blended, x)


def test_touching_tiles_are_simply_put_side_by_side() -> None:
    tiling = Tiling((2, 2), (2, 2))
    values = iter([1.0, 2.0, 3.0, 4.0])
    blended = blend_tiles(cover(4, 4, tiling), tiling, lambda tile: torch.full((1, 2, 2), next(values)), scale=1)
    assert torch.equal(blended[0], torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]))


@pytest.mark.parametrize("stride", [(4, 3), (0, 2)])
def test_strides_that_leave_gaps_are_refused(stride: tuple[int, int]) -> None:
    with pytest.raises(ScopeError, match="stride"):
        Tiling((3, 3), stride)
