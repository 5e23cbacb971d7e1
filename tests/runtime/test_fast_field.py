"""Nano's larger picture: the same fields asked in smaller cells, and the form in which they are drawn in play."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.light_field import CELL, to_pictures
from scope_play.model.nano_codec.resize import resize_codec, spacing
from scope_play.runtime import fast_field
from scope_play.runtime.fast_field import FastField, fast_drawer
from tests.helpers.small_codec import small_codec

LARGE = (64, 128)


@pytest.fixture
def codec() -> NanoCodec:
    """With every weight at random, the finish's too."""
    torch.manual_seed(0)
    model = NanoCodec(small_codec()).eval().requires_grad_(False)
    torch.nn.init.normal_(model.field.finish.write.weight, std=0.1)
    return model


def moments(count: int) -> torch.Tensor:
    features = torch.randn(count, 8, generator=torch.Generator().manual_seed(1)) * 0.3
    features[:, 3], features[:, 4] = features[:, 5].sin(), features[:, 5].cos()
    return features


def test_old_pixels_count_where_new_ones_lie() -> None:
    assert torch.equal(spacing(1.0), torch.eye(CELL))
    half = spacing(0.5)
    torch.testing.assert_close(half.sum(1), torch.ones(CELL))
    # Pixels at 0.75, 1.25, 1.75 and 2.25 of the old cell's.
    torch.testing.assert_close(half @ torch.arange(CELL).float(), torch.tensor([0.75, 1.25, 1.75, 2.25]))


def test_a_larger_court_begins_as_what_the_same_rays_showed(codec: NanoCodec) -> None:
    """A cell of it is the middle of what the smaller picture's last layer would show along that ray."""
    large, features = resize_codec(codec, LARGE), moments(3)
    state = large.state(features)
    fine = large.field.behind(features, state).unflatten(-1, (CELL, CELL, 3))
    with_old_layer = NanoCodec(replace(codec.config, frame=LARGE, seen=(32, 64)))
    with_old_layer.load_state_dict(codec.state_dict())
    old = with_old_layer.field.behind(features, state).detach().unflatten(-1, (CELL, CELL, 3))
    near = 0.75 * old[:, :, 1, 1:3] + 0.25 * old[:, :, 2, 1:3]
    torch.testing.assert_close(fine[:, :, 1, 1], 0.75 * near[:, :, 0] + 0.25 * near[:, :, 1], atol=1e-5, rtol=1e-4)


def test_a_resized_codec_finds_what_the_smaller_one_found(codec: NanoCodec) -> None:
    pictures = torch.rand(2, 3, 32, 64) * 2 - 1
    large = resize_codec(codec, LARGE)
    assert (large.config.frame, large.config.finder_frame) == (LARGE, (32, 64))
    enlarged = pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(large.found(enlarged), codec.found(pictures))
    assert large.encode_chunk(enlarged[:1, :, None].expand(-1, -1, 4, -1, -1)).shape == (1, 32, 1, 1)


def test_a_codec_is_not_resized_twice(codec: NanoCodec) -> None:
    large = resize_codec(codec, LARGE)
    assert resize_codec(large, LARGE) is large
    with pytest.raises(ValueError, match="has been resized before"):
        resize_codec(large, (128, 256))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
def test_the_fast_form_draws_the_same_picture(codec: NanoCodec, dtype: torch.dtype, tolerance: float) -> None:
    large, features = resize_codec(codec, LARGE).requires_grad_(False), moments(3)
    state = large.state(features)
    plain = large.field(features, state)
    cells = large.field.over(large.field.behind(features, state), state)
    assert (plain - (to_pictures(cells, LARGE) * 2 - 1)).abs().max() > 0.1  # the finish does something
    drawn = FastField(large.field, dtype)(features, state)
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn, plain, atol=tolerance * float(plain.std()), rtol=0)


@pytest.mark.parametrize(("court", "hand"), [(True, True), (True, False), (False, True), (False, False)])
def test_where_nothing_is_to_be_seen_only_every_fourth_cell_is_asked(
    codec: NanoCodec, monkeypatch: pytest.MonkeyPatch, court: bool, hand: bool
) -> None:
    """Of a court that is one smooth slope, and where the hand is nowhere; and the picture stays what it is."""
    large, features = resize_codec(codec, LARGE).requires_grad_(False), moments(2)
    draw, every = large.field, LARGE[0] * LARGE[1] // CELL**2
    if not court:
        draw.court.write.weight *= 0.002
        draw.court.write.bias.fill_(0.5)
    if not hand:
        draw.hand.write.bias[3::4] = -30.0
    monkeypatch.setattr(fast_field, "BATCH", 1)
    asked: list[int] = []
    through = fast_field._through

    def counting(x: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        asked.append(len(x))
        return through(x, layers)

    monkeypatch.setattr(fast_field, "_through", counting)
    state = large.state(features)
    drawn = FastField(draw, torch.float32)(features, state)
    torch.testing.assert_close(drawn, draw(features, state), atol=0.01, rtol=0)
    border = 3 * (LARGE[0] + LARGE[1]) // (2 * CELL)  # of which nothing lies beyond
    most = 2 * (sum(every if wanted else every // 4 for wanted in (court, hand)) + border)
    assert sum(asked) <= most


def test_few_numbers_of_cells_are_ever_asked(codec: NanoCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch keeps something for each of them: a game of ten minutes would take gigabytes."""
    large, features = resize_codec(codec, LARGE).requires_grad_(False), moments(24)
    asked: set[int] = set()
    through = fast_field._through

    def counting(x: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        asked.add(len(x))
        return through(x, layers)

    monkeypatch.setattr(fast_field, "_through", counting)
    FastField(large.field)(features, large.state(features))
    assert all(count % fast_field.BATCH == 0 for count in asked - {LARGE[0] * LARGE[1] // CELL**2 // 4})
    assert len(asked) > 1


def test_a_frame_is_the_same_whoever_is_drawn_beside_it(codec: NanoCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    large, features = resize_codec(codec, LARGE).requires_grad_(False), moments(4)
    pictures = []
    for processors in (1, 2, 64):
        monkeypatch.setattr(fast_field.os, "cpu_count", lambda count=processors: count * torch.get_num_threads())
        pictures.append(FastField(large.field)(features, large.state(features)))
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])


def test_only_a_codec_that_says_so_is_drawn_fast(codec: NanoCodec) -> None:
    large = resize_codec(codec, LARGE)
    assert isinstance(fast_drawer(large), FastField)
    assert fast_drawer(codec) is None
    assert fast_drawer(large.bfloat16()) is None  # asked for by --precision: everything is of that type already


def test_play_shows_what_the_plain_field_shows(codec: NanoCodec) -> None:
    large = resize_codec(codec, LARGE).requires_grad_(False)
    latents = torch.randn(1, 32, 3, 1, 1, generator=torch.Generator().manual_seed(3))
    shown = large.decode(latents)
    plain = torch.cat([large.decode_chunk(latent) for latent in latents.unbind(2)], 2)[:, :, 3:].clamp(-1, 1)
    assert shown.shape == (1, 3, 9, *LARGE)
    torch.testing.assert_close(shown, plain, atol=0.1, rtol=0)
