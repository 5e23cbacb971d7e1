"""The arena as a world: what the app and the evaluation hold on to."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from scope_play.arena.arena import Arena
from scope_play.arena.behaviour import sample_rows
from scope_play.arena.world import ArenaWorld
from scope_play.bench import arena as bench
from scope_play.errors import ScopeError
from scope_play.world import WorldSpec


@pytest.fixture(scope="module")
def world() -> ArenaWorld:
    return ArenaWorld(96, 160, varied=True, threads=1)


def test_a_varied_session_is_the_arena_of_its_seed(world: ArenaWorld) -> None:
    rows = sample_rows(1, 12, 31)
    arena = Arena(1, 31)
    with world.start(seed=31) as session:
        assert np.array_equal(session.first_frame, arena.render()[0])
        for i in range(12):
            arena.step(rows[:, i])
            chunk = session.step(rows[0, i : i + 1])
            assert chunk.index == i
            assert np.array_equal(chunk.frames, arena.render())


def test_snapshot_and_restore_give_the_same_frames(world: ArenaWorld) -> None:
    rows = sample_rows(1, 20, 4)[0]
    session = world.start(seed=4)
    list(session.stream(rows[:8]))
    kept = session.snapshot()
    first = [chunk.frames for chunk in session.stream(rows[8:])]
    session.restore(kept)
    assert session.index == 8
    assert np.array_equal(first, [chunk.frames for chunk in session.stream(rows[8:])])
    assert kept.nbytes < 1000


def test_the_spec_has_every_field_that_a_world_has(world: ArenaWorld) -> None:
    names = set(WorldSpec.__dataclass_fields__) | {"frames_per_chunk"}
    assert all(hasattr(world.spec, name) for name in names)
    assert world.spec.frames_per_chunk == 1


def test_bad_use_is_refused(world: ArenaWorld) -> None:
    session = world.start()
    with pytest.raises(ScopeError, match=r"\(4, 10\).*\(1, 10\)"):
        session.step(np.zeros((4, 10), np.float32))
    with pytest.raises(ScopeError):
        session.step(np.full((1, 10), np.nan, np.float32))
    with pytest.raises(ScopeError, match="prompts"):
        world.start(prompt="rain")
    with pytest.raises(ScopeError, match="picture"):
        world.start(np.zeros((96, 160, 3), np.uint8))
    assert session.index == 0
    session.close()
    with pytest.raises(ScopeError, match="closed"):
        session.step(np.zeros((1, 10), np.float32))


def test_bench_prints_and_writes(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    parser = argparse.ArgumentParser()
    bench.configure(parser)
    path = tmp_path / "arena.json"
    options = ["--batch", "2", "--seconds", "0.01", "--threads", "1", "--json", str(path)]
    assert bench.run(parser.parse_args(options)) == 0
    assert "frames/s" in capsys.readouterr().out
    assert all(figure > 0 for figure in json.loads(path.read_text())["frames_per_second"].values())
