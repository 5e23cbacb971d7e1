"""A chunk that is begun beside the decoding of the one before: the same frames, and who waits for what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scope_play.actions import WINDOW_ROWS
from scope_play.errors import ScopeError
from scope_play.kernels.dispatch import torch_kernels
from scope_play.loading.request import LoadRequest
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.dit import DiT
from scope_play.play.engine.local import LocalEngine
from scope_play.play.engine.protocol import Begin, GoBack, Load, Loaded, Made, Opened, SetStream, WentBack
from scope_play.play.pacing import Pace, arrived, samples_ahead, shown
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session import batch
from scope_play.session.frame_transfer import CudaTransfer, HostTransfer
from scope_play.world import World
from tests.helpers.engines import await_one
from tests.helpers.fake_cuda import FakeCuda
from tests.helpers.small_world import small_world
from tests.helpers.stream_cases import tiny_config

ALONE = {"window": 2, "cache": "fp8"}
"""A cache without room for a commit in the next chunk's first pass."""
DEEDS = ("step", "ahead", "other rows", "snapshot", "restore", "stream", "flush")


def rows_of(chunks: int, seed: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.integers(0, 2, (chunks, 4, 6)), rng.uniform(-1, 1, (chunks, 4, 4))], 2)
    return list(rows.astype(np.float32))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda(monkeypatch)
    monkeypatch.setattr(batch, "make_transfer", CudaTransfer)
    denoise, commit = CachedStream.denoise, CachedStream.commit

    def logged(self: CachedStream, noise: Tensor, windows: object) -> Tensor:
        fake.log.append("denoise")
        return denoise(self, noise, windows)  # type: ignore[arg-type]

    def committed(self: CachedStream) -> None:
        fake.log.append("commit")
        commit(self)

    monkeypatch.setattr(CachedStream, "denoise", logged)
    monkeypatch.setattr(CachedStream, "commit", committed)
    return fake


def plain(world: World, rows: list[np.ndarray]) -> list[np.ndarray]:
    with world.start(seed=7) as session:
        return [session.step(chunk).frames for chunk in rows]


def test_the_host_waits_once_a_chunk(cuda: FakeCuda) -> None:
    world = small_world(**ALONE)
    with world.start(seed=7) as session:
        assert session.overlaps
        for chunk in rows_of(3):
            cuda.log.clear()
            session.step(chunk, defer_commit=True)
            session.flush_commit()
            assert cuda.log == ["denoise", "wait", "commit"]
    assert cuda.priorities[1:] == [-1]  # frames before what nobody waits for yet


def test_the_next_chunk_is_under_way_when_the_host_waits_for_frames(cuda: FakeCuda) -> None:
    """The first wait is for the moment to sample its rows."""
    rows = rows_of(4)
    with small_world(**ALONE).start(seed=7) as session:
        for index in range(3):
            cuda.log.clear()

            def following(index: int = index) -> np.ndarray:
                cuda.log.append("rows")
                return rows[index + 1]

            session.step_ahead(rows[index], following)
            begun = ["denoise"] if index == 0 else []
            assert cuda.log == [*begun, "wait", "rows", "commit", "denoise", "wait"]


def test_a_chunk_begun_ahead_is_denoised_before_it_is_asked_for(cuda: FakeCuda) -> None:
    """Its clock does not run on while nobody wants it."""
    rows = rows_of(2)
    with small_world(**ALONE).start(seed=7) as session:
        session.step_ahead(rows[0], lambda: rows[1])
        clock = session._batch._transfer.next
        assert clock is not None
        assert clock.denoised.recorded
        assert not clock.decoding.recorded
        session.step(rows[1])
        assert clock.decoded.recorded


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    deeds=st.lists(
        st.sampled_from(["step", "ahead", "other rows", "snapshot", "restore", "stream", "flush"]), max_size=9
    )
)
def test_the_frames_are_the_same(deeds: list[str]) -> None:
    """Whatever comes between, against a session that never begins ahead."""
    world = small_world(**ALONE)
    rows = rows_of(2 * len(deeds) + 2)
    with pytest.MonkeyPatch.context() as patch, world.start(seed=7) as reference:
        FakeCuda(patch)
        patch.setattr(batch, "make_transfer", CudaTransfer)
        with world.start(seed=7) as session:
            assert isinstance(reference._batch._transfer, HostTransfer)
            assert isinstance(session._batch._transfer, CudaTransfer)
            following, moments, other = rows.pop(), None, {"full": "fp8", "fp8": "full"}
            for deed in deeds:
                current, following = following, rows.pop()
                match deed:
                    case "ahead":
                        made = session.step_ahead(current, lambda rows=following: rows)
                    case "other rows":  # than those with which it was begun
                        following = 0 * following
                        made = session.step_ahead(current, lambda rows=rows[0]: rows)
                    case _:
                        made = session.step(current, defer_commit=deed == "flush")
                assert np.array_equal(made.frames, reference.step(current).frames)
                assert set(made.timings) >= {"denoise", "decode"}
                match deed:
                    case "snapshot":
                        moments = session.snapshot(on_host=True), reference.snapshot()
                    case "restore" if moments is not None:
                        session.restore(moments[0])
                        reference.restore(moments[1])
                    case "stream":
                        for one in (session, reference):
                            one.set_stream(replace(one.stream_config, cache=other[one.stream_config.cache]))


def test_a_joint_commit_is_not_undone(cuda: FakeCuda) -> None:
    with small_world(window=4).start(seed=7) as session:
        assert not session.overlaps


