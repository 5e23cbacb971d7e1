"""One model for several games: whose chunk is next, and that each game is the one it would be alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.serve.floor import Floor, require_memory
from scope_play.wire import messages
from scope_play.wire.header import read_picture
from scope_play.wire.world import RemoteSession, RemoteWorld
from scope_play.world import open_world
from tests.helpers.fake_world import FakeWorld
from tests.helpers.serving import LIMIT, Raw, serving


@pytest.fixture
def floor() -> Iterator[Floor]:
    made = Floor(LoadRequest("fake"), open_world=lambda request: FakeWorld())
    made.ground.result(LIMIT)
    yield made
    assert made.close()


def test_the_job_that_is_due_first_is_next_and_an_owner_s_own_keep_their_order(floor: Floor) -> None:
    began, goes_on = threading.Event(), threading.Event()
    order: list[str] = []

    def hold() -> None:
        began.set()
        assert goes_on.wait(LIMIT)

    held = floor.ask("first", hold)
    assert began.wait(LIMIT)
    now = floor.clock()
    jobs = [
        floor.ask("a", lambda: order.append("a, due late"), due=now + 3),
        floor.ask("a", lambda: order.append("a, due soon but behind"), due=now + 0.5),
        floor.ask("b", lambda: order.append("b"), due=now + 1),
        floor.ask("c", lambda: order.append("c, not yet"), due=now, not_before=now + 0.2),
    ]
    goes_on.set()
    for job in (held, *jobs):
        job.result(LIMIT)
    assert order == ["b", "a, due late", "a, due soon but behind", "c, not yet"]


def test_a_long_job_lets_others_pass_but_not_its_own(floor: Floor) -> None:
    order: list[str] = []
    ready = threading.Event()

    def long() -> None:
        assert ready.wait(LIMIT)
        floor.serve_others()
        order.append("long")

    jobs = [
        floor.ask("a", long),
        floor.ask("a", lambda: order.append("own")),
        floor.ask("b", lambda: order.append("b")),
    ]
    ready.set()
    for job in jobs:
        job.result(LIMIT)
    assert order == ["b", "long", "own"]


def test_what_a_job_raises_goes_to_whoever_asked(floor: Floor) -> None:
    def fail() -> None:
        raise RuntimeError("a bad chunk")

    with pytest.raises(RuntimeError, match="a bad chunk"):
        floor.ask("a", fail).result(LIMIT)
    assert floor.ask("a", lambda: 3).result(LIMIT) == 3


def test_who_plays_shares_the_model(floor: Floor) -> None:
    assert floor.worked("a", 0.1) == pytest.approx(0.1)
    assert floor.worked("b", 0.2) == pytest.approx(0.3)
    floor.forget("a")
    assert floor.worked("b", 0.2) == pytest.approx(0.2)


def test_two_games_at_once_are_the_two_games_one_by_one(tmp_path: Path, quick_look: None) -> None:
    """With nano's network, chunk by chunk in turns."""
    chance = np.random.default_rng(3)
    rows = chance.integers(0, 2, (2, 5, 4, 10)).astype(np.float32)
    with (
        serving(tmp_path, lambda request: open_world(LoadRequest("nano-96x160"))) as served,
        RemoteWorld(served.url) as world,
        world.start(seed=1) as one,
        world.start(seed=2) as two,
    ):
        found: dict[int, list[np.ndarray]] = {0: [], 1: []}

        def step(which: int, session: RemoteSession) -> None:
            found[which] += [session.step(each).frames for each in rows[which]]

        threads = [threading.Thread(target=step, args=args) for args in ((0, one), (1, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alone = served.floor.ground.result().world

        def again(which: int) -> list[np.ndarray]:
            session = alone.start(seed=which + 1)
            return [session.step(each).frames for each in rows[which]]

        for which in (0, 1):
            expected = served.floor.ask("alone", partial(again, which)).result(LIMIT)
            np.testing.assert_array_equal(np.stack(found[which]), np.stack(expected))


def test_going_far_back_does_not_stop_a_friend(tmp_path: Path) -> None:
    with serving(tmp_path, lambda request: FakeWorld(snapshot_bytes=1 << 40, seconds=0.02)) as served:
        raws = [Raw(served).hello() for _ in range(2)]
        for raw in raws:
            raw.until(messages.Welcome)
            raw.send(messages.Start())
            raw.until(messages.Opened)
            raw.until(bytes)
            raw.send(messages.Play(1.0))
        far, friend = raws
        for n in range(1, 21):
            far.send(messages.Go(n, 10.0 * n))
            while read_picture(far.until(bytes)).part != 3:
                pass
            far.send(messages.Shown(n, 10.0 * n))
        far.send(messages.Rewind(19))
        assert far.until(messages.Status).phase == "rewinding"
        friend.send(messages.Go(1, 10.0))
        friend.until(bytes)
        game = next(game for game in served.lobby.games.values() if game.turn.locked())
        assert game is not None, "the friend's chunk came while the other was still going back"
        assert far.until(messages.Back).chunk == 19
        for raw in raws:
            raw.close()


def test_seats_that_do_not_fit_are_refused_before_anybody_plays() -> None:
    require_memory(4, session_bytes=1 << 30, history_bytes=1 << 29, device_free=5 << 30, host_free=5 << 30)
    with pytest.raises(ScopeError, match="--seats 3"):
        require_memory(4, session_bytes=1 << 30, history_bytes=0, device_free=(7 << 30) // 2, host_free=1 << 40)
    with pytest.raises(ScopeError, match="1 seat takes 2 MB and 1 MB are free; choose a smaller window or model"):
        require_memory(1, session_bytes=2 << 20, history_bytes=0, device_free=1 << 20, host_free=1 << 40)
    with pytest.raises(ScopeError, match="history-mb"):
        require_memory(1, session_bytes=1, history_bytes=1 << 30, device_free=1 << 40, host_free=1 << 20)
