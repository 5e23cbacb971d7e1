"""World and Session: the public API, on an untrained nano and on small official folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from einops import rearrange

from scope_play.errors import ScopeError
from scope_play.images import read_image
from scope_play.loading.first_scene import draw_first_scene
from scope_play.loading.nano import FIRST_SCENE, native_model, parse_native_config, to_native_json
from scope_play.model.dit.action import window_rows
from scope_play.model.dit.config import ActionConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.nano_codec.codec import NanoCodec
from scope_play.sampling.schedule import euler_step, make_sigmas
from scope_play.sampling.stream import latent_noise
from scope_play.weights.catalog import nano_folder
from scope_play.world import World
from tests.helpers.small_world import SIZE, small_config, small_world


@pytest.fixture(scope="module", params=["fused", "compiled"])
def world(request: pytest.FixtureRequest) -> World:
    world = small_world(rounded=request.param == "compiled")
    assert ("compiled" in world.kernels) == (request.param == "compiled")
    return world


def rows_for(chunks: int, seed: int = 0, frames: int = 4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows = np.concatenate(
        [generator.integers(0, 2, (chunks, frames, 6)), generator.uniform(-1, 1, (chunks, frames, 4))], 2
    )
    return rows.astype(np.float32)


def run(world: World, rows: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    with world.start(seed=seed) as session:
        return [session.step(chunk).frames for chunk in rows]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_session_is_a_function_of_seed_and_actions(world: World) -> None:
    rows = rows_for(6)
    frames = run(world, rows)
    assert frames[0].shape == (4, *SIZE, 3)
    assert frames[0].dtype == np.uint8
    assert same(frames, run(world, rows))
    assert not same(frames, run(world, rows, seed=1))
    assert not same(frames, run(world, rows_for(6, seed=1)))


def test_deferring_the_commit_changes_nothing(world: World) -> None:
    rows = rows_for(5)
    with world.start() as session:
        frames = []
        for chunk in rows:
            made = session.step(chunk, defer_commit=True)
            assert "commit" not in made.timings
            frames.append(made.frames)
            session.flush_commit()
            assert made.timings["commit"] > 0
    assert same(frames, run(world, rows))


def test_the_next_noise_is_drawn_beside_the_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the actions and the picture there is nothing to draw, also after going back."""
    drawn: list[int] = []

    def draw(seed: int, index: int, shape: tuple[int, ...]) -> torch.Tensor:
        drawn.append(index)
        return latent_noise(seed, index, shape)

    monkeypatch.setattr("scope_play.session.batch.latent_noise", draw)
    rows = rows_for(3)
    with world.start() as session:
        session.step(rows[0], defer_commit=True)
        assert drawn == [1]
        session.flush_commit()
        kept = session.snapshot()
        assert drawn == [1, 2]
        made = session.step(rows[1], defer_commit=True).frames
        assert drawn == [1, 2]
        session.step(rows[2])
        session.restore(kept)
        assert np.array_equal(session.step(rows[1]).frames, made)


def test_snapshot_twenty_chunks_restore_the_same_twenty(world: World) -> None:
    rows = rows_for(26)
    with world.start(seed=3) as session:
        for chunk in rows[:6]:
            session.step(chunk)
        kept = session.snapshot()
        first = [session.step(chunk).frames for chunk in rows[6:]]
        session.restore(kept)
        assert session.index == 6
        again = [session.step(chunk).frames for chunk in rows[6:]]
    assert same(first, again)
    assert kept.nbytes > 0


def test_a_snapshot_from_before_the_first_chunk_restores(world: World) -> None:
    rows = rows_for(3)
    with world.start() as session:
        kept = session.snapshot()
        first = [session.step(chunk).frames for chunk in rows]
        session.restore(kept)
        assert same(first, [session.step(chunk).frames for chunk in rows])


def test_interleaved_sessions_equal_each_alone(world: World) -> None:
    one, two = rows_for(6, seed=1), rows_for(6, seed=2)
    with world.start(seed=1) as first, world.start(seed=2) as second:
        mixed = [(first.step(a).frames, second.step(b).frames) for a, b in zip(one, two, strict=True)]
    assert same([a for a, _ in mixed], run(world, one, seed=1))
    assert same([b for _, b in mixed], run(world, two, seed=2))


def test_a_batch_equals_its_sessions_alone(world: World) -> None:
    rows = np.stack([rows_for(5, seed=seed) for seed in range(3)], axis=1)
    with world.start_many([None] * 3, seeds=[5, 6, 7]) as batch:
        together = [batch.step(chunk).frames for chunk in rows]
    for index in range(3):
        alone = run(world, rows[:, index], seed=5 + index)
        for chunk, frames in zip(together, alone, strict=True):
            # Rounding of a batched matrix product may move a value across one of 256 levels, never further.
            assert np.abs(chunk[index].astype(int) - frames.astype(int)).max() <= 1