def test_rows_that_cannot_be_ask_for_a_restore(cuda: FakeCuda) -> None:
    rows = rows_of(3)
    with small_world(**ALONE).start(seed=7) as session:
        session.step_ahead(rows[0], lambda: rows[1])
        kept = session.snapshot()
        with pytest.raises(ScopeError, match="this world takes"):
            session.step_ahead(rows[1], lambda: rows[2][:2])
        with pytest.raises(ScopeError, match="restore a snapshot"):
            session.step(rows[1])
        session.restore(kept)
        again = session.step(rows[1]).frames
    assert np.array_equal(again, plain(small_world(**ALONE), rows)[1])


@pytest.fixture
def rows() -> list[np.ndarray]:
    return rows_of(12)


@pytest.fixture
def engine(cuda: FakeCuda, rows: list[np.ndarray]) -> Iterator[LocalEngine]:
    """Takes `rows` one after the other."""
    left = iter(rows)

    def take(now: float, n: int) -> np.ndarray:
        cuda.log.append("rows")
        return next(left)

    made = LocalEngine(take, open_world=lambda request: small_world(**ALONE))
    made.post(Load(LoadRequest("small")))
    await_one(made, Loaded)
    made.post(Begin(None, None, 7))
    await_one(made, Opened)
    yield made
    assert made.close(60)


def make(engine: LocalEngine, *, ahead: bool) -> Made:
    engine.play(-math.inf, ahead=ahead)
    made = await_one(engine, Made)
    assert isinstance(made, Made)
    return made


def test_an_engine_that_samples_ahead_makes_the_chunks_of_these_rows(
    engine: LocalEngine, rows: list[np.ndarray]
) -> None:
    made = [make(engine, ahead=ahead) for ahead in (True, True, False, False, True)]
    assert all(np.array_equal(one.rows, row) for one, row in zip(made, rows, strict=False))
    assert all(np.array_equal(a.frames, b) for a, b in zip(made, plain(small_world(**ALONE), rows[:5]), strict=True))
    sampled = [one.sampled < before.ready for one, before in zip(made[1:], made, strict=False)]
    assert sampled == [True, True, False, False]


def test_exact_rows_are_sampled_when_their_chunk_begins(engine: LocalEngine, cuda: FakeCuda) -> None:
    cuda.log.clear()
    before = make(engine, ahead=False)
    for _ in range(3):
        made = make(engine, ahead=False)
        assert made.sampled >= before.ready
        before = made
    taken = [entry for entry in cuda.log if entry != "commit"]
    assert taken == ["rows", "denoise", "wait"] * 4


def test_rows_sampled_ahead_are_forgotten_with_their_line_of_play(engine: LocalEngine, rows: list[np.ndarray]) -> None:
    """Going back drops them; another way of denoising does not, for what was pressed still counts."""
    make(engine, ahead=True)
    make(engine, ahead=True)  # rows 0 and 1 played, 2 sampled
    engine.post(GoBack(1))
    await_one(engine, WentBack)
    assert np.array_equal(make(engine, ahead=True).rows, rows[3])
    engine.post(SetStream(steps=3))
    assert np.array_equal(make(engine, ahead=False).rows, rows[4])


def test_only_a_responsive_player_of_a_slow_model_is_sampled_ahead() -> None:
    def after(work: float) -> Pace:
        pace = Pace(20, 4)
        for _ in range(4):
            pace = shown(arrived(pace, work), 0.0, first=True)
        return pace

    slow, quick = after(0.3), after(0.1)
    assert samples_ahead(slow, True, False)
    assert not samples_ahead(slow, False, True)
    assert not samples_ahead(quick, True, False)
    assert samples_ahead(quick, True, True)  # it keeps up because it is


class Crossings(TorchDispatchMode):
    """Copies from the host to the device, for each of which the host waits unless they come from pinned memory."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        out = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        if any(one.device.type == "cpu" and one.dim() for one in given) and any(one.is_meta for one in out):
            self.names.append(str(func))
        return made

    def __enter__(self) -> Crossings:
        self._tensor = torch.tensor

        def lift(data: object, **options: Any) -> Tensor:
            made = self._tensor(data, **options)
            if made.is_meta:
                self.names.append("torch.tensor")
            return made

        torch.tensor = lift  # type: ignore[assignment]
        super().__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        torch.tensor = self._tensor
        super().__exit__(*reason)


@pytest.mark.parametrize("joint", [False, True])
def test_nothing_in_a_chunk_waits_for_the_device(joint: bool) -> None:
    """On the meta device nothing has a value: what asks for one raises. What is given once a game may be copied."""
    device = torch.device("meta")
    with device:
        network = FusedDiT(DiT(tiny_config()), torch_kernels("a test"))
        first, noise = torch.empty(2, 1, 8, 1, 2, 3)
        windows = ActionWindows(torch.empty(1, 1, WINDOW_ROWS, 4), torch.empty(1, 1, WINDOW_ROWS, 6))
    stream = CachedStream(network, StreamConfig(window=2, action_guidance=2.0), first, joint=joint)
    stream.set_text(None, None)
    crossings = []
    for _ in range(5):
        with Crossings() as seen:
            assert stream.denoise(noise, windows).shape == first.shape
            stream.commit()
        crossings.append(seen.names)
    assert stream.cache.filled == 2
    assert crossings[2:] == [[], [], []]


def test_crossings_are_seen() -> None:
    with Crossings() as seen:
        torch.zeros(3).to("meta")
        torch.tensor([1.0, 2.0], device="meta")
        torch.zeros(3, device="meta") + 1.0
    assert len(seen.names) == 2
