"""What the simulator knows as numbers, and clips of latents made of it."""

from __future__ import annotations

import numpy as np
import torch

from scope_play.arena.behaviour import sample_states
from scope_play.arena.config import ArenaConfig
from scope_play.arena.render import Renderer
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.model.nano_codec.light_field import CELL, CameraConfig
from scope_play.train.data.games import Games
from scope_play.train.data.sources import ArenaSource
from scope_play.train.data.states import FEATURES, HEADING, PLACE, chunk_features, state_features
from scope_play.train.importance import CELLS, picture_change
from tests.helpers.small_codec import small_codec

SMALL = small_codec(frame=(32, 32), latent_channels=4 * FEATURES, camera=CameraConfig(sight=48))


def test_features_are_bounded_and_tell_states_apart() -> None:
    states, _ = sample_states(40, 200, 3)
    features = state_features(states)
    assert features.shape == (200, 40, FEATURES)
    assert features.dtype == np.float32
    assert np.abs(features).max() <= 1.35
    sine, cosine = (features[..., index] for index in HEADING)
    assert np.allclose(np.arctan2(sine, cosine) % (2 * np.pi), states["yaw"], atol=1e-5)
    assert np.allclose(4 + 4 * features[..., list(PLACE)], np.stack([states["x"], states["y"]], -1), atol=1e-5)
    assert (features.std((0, 1)) > 0).all()  # every one of them says something


def test_whatever_shows_in_the_picture_is_among_the_features() -> None:
    states, _ = sample_states(24, 80, 7)
    shown = states[np.arange(24) % 5 * 15 + 19, np.arange(24)]
    renderer = Renderer(ArenaConfig(), 96, 160)
    before, pictures = state_features(shown), renderer.render(shown)[0]
    hidden = []
    for name in shown.dtype.names:
        changed = shown.copy()
        changed[name] = 1 - shown[name] if name in ("weapon", "north_held") else shown[name] + 0.3
        seen = (renderer.render(changed)[0] != pictures).any((1, 2, 3))
        if (seen & ~(state_features(changed) != before).any(1)).any():
            hidden.append(name)
    assert hidden == []


def test_chunks_hold_their_four_frames() -> None:
    states, _ = sample_states(3, 13, 5)
    chunks = chunk_features(states).reshape(3, 4, 4, FEATURES)
    features = state_features(states)
    assert np.array_equal(chunks[:, 0], np.repeat(features[0][:, None], 4, 1))
    assert np.array_equal(chunks[1, 2], features[5:9, 1])
    assert np.array_equal(chunks[2, 3], features[9:13, 2])


def test_clips_start_still_and_carry_their_rows() -> None:
    torch.manual_seed(0)
    codec = NanoCodec(SMALL).eval()
    games = Games(codec, seed=4)
    latents, rows = games.clips(6, 5, "world", 2)
    assert latents.shape == (6, 4 * FEATURES, 5, 1, 1)
    assert rows.shape == (6, 16, 10)
    frames = latents[..., 0, 0].reshape(6, 4, FEATURES, 5)
    assert torch.equal(frames[:, 0, :, 0], frames[:, 3, :, 0])
    turn = torch.atan2(frames[:, 3, HEADING[0], 1:], frames[:, 3, HEADING[1], 1:])
    before = torch.atan2(frames[:, 3, HEADING[0], :-1], frames[:, 3, HEADING[1], :-1])
    turned = (turn - before + np.pi) % (2 * np.pi) - np.pi
    pushed = rows[:, :, 8].reshape(6, 4, 4).sum(2)
    assert (turned[pushed.abs() > 0.5] * pushed[pushed.abs() > 0.5] > 0).all()
    again, _ = games.clips(6, 5, "world", 2)
    assert torch.equal(latents, again)
    assert not torch.equal(latents, games.clips(6, 5, "world", 3)[0])


def test_a_button_held_from_the_first_row_is_pressed_in_it() -> None:
    torch.manual_seed(0)
    codec = NanoCodec(SMALL).eval()
    drawn = [Games(codec, seed=4).clips(100, 3, "world", step) for step in range(8)]
    latents, rows = (torch.cat(part) for part in zip(*drawn, strict=True))
    features = codec.to_features(latents[..., 0, 0].transpose(1, 2)).unflatten(-1, (4, FEATURES))
    switching, swinging = features[:, 0, 3, 21] > 0, features[:, 0, 3, 19] > 0
    pressed = (rows[:, 0, 5] > 0.5) & ~switching & ~swinging
    assert pressed.sum() > 3
    assert (features[pressed, 1, 0, 21] > 0.5).all()


def test_importance_is_the_squared_columns_of_the_decoders_jacobian() -> None:
    torch.manual_seed(0)
    codec = NanoCodec(SMALL).eval().requires_grad_(False)
    codec.feature_std.uniform_(0.5, 2)
    latents = Games(codec, seed=4).moments(10)

    def draw(latent: torch.Tensor) -> torch.Tensor:
        return (codec.decode_chunk(latent[None, :, None, None]).flatten() + 1) / 2

    columns = torch.stack([torch.func.jacfwd(draw)(latent) for latent in latents])
    exact = columns.square().sum(1).mean(0)
    found = picture_change(codec, latents)
    assert 32 * 32 // CELL**2 > CELLS  # so that not all of the picture is looked at
    assert ((found - exact).abs() / exact.clamp_min(exact.median())).mean() < 0.15
    assert torch.corrcoef(torch.stack([found, exact]))[0, 1] > 0.97


def test_moments_of_the_arena_come_with_their_features_and_without_hands() -> None:
    drawn = ArenaSource(1, 32, 64).moments(30, "autoencoder", 0)
    assert drawn.frames.shape == drawn.court.shape == (30, 32, 64, 3)
    assert drawn.features.shape == (30, FEATURES)
    differs = (drawn.frames != drawn.court).any(-1)
    assert 0.02 < differs.mean() < 0.5
    assert not differs[:, :4, :].all((1, 2)).any()  # nothing is held in front of the whole sky
    again, other = (ArenaSource(1, 32, 64).moments(30, "autoencoder", step) for step in (0, 1))
    assert np.array_equal(drawn.frames, again.frames)
    assert not np.array_equal(drawn.frames, other.frames)