def test_chunks_of_two_latents_take_eight_rows() -> None:
    world = small_world(chunk=2)
    assert world.spec.frames_per_chunk == 8
    frames = run(world, rows_for(3, frames=8))
    assert [chunk.shape[0] for chunk in frames] == [8, 8, 8]


def test_stream_groups_single_rows(world: World) -> None:
    rows = rows_for(3)

    def single() -> Iterator[np.ndarray]:
        yield from rows.reshape(-1, 10)

    with world.start() as session:
        streamed = [chunk.frames for chunk in session.stream(single())]
    assert same(streamed, run(world, rows))


@pytest.mark.parametrize("from_rest", [False, True])
def test_what_is_seen_of_the_time_before_a_session(from_rest: bool) -> None:
    """Row 0 repeated backwards, as SCOPE was trained (SPEC.md section 2), or rest; in a session as in one pass."""
    action = ActionConfig(from_rest=from_rest)
    world = small_world(action=action)
    assert world.model.network.config.action == action
    rows = rows_for(2)
    with world.start() as session:
        session.step(rows[0])
        kept = session.snapshot().rows[0]
    before = 0 * rows[0, :1] if from_rest else rows[0, :1]
    assert np.array_equal(kept, np.concatenate([np.repeat(before, 12, axis=0), rows[0]]))
    windows = window_rows(torch.from_numpy(rows.reshape(1, 8, 10)), 3, action)[0].numpy()
    assert np.array_equal(windows[0], np.repeat(before, 16, axis=0))
    assert np.array_equal(windows[1], kept)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda rows: rows[:3], r"shape \(3, 10\), but this world takes \(4, 10\)"),
        (lambda rows: np.where(np.arange(10) == 2, 0.5, rows), "must be 0 or 1"),
        (lambda rows: np.where(np.arange(10) == 7, 1.5, rows), r"lie in \[-1, 1\]"),
        (lambda rows: np.where(np.arange(10) == 7, np.nan, rows), "not be NaN"),
        (lambda rows: rows.astype(str), "must be numbers"),
    ],
)
def test_bad_rows_are_refused_and_cost_nothing(world: World, spoil: object, sentence: str) -> None:
    rows = rows_for(2)
    with world.start() as session:
        first = session.step(rows[0]).frames
        with pytest.raises(ScopeError, match=sentence):
            session.step(spoil(rows[1]))  # type: ignore[operator]
        assert session.index == 1
        assert same([first, session.step(rows[1]).frames], run(world, rows))


def test_a_closed_session_says_so(world: World) -> None:
    session = world.start()
    session.close()
    session.close()
    with pytest.raises(ScopeError, match="session is closed"):
        session.step(rows_for(1)[0])


def test_a_prompt_for_a_model_without_text_is_refused(world: World) -> None:
    with pytest.raises(ScopeError, match="takes no prompt"):
        world.start(prompt="a desert")
    with world.start() as session, pytest.raises(ScopeError, match="takes no prompt"):
        session.set_prompt("a desert")


def test_start_images_are_fitted_or_refused(world: World) -> None:
    wide = np.zeros((64, 200, 3), np.uint8)
    with world.start(image=wide) as session:
        assert session.first_frame.shape == (*SIZE, 3)
    with pytest.raises(ScopeError, match="must be uint8"):
        world.start(image=np.zeros((64, 64, 3), np.float32))
    with pytest.raises(ScopeError, match="no image"):
        world.start(image="nowhere.png")


def test_loading_does_not_set_up_pytorchs_compiler() -> None:
    """That takes two seconds, and it imports Triton beside whatever graphics driver is loaded by then."""
    code = "import sys; from scope_play import World; World.load('nano').start(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_nanos_own_scene_is_what_the_arena_draws() -> None:
    for name, size in (("nano", (192, 320)), ("nano-96x160", (96, 160))):
        assert np.array_equal(read_image(nano_folder(name) / FIRST_SCENE), draw_first_scene(size))


def test_native_config_round_trips_and_names_what_is_wrong() -> None:
    config = small_config()
    values = to_native_json(config)
    assert parse_native_config(values, "config.json") == config
    del values["codec"]
    with pytest.raises(ScopeError, match=r"config\.json has no codec"):
        parse_native_config(values, "config.json")
    values = to_native_json(config)
    values["sampling"]["stepz"] = 3
    with pytest.raises(ScopeError, match=r"unknown key 'sampling\.stepz'"):
        parse_native_config(values, "config.json")


