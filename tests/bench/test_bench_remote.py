"""The remote benchmark counts right, on a line that does what it was told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from scope_play.bench.film import CONTENTS, measure
from scope_play.bench.line import Line
from scope_play.bench.remote import _rate
from scope_play.bench.remote_players import Bot, Knock, match
from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.wire import messages
from tests.helpers.serving import Raw, serving


def test_presses_and_marks_are_matched_in_order() -> None:
    shown = [0.0, 20_000.0]
    seen = match([1000.0, 2000.0, 3000.0], [1300.0, 2250.0, 3400.0], shown)
    assert (seen.delays, seen.lost, seen.invented) == ([0.3, 0.25, 0.4], 0, 0)
    assert match([1000.0], [500.0, 1200.0], shown).invented == 1
    assert match([1000.0, 9000.0], [9200.0], shown).lost == 1


@pytest.mark.parametrize(("text", "bits"), [("1mbit", 1e6), ("500kbit", 5e5)])
def test_rates(text: str, bits: float) -> None:
    assert _rate(text) == bits


@pytest.mark.parametrize(
    "options",
    [
        *("--rtt x", "--seconds 1", "--connect --stall 2", "--rate fast", "--seats 2 --players 2"),
        *("--seats 1 --players 2 --browser", "--size 480x832", "--model arena --size 480"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "remote", "--no-local", *options.split()]) == 2
    assert capsys.readouterr().err.startswith("scope-play: ")


def test_who_is_one_too_many_is_told_a_place(tmp_path: Path) -> None:
    with serving(tmp_path, seats=1, hold=0.5) as served:
        with pytest.raises(ScopeError, match="was not told to wait"):
            Knock(served.url)
        taken = Raw(served).hello()
        taken.until(messages.Welcome)
        knocks = [Knock(served.url) for _ in range(2)]
        assert [knock.place for knock in knocks] == [1, 2]
        for knock in knocks:
            knock.close()
        taken.close()


def test_a_camera_that_turns_takes_more_of_the_line_than_the_arena(capsys: pytest.CaptureFixture[str]) -> None:
    turning, arena = (measure(content, 96, 160, 2.0) for content in CONTENTS)
    assert turning.bits > arena.bits > 1000
    assert 0 < arena.core < 1
    assert main(["bench", "film", "--size", "96", "--seconds", "2"]) == 2
    assert "write for example 480x832" in capsys.readouterr().err


def test_a_line_delays_carries_and_limits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as echo:

        def answer() -> None:
            link, _ = echo.accept()
            while data := link.recv(1 << 16):
                link.sendall(data)

        threading.Thread(target=answer, daemon=True).start()
        with Line(echo.getsockname()[1], round_trip=0.1, rate=4e5) as line:
            link = socket.create_connection(("127.0.0.1", line.port))
            began = time.monotonic()
            link.sendall(b"x")
            assert link.recv(1) == b"x"
            assert time.monotonic() - began >= 0.1
            began, sent = time.monotonic(), b"y" * 20_000
            link.sendall(sent)
            got = b""
            while len(got) < len(sent):
                got += link.recv(1 << 16)
            assert got == sent
            assert time.monotonic() - began >= 0.1 + 8 * (len(sent) - 2 * 4096) / 4e5
            line.stall(0.3)
            began = time.monotonic()
            link.sendall(b"z")
            assert link.recv(1) == b"z"
            assert time.monotonic() - began >= 0.3
            assert line.carried == [20_002, 20_002]
            line.cut()
            with contextlib.suppress(ConnectionError):
                assert link.recv(1) == b""


def test_what_is_on_its_way_holds_up_nothing_behind_it() -> None:
    """A chunk of lossless frames is three times what a slow line keeps; a line that is only long carries it at once."""
    sent = b"z" * 300_000
    with socket.create_server(("127.0.0.1", 0)) as there, Line(there.getsockname()[1], round_trip=2.0) as line:
        link = socket.create_connection(("127.0.0.1", line.port))
        far, _ = there.accept()
        began = time.monotonic()
        threading.Thread(target=link.sendall, args=(sent,), daemon=True).start()
        left = len(sent)
        while left:
            left -= len(far.recv(1 << 16))
        took = time.monotonic() - began
        assert 1.0 <= took < 3.0  # five times 64 kB one after another would take 5
        link.close()
        far.close()


def test_a_player_without_a_picture_loses_no_press(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        bot = Bot(served.url, 0)
        bot.start()
        assert bot.ready.wait(30)
        time.sleep(2.5)
        bot.stop()
    assert (bot.seen.lost, bot.seen.invented) == (0, 0)
    assert len(bot.seen.delays) >= 2
    assert 18 < bot.seen.fps < 22


def test_a_player_that_finds_no_server_says_so() -> None:
    bot = Bot("http://127.0.0.1:9/#no-server-here", 0)
    bot.start()
    bot.join(30)
    with pytest.raises(ScopeError, match="check the address"):
        bot.stop()
