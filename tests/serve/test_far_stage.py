"""A game at a model elsewhere, without Ray: letters arrive in order, and a lost machine's game is made again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.play.engine.protocol import Begin
from scope_play.serve.cluster.elsewhere import FarChairs, FarStage
from scope_play.serve.cluster.post import Letter, Post
from scope_play.serve.cluster.seats import Seats
from scope_play.serve.floor import Floor
from scope_play.serve.stage import Drawn
from tests.helpers.fake_world import FakeWorld
from tests.helpers.serving import LIMIT


class Remote:
    """What an actor's handle is: `method.remote(...)` runs it in the background."""

    def __init__(self, there: Any) -> None:
        self._there = there

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._there, name)
        return type("Method", (), {"remote": staticmethod(lambda *args: asyncio.ensure_future(method(*args)))})


class Stream:
    """A request's answers, until its machine is lost."""

    def __init__(self, answers: AsyncIterator[Any], lost: asyncio.Event) -> None:
        self._answers, self._lost = answers, lost

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if self._lost.is_set():
            raise ConnectionError("the machine is gone")
        answer = asyncio.ensure_future(self._answers.__anext__())
        lost = asyncio.ensure_future(self._lost.wait())
        await asyncio.wait((answer, lost), return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        if self._lost.is_set():
            answer.cancel()
            raise ConnectionError("the machine is gone")
        return answer.result()

    def cancel(self) -> None:
        self._lost.set()


@dataclass
class Cluster:
    """As the handle of a deployment: every machine has one seat, and a world of its own."""

    worlds: list[FakeWorld]
    floors: list[Floor] = field(default_factory=list)
    lost: list[asyncio.Event] = field(default_factory=list)

    def options(self, stream: bool) -> Cluster:
        return self

    @property
    def attach(self) -> Any:
        return type("Method", (), {"remote": staticmethod(self._attach)})

    @property
    def setting(self) -> Any:
        return Remote(self._machine()).setting

    def _attach(self, post: Any, box: str) -> Stream:
        self.lost.append(asyncio.Event())
        return Stream(self._machine().attach(post, box), self.lost[-1])

    def _machine(self) -> Seats:
        world = self.worlds[min(len(self.floors), len(self.worlds) - 1)]
        seats = Seats.__new__(Seats)
        seats._floor, seats._each = Floor(LoadRequest("fake"), open_world=lambda request: world), 1 << 20
        seats._ground = seats._floor.ground.result(LIMIT)
        self.floors.append(seats._floor)
        return seats


def play(worlds: list[FakeWorld], game: Callable[[FarStage, Cluster], Any]) -> None:
    async def run() -> None:
        cluster = Cluster(worlds)
        chairs = FarChairs(cluster, Remote(Post()))
        assert (await chairs.setting()).spec.name == "fake"
        stage = await chairs.take()
        await asyncio.wait_for(game(stage, cluster), LIMIT)
        await stage.close()
        for floor in cluster.floors:
            floor.close()

    asyncio.run(run())


def rows(number: int) -> np.ndarray:
    return np.random.default_rng(number).uniform(-1, 1, (4, 10)).astype(np.float32)


async def make(stage: FarStage, number: int) -> np.ndarray:
    found: list[Drawn] = []
    await stage.make(rows(number), 0.2, 0.0, found.append)
    (drawn,) = found
    assert drawn.index == number
    return drawn.frames


def test_a_lost_machine_s_game_is_made_again_with_prompt_rewind_and_what_was_under_way() -> None:
    near = FakeWorld().start(None, "red", 5)
    for number in (1, 2):
        near.step(rows(number))
    there = near.snapshot()

    async def game(stage: FarStage, cluster: Cluster) -> None:
        told: list[str] = []
        stage.tell(told.append)
        first = await stage.begin(Begin(None, "red", 5))
        np.testing.assert_array_equal(first, FakeWorld().start(None, "red", 5).first_frame)
        for number in (1, 2, 3, 4):
            await make(stage, number)
        assert (await stage.go_back(2, lambda done, total: None))[0] == 2
        near.restore(there)
        await stage.set_prompt("a blue room")
        near.set_prompt("a blue room")
        await stage.snapshot("here")
        cluster.lost[-1].set()
        under_way = asyncio.gather(*(make(stage, number) for number in (3, 4, 5)))
        for number, frames in zip((3, 4, 5), await under_way, strict=True):
            np.testing.assert_array_equal(frames, near.step(rows(number)).frames)
        assert "was lost" in told[0]
        assert not stage.moments, "a snapshot was on the machine"
        cluster.lost[-1].set()
        np.testing.assert_array_equal(await make(stage, 6), near.step(rows(6)).frames)
        assert len(cluster.lost) == 3

    play([FakeWorld()], game)


def test_a_machine_that_draws_otherwise_ends_the_game_with_a_sentence() -> None:
    class Other(FakeWorld):
        def start(self, *arguments: Any, **options: Any) -> Any:
            session = super().start(*arguments, **options)
            session._seed = 99
            return session

    async def game(stage: FarStage, cluster: Cluster) -> None:
        await stage.begin(Begin(seed=1))
        await make(stage, 1)
        cluster.lost[-1].set()
        with pytest.raises(ScopeError, match="does not draw it alike"):
            await make(stage, 2)
        await stage.begin(Begin(seed=1))
        await make(stage, 1)

    play([FakeWorld(), FakeWorld(), Other()], game)


def test_what_a_model_raises_there_is_a_sentence_here() -> None:
    async def game(stage: FarStage, cluster: Cluster) -> None:
        with pytest.raises(ScopeError, match="no game has begun"):
            await stage.go_back(0, lambda done, total: None)
        await stage.begin(Begin(seed=1))
        await make(stage, 1)
        with pytest.raises(ScopeError, match="a bad chunk"):
            await make(stage, 2)

    # Two machines have made a chunk each to warm up.
    play([FakeWorld(errors={4: RuntimeError("a bad chunk")})], game)


def test_letters_that_overtake_each_other_are_taken_in_order() -> None:
    async def run() -> None:
        post = Post()
        await post.open("box")
        taking = asyncio.ensure_future(post.take("box"))
        for count in (2, 1):
            await post.put("box", count, Letter(count, "make"))
        await asyncio.sleep(0)
        assert not taking.done()
        await post.put("box", 0, Letter(0, "begin"))
        assert [letter.number for letter in await taking] == [0, 1, 2]
        taking = asyncio.ensure_future(post.take("box"))
        await asyncio.sleep(0)
        await post.drop("box")
        assert await taking == []
        await post.put("box", 3, Letter(3, "make"))
        assert await post.take("box") == []

    asyncio.run(run())