def test_models_and_devices_that_are_not_there() -> None:
    with pytest.raises(ScopeError, match="no model 'nowhere'"):
        World.load("nowhere", device="cpu")
    with pytest.raises(ScopeError, match="device 'tpux' is not known"):
        World.load("nano", device="tpux")
    for device in ("mps", "xpu", "meta", "xla:0"):
        with pytest.raises(ScopeError, match=f"device '{device}' is none that a model runs on; use cpu or cuda"):
            World.load("nano", device=device)
    with pytest.raises(ScopeError, match="device 'cuda:99' was asked for, but "):
        World.load("nano", device="cuda:99")
    with pytest.raises(ScopeError, match="device 'cpu:3' was asked for, but there are 1 of its kind"):
        World.load("nano", device="cpu:3")
    with pytest.raises(ScopeError, match="precision 'fp7'"):
        World.load("nano", device="cpu", precision="fp7")
    with pytest.raises(ScopeError, match="precision fp8 needs an NVIDIA GPU"):
        World.load("nano", device="cpu", precision="fp8")


@pytest.mark.usefixtures("quick_look")
def test_linears_stored_as_int8_play_nearly_the_same() -> None:
    exact, small = (World.load("nano", device="cpu", precision=precision) for precision in ("fp32", "int8"))
    assert (exact.spec.precision, small.spec.precision) == ("fp32", "int8")
    frames, close = (run(world, rows_for(2)) for world in (exact, small))
    difference = np.abs(np.stack(frames).astype(int) - np.stack(close).astype(int))
    assert 0 < difference.mean() < 4


def test_a_start_image_is_looked_at_once() -> None:
    world = small_world()
    looked: list[int] = []
    encoder = world.model.codec.encoder

    def counting() -> object:
        looked.append(1)
        return encoder()

    world.model.codec.encoder = counting  # type: ignore[method-assign,assignment]
    pictures = [np.full((*SIZE, 3), shade, np.uint8) for shade in range(10)]
    first = world.model.first_latent(pictures[0][None])
    with world.start(image=pictures[0]), world.start(image=pictures[0]):
        assert len(looked) == 1
    assert torch.equal(world.model.first_latent(pictures[0][None]), first)
    for picture in pictures[1:]:
        world.model.first_latent(picture[None])
    assert len(looked) == 10
    world.model.first_latent(pictures[0][None])  # forgotten by now
    assert len(looked) == 11


def test_what_a_codec_settles_is_what_is_shown_and_remembered() -> None:
    """The stream goes on from the projected latent: played by hand with that, it gives the same frames."""
    world = small_world()
    world.model.codec.feature_low.fill_(-0.2)
    world.model.codec.feature_high.fill_(0.2)
    made: list[torch.Tensor] = []
    project = world.model.codec.project

    def watched(latents: torch.Tensor) -> torch.Tensor:
        made.append(project(latents))
        return made[-1]

    world.model.codec.project = watched  # type: ignore[method-assign]
    frames = run(world, rows_for(3))
    assert len(made) == 4  # the start image, then every chunk
    features = torch.cat([world.model.codec.to_features(latent[:, :, 0, 0, 0]) for latent in made])
    others = [channel for channel in range(32) if channel % 8 not in (3, 4)]
    assert features[:, others].abs().max() <= 0.2 + 1e-5
    shown = world.model.codec.decode_chunk(made[2][:, :, 0])[0].clamp(-1, 1).permute(1, 2, 3, 0)
    np.testing.assert_allclose(frames[1], ((shown + 1) * 127.5).numpy(), atol=1.0)


def test_a_network_in_training_is_left_as_it_is() -> None:
    config = small_config()
    network, codec = DiT(config.world).train(), NanoCodec(config.codec).train()
    before = {name: (id(parameter), parameter.clone()) for name, parameter in network.named_parameters()}
    world = World(native_model(network, codec, config, "mine", dtype=torch.bfloat16))
    with world.start(np.zeros((32, 64, 3), np.uint8)) as session:
        session.step(np.zeros((4, 10), np.float32))
    assert network.training
    assert codec.training
    for name, parameter in network.named_parameters():
        assert before[name][0] == id(parameter)
        assert torch.equal(before[name][1], parameter)
        assert parameter.requires_grad
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in codec.parameters())


def test_many_steps_leave_no_noise() -> None:
    """A network that predicts the clean latents is followed exactly, below the smallest sigma of training too."""
    config = replace(small_config().world, prediction="clean", from_previous=False)
    assert config.patch == (1, 1, 1)
    network, clean = DiT(config).eval(), torch.randn(1, config.out_channels, 1, 2, 2)
    predicted = rearrange(clean, "b c f h w -> b f (h w) c")
    sigmas = make_sigmas(80, 1.0)
    x = torch.randn_like(clean)
    for sigma, after in pairwise(sigmas):
        velocity = network.velocity(predicted, x, None, (1000 * sigma).reshape(1, 1))
        x = euler_step(x, velocity, sigma, after)
    torch.testing.assert_close(x, clean, rtol=0, atol=1e-5)
