"""Looking fit finds the camera again, and never makes a picture worse."""

from __future__ import annotations

import math

import pytest
import torch

from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import RIFLE, ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.pose_fit import MOVES, PoseFit, fit_pose, move
from scope_play.train.build import Options, load_nano_codec
from scope_play.train.data.sources import pixels
from scope_play.weights.catalog import NANO_MODELS, nano_folder
from tests.helpers.small_codec import small_codec


class Nearly(NanoCodec):
    """A codec whose finder is off by a known move, for the `pictures` that it knows."""

    truth: torch.Tensor
    by: torch.Tensor
    pictures: torch.Tensor

    def found(self, frames: torch.Tensor) -> torch.Tensor:
        which = (frames[:, None] - self.pictures).abs().flatten(2).mean(2).argmin(1)
        return move(self.truth[which], self.by[which], self.config.camera)


@pytest.fixture
def codec() -> Nearly:
    torch.manual_seed(0)
    model = Nearly(small_codec()).eval().requires_grad_(False)
    torch.nn.init.normal_(model.field.court.write.weight, std=0.3)
    draw = torch.Generator().manual_seed(1)
    angles = torch.linspace(-3, 3, 6)
    model.truth = torch.rand(6, 8, generator=draw) * 0.6 - 0.3
    model.truth[:, 2] = 0.2
    model.truth[:, 3], model.truth[:, 4] = angles.sin(), angles.cos()
    model.by = torch.randn(6, MOVES, generator=draw) * torch.tensor([0.1, 0.1, 0.15, 0.1, 0.05])
    model.pictures = model.field(model.truth, model.state(model.truth))
    return model


def test_the_camera_is_found_again(codec: Nearly) -> None:
    pictures = codec.pictures
    wrong = codec.found(pictures)
    right = fit_pose(codec, pictures, PoseFit(guesses=64, kept=6, steps=12, cells=128, feature_steps=0))[0]
    errors = [(features[:, :6] - codec.truth[:, :6]).norm(dim=1) for features in (wrong, right)]
    assert (errors[1] < 0.3 * errors[0]).float().mean() >= 0.8


def test_a_picture_is_never_drawn_worse_where_it_is_compared(codec: Nearly) -> None:
    pictures = codec.pictures
    all_cells = PoseFit(guesses=4, kept=1, steps=3, cells=128, feature_steps=2, feature_cells=128)
    wrong, right = codec.found(pictures), fit_pose(codec, pictures, all_cells)[0]
    missed = [(codec.field(some, codec.state(some)) - pictures).square().mean((1, 2, 3)) for some in (wrong, right)]
    assert (missed[1] <= missed[0] + 1e-6).all()


def test_what_the_finder_missed_besides_the_camera_settles(codec: Nearly) -> None:
    pictures = codec.pictures
    codec.by = torch.zeros_like(codec.by)
    truth, codec.truth = codec.truth, codec.truth.clone()
    codec.truth[:, 7] += 0.3
    fit = PoseFit(guesses=2, kept=1, steps=0, feature_steps=4, feature_cells=128, trust=0.01)
    left = fit_pose(codec, pictures, fit)[0][:, 7] - truth[:, 7]
    assert left.abs().median() < 0.05
    trusting, _ = fit_pose(
        codec, pictures, PoseFit(guesses=2, kept=1, steps=0, feature_steps=4, feature_cells=128, trust=1e4)
    )
    torch.testing.assert_close(trusting[:, 7], codec.truth[:, 7], atol=1e-3, rtol=0)


def test_the_same_picture_is_seen_alike_alone_and_in_company(codec: Nearly) -> None:
    pictures = codec.pictures
    for alone, among in zip(fit_pose(codec, pictures[2:3]), fit_pose(codec, pictures), strict=True):
        assert torch.equal(alone, among[2:3])


def test_a_move_turns_the_heading_and_keeps_the_rest() -> None:
    camera = small_codec().camera
    features = torch.zeros(1, 8)
    features[0, 3], features[0, 4], features[0, 7] = math.sin(3.0), math.cos(3.0), 0.7
    moved = move(features, torch.tensor([[0.1, -0.2, 0.5, 0.05, -1.0]]), camera)[0]
    assert moved[:3].tolist() == pytest.approx([0.1, -0.2, 0.0])  # nobody is below the ground
    assert math.atan2(moved[3], moved[4]) == pytest.approx(3.5 - 2 * math.pi)
    assert moved[5:].tolist() == pytest.approx([0.05, 0.0, 0.7])


@pytest.mark.parametrize("name", NANO_MODELS)
def test_nano_tells_a_full_magazine_from_one_that_lacks_a_round(name: str) -> None:
    codec = load_nano_codec(Options(codec=nano_folder(name)))
    states = sample_states(40, 1, 5)[0][0]
    states = states[(states["weapon"] == RIFLE)][:2].copy()
    for rounds in (29, 30):
        states["ammo"][:, RIFLE] = rounds
        pictures = pixels(Renderer(ArenaConfig(), *codec.config.frame).render(states)[0], "cpu")
        with torch.inference_mode():
            found = codec.to_features(codec.encode_image(pictures).flatten(1))[:, 24] * 30
        assert (found - rounds).abs().max() < 0.5
