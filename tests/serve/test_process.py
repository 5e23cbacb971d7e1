"""`scope-play serve` as a process: what it prints, shows to others on the machine, and does when it is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from scope_play.cli import main
from scope_play.recording.clip import read_clip
from scope_play.wire import messages
from scope_play.wire.header import read_picture
from tests.helpers.serving import TOKEN, Raw

SECONDS = 60


@contextlib.contextmanager
def started(*options: str) -> Iterator[SimpleNamespace]:
    """The command with nano, once it is ready: its `process`, `port` and the `lines` it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scope_play.cli", "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SCOPE_PLAY_TOKEN": TOKEN},
    )
    try:
        lines: list[str] = []
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if "is ready" in line:
                break
        assert lines[0].startswith("Open http://127.0.0.1:"), lines
        port = int(lines[0].split("/#")[0].rpartition(":")[2])
        yield SimpleNamespace(process=process, port=port, lines=lines)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def play(raw: Raw, first: int, last: int) -> None:
    for n in range(first, last + 1):
        raw.send(messages.Go(n, 1000.0 + 200 * n))
        while read_picture(raw.until(bytes)).part != 3:
            pass
        raw.send(messages.Shown(n, 1100.0 + 200 * n))


def begin(server: SimpleNamespace) -> Raw:
    raw = Raw(server).hello()  # type: ignore[arg-type]
    raw.until(messages.Welcome)
    raw.send(messages.Start(seed=5))
    raw.until(messages.Opened)
    raw.until(bytes)
    raw.send(messages.Play(1000.0))
    return raw


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another system")
def test_ctrl_c_closes_recordings(tmp_path: Path) -> None:
    with started("--record", str(tmp_path)) as server:
        process = psutil.Process(server.process.pid)
        everybody = [process, *process.children(recursive=True)]
        assert not any(TOKEN in argument for each in everybody for argument in each.cmdline())
        listening = [c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.1"]
        assert f"ssh -N -L {server.port}:localhost:{server.port}" in server.lines[1]

        raw = begin(server)
        play(raw, 1, 3)
        raw.send(messages.Record(True))
        raw.until(messages.Recording)
        play(raw, 4, 6)
        raw.send(messages.Ping(1.0))
        raw.until(messages.Pong)
        server.process.send_signal(signal.SIGINT)
        rest, _ = server.process.communicate(timeout=SECONDS)
        assert server.process.returncode == 0, rest
        assert "recordings are closed" in rest
        assert "Traceback" not in rest
    (folder,) = tmp_path.iterdir()
    clip = read_clip(folder)
    assert (clip.metadata.frames, clip.metadata.before.chunks if clip.metadata.before else 0) == (13, 3)
    assert clip.metadata.ending.reason == "the server was stopped"
    assert main(["replay", str(folder), "--check"]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another system")
def test_sigterm_lets_games_end(tmp_path: Path) -> None:
    with started("--record", str(tmp_path), "--drain", "40") as server:
        raw = begin(server)
        play(raw, 1, 2)
        server.process.send_signal(signal.SIGTERM)
        assert raw.until(messages.Status).phase == "draining"
        late = Raw(server).hello()  # type: ignore[arg-type]
        assert late.code() == messages.AGAIN
        play(raw, 3, 5)
        raw.send(messages.Leave())
        rest, _ = server.process.communicate(timeout=SECONDS)
        assert server.process.returncode == 0, rest
        assert "Traceback" not in rest


def test_an_address_in_use_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err
