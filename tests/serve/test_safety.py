"""The network is hostile: whoever may not play cannot, and whatever is sent costs its own connection and no other."""

from __future__ import annotations

import http.client
import io
import json
import math
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from scope_play.commands.serve import read_token
from scope_play.errors import ScopeError
from scope_play.serve.config import ServeConfig
from scope_play.serve.guard import host_allowed, origin_allowed
from scope_play.serve.hands import Hands
from scope_play.serve.run import addresses
from scope_play.wire import messages
from scope_play.wire.header import pack_rows, read_picture, read_rows
from scope_play.wire.world import RemoteWorld
from tests.helpers.serving import TOKEN, Raw, Served, serving

ROWS = np.zeros((4, 10), np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("clips"), seats=4, hello=0.3) as running:
        yield running


@pytest.fixture(autouse=True)
def everybody_leaves(served: Served) -> Iterator[None]:
    yield
    served.call(free_all(served))


async def free_all(served: Served) -> None:
    for game in list(served.lobby.games.values()):
        await served.lobby.free(game, "the test is over")


def ask(
    served: Served, method: str, path: str, body: bytes = b"", token: str | None = TOKEN, **headers: str
) -> tuple[int, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    given = {"authorization": f"Bearer {token}"} if token else {}
    link.request(method, path, body, {**given, **headers})
    answer = link.getresponse()
    return answer.status, answer.read()


def playing(served: Served) -> Raw:
    raw = Raw(served).hello()
    raw.until(messages.Welcome)
    raw.send(messages.Start())
    raw.until(messages.Opened)
    raw.until(bytes)
    raw.send(messages.Play(1000.0))
    return raw


def still_serves(served: Served) -> None:
    with RemoteWorld(served.url) as world, world.start(seed=3) as session:
        assert session.step(ROWS).frames.shape == (4, 48, 80, 3)


@pytest.mark.parametrize("path", ["/clips", "/scenes", "/scenes/1", "/clips/x/zip", "/clips/x/video"])
def test_nothing_is_told_without_the_token(served: Served, path: str) -> None:
    assert ask(served, "GET", path, token=None)[0] == 401
    assert ask(served, "GET", path, token=TOKEN[:-1])[0] == 401
    assert ask(served, "POST", "/pictures", b"x", token="")[0] == 401


@pytest.mark.parametrize("changes", [{"token": ""}, {"token": TOKEN + "x"}, {"token": "\u00e9" * 32}])
def test_a_wrong_token_is_closed(served: Served, changes: dict[str, Any]) -> None:
    assert Raw(served).hello(**changes).code() == messages.UNKNOWN


def test_another_version_is_told_apart(served: Served) -> None:
    raw = Raw(served).hello(version=2)
    assert "install the same app" in raw.until(messages.Error).text
    assert raw.code() == messages.OTHER_VERSION


def test_whoever_says_nothing_is_closed(served: Served) -> None:
    assert Raw(served).code() == messages.UNKNOWN


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", ""])
def test_another_name_is_refused(served: Served, host: str) -> None:
    """As a page does that has its own name point at this machine."""
    assert ask(served, "GET", "/", token=None, host=host)[0] in (400, 403)
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert ask(served, "GET", "/ws", token=None, host=host, **upgrade, **key)[0] in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "file://", ""])
def test_a_foreign_page_is_refused(served: Served, origin: str) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus, match="403"):
        Raw(served, origin=origin)
    assert ask(served, "POST", "/pictures", b"x", origin=origin)[0] == 403


def test_names_and_origins() -> None:
    assert all(host_allowed(host, ()) for host in ("localhost:1", "127.0.0.1:8710", "[::1]:8710", "[::1]", "10.0.0.7"))
    assert host_allowed("gpu.lan:8710", ("gpu.lan",))
    assert not any(host_allowed(host, ("gpu.lan",)) for host in ("", "a.gpu.lan", "gpu.lan.evil", "127.0.0.1.evil"))
    assert origin_allowed(None, "localhost:1")
    assert origin_allowed("https://gpu.lan", "gpu.lan")
    assert not origin_allowed("http://localhost:2", "localhost:1")


def test_the_page_may_load_nothing_from_elsewhere(served: Served) -> None:
    link = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    link.request("GET", "/")
    answer = link.getresponse()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy.replace("'self'", "")
    assert TOKEN.encode() not in answer.read()


GARBAGE = [
    "",
    "{",
    "[]",
    "null",
    "[" * 100_000,
    '{"type": "go"}',
    '{"type": "nothing"}',
    '{"type": ["go"]}',
    '{"type": "go", "n": 1, "now": NaN}',
    '{"type": "go", "n": 1, "now": Infinity}',
    '{"type": "go", "n": 1, "now": 1e999}',
    '{"type": "go", "n": 1.5, "now": 1}',
    '{"type": "go", "n": true, "now": 1}',
    '{"type": "go", "n": 1, "now": 1' + "0" * 5000 + "}",
    '{"type": "go", "n": 99, "now": 2000}',
    '{"type": "shown", "n": 7, "t": 1}',
    '{"type": "rewind", "chunk": -1}',
    '{"type": "rewind", "chunk": 1000000}',
    '{"type": "in", "events": [[NaN, "button", "south", true]]}',
    '{"type": "in", "events": [[2000, "button", "start", true]]}',
    '{"type": "in", "events": [[2000, "stick", "left", 1e9, 0]]}',
    '{"type": "in", "events": [[2000, "stick", "middle", 0, 0]]}',
    '{"type": "in", "events": [[2000, "button", "south", 1]]}',
    '{"type": "in", "events": [[1, "button", "south", true]]}',
    '{"type": "in", "events": [{}]}',
    '{"type": "in", "events": ' + json.dumps([[2000, "release"]] * 513) + "}",
    '{"type": "play", "t": -5}',
    '{"type": "key", "codec": "mpeg"}',
    '{"type": "ping", "c": 1, "more": 2}',
    messages.write(messages.Hello(1, TOKEN, ("raw",))),
    b"",
    b"\x03",
    b"\xff" * 5000,
    pack_rows(1, 2000.0, np.full((4, 10), 0.5, np.float32)),
    pack_rows(1, 2000.0, np.full((4, 10), np.nan, np.float32)),
    pack_rows(1, math.nan, ROWS),
    pack_rows(1, 2000.0, ROWS[:3]),
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_closes_its_own_connection_with_a_sentence(served: Served, data: str | bytes) -> None:
    friend = playing(served)
    raw = playing(served)
    raw.send(data)
    error = raw.until(messages.Error)
    assert error.code == messages.BAD
    assert "\n" not in error.text
    assert len(error.text) < 400
    assert raw.code() == messages.BAD
    friend.send(messages.Go(1, 2000.0))
    assert read_picture(friend.until(bytes)).chunk == 1
    friend.send(messages.Leave())
    for each in (raw, friend):
        each.close()


VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
EVENTS = st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
    lambda event: json.dumps({"type": "in", "events": [event]})
)


@settings(max_examples=300, deadline=None)
@given(st.text() | EVENTS)
def test_any_text_is_a_message_or_a_sentence(text: str) -> None:
    said = ""
    try:
        Hands().take(messages.read(text, {"in": messages.In}).events)
    except ScopeError as error:
        said = str(error)
    assert said
    assert "\n" not in said


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_a_sentence(data: bytes) -> None:
    with pytest.raises(ScopeError):
        read_rows(data, 4)


def test_too_much_at_once_closes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scope_play.serve.visit.MESSAGES_A_SECOND", 60.0)  # not what this machine can read of 600
    raw = playing(served)
    with suppress(ConnectionClosed):  # it may be closed before all is sent
        for _ in range(3000):
            raw.send(messages.Ping(1.0))
    assert "more than 60 messages" in raw.until(messages.Error).text
    assert raw.code() == messages.BAD
    big = playing(served)
    with suppress(ConnectionClosed):
        big.send('{"type": "prompt", "text": "' + "x" * (2 << 20) + '"}')
    assert big.code() in (1009, 1006)
    still_serves(served)


def test_chunks_that_are_never_shown_are_not_made_without_end(served: Served) -> None:
    raw = playing(served)
    made = 0
    for n in range(1, 9):
        raw.send(messages.Go(n, 2000.0 + n))
        while made < n:
            made = max(made, read_picture(raw.until(bytes)).chunk)
    raw.send(messages.Go(9, 3000.0))
    assert "shown" in raw.until(messages.Error).text


def test_whoever_never_reads_loses_the_connection_and_the_others_play(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scope_play.serve.visit.MOST_BYTES", 200_000)
    monkeypatch.setattr("scope_play.serve.visit.SEND_SECONDS", 0.5)
    deaf = Raw(served, max_queue=1).hello()
    deaf.until(messages.Welcome)
    deaf.send(messages.Start())
    deaf.until(messages.Opened)
    game = next(game for game in served.lobby.games.values() if game.out)
    deaf.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(3000):
        if game.out is None:
            break
        served.loop.call_soon_threadsafe(game.send, messages.Status("test", "x" * 10_000))
        still_there = served.call(nothing())
        assert still_there is None
    deadline = 200
    while game.out is not None and deadline:
        served.call(nothing(0.05))
        deadline -= 1
    assert game.out is None
    still_serves(served)
    deaf.close()


async def nothing(seconds: float = 0.0) -> None:
    import asyncio

    await asyncio.sleep(seconds)


def png(width: int, height: int) -> bytes:
    """The head of a picture of that size, and none of its pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


def gif() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "GIF")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "status"),
    [(png(30_000, 30_000), 400), (b"", 400), (b"GIF89a", 400), (gif(), 400), (b"\0" * (17 << 20), 413)],
    ids=["30000x30000", "empty", "no picture", "gif", "17 MB"],
)
def test_pictures_that_are_not_taken(served: Served, data: bytes, status: int) -> None:
    assert ask(served, "POST", "/pictures", data)[0] == status


def test_a_picture_that_is_damaged_behind_its_head_is_a_sentence(served: Served) -> None:
    status, answer = ask(served, "POST", "/pictures", png(64, 64))
    assert status == 200
    raw = Raw(served).hello()
    raw.until(messages.Welcome)
    raw.send(messages.Start(json.loads(answer)["id"]))
    assert "picture" in raw.until(messages.Failed).text
    raw.send(messages.Start())
    raw.until(messages.Opened)


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", "%2e%2e%2fetc%2fpasswd", "scene-1", "a" * 5000, "\u2603"])
def test_names_reach_no_path(served: Served, name: str) -> None:
    from urllib.parse import quote

    for path in ("/clips/{}/zip", "/clips/{}/video", "/scenes/{}", "/web/{}"):
        status, body = ask(served, "GET", path.format(quote(name, safe="%")))
        assert status in (400, 404, 405)
        assert b"root:" not in body
    raw = Raw(served).hello()
    raw.until(messages.Welcome)
    raw.send(messages.Start(f"{name}/../x"))
    assert "no picture" in raw.until(messages.Failed).text
    raw.send(messages.Check(name))
    assert "no clip" in raw.until(messages.Refused).text


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "gpu.example"])
def test_other_addresses_need_tls_or_a_word(host: str, tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="insecure-lan"):
        ServeConfig(host=host)
    ServeConfig(host=host, insecure_lan=True)
    ServeConfig(host=host, tls_cert=tmp_path, tls_key=tmp_path)
    with pytest.raises(ScopeError, match="tls-key"):
        ServeConfig(host=host, tls_cert=tmp_path)


def test_the_printed_address_is_one_that_is_let_in() -> None:
    for names in ((), ("gpu.lan",)):
        config = ServeConfig(host="0.0.0.0", insecure_lan=True, names=names)
        printed = next(addresses(config, 8710, TOKEN)).split("/")[2]
        assert host_allowed(printed.lower(), config.known_names)


def test_the_default_listens_on_this_machine_alone() -> None:
    from scope_play.serve.run import listen

    with listen(ServeConfig(port=0)) as made:
        port = made.getsockname()[1]
        found = [c.laddr.ip for c in psutil.Process().net_connections("tcp") if c.laddr and c.laddr.port == port]
    assert found == ["127.0.0.1"]


def test_small_pictures_do_not_wait_for_acknowledgements() -> None:
    """Nagle's algorithm is off for every player's socket, and asyncio knows each as TCP's."""
    from scope_play.serve.run import listen

    with listen(ServeConfig(port=0)) as made, socket.create_connection(made.getsockname()):
        accepted, _ = made.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("token", ["short", "with spaces in it, but long", "\u00e9" * 40, ""])
def test_a_token_of_one_s_own_must_be_one(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token, "utf-8")
    with pytest.raises(ScopeError, match="token"):
        read_token(tmp_path / "token")
    with pytest.raises(ScopeError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_a_recording_ends_where_the_seat_s_share_of_the_disk_does(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scope_play.serve.keeper.WEIGH_EVERY", 2)
    monkeypatch.setattr("scope_play.serve.archive.QUOTA_BYTES", 100)
    raw = playing(served)
    raw.send(messages.Record(True))
    assert raw.until(messages.Recording).state == "recording"
    for n in (1, 2):
        raw.send(messages.Go(n, 2000.0 + n))
        while read_picture(raw.until(bytes)).part != 3:
            pass
        raw.send(messages.Shown(n, 2000.0 + n))
    assert "all that a seat may have" in raw.until(messages.Refused).text
    assert raw.until(messages.Recording).state == "saved"
    raw.send(messages.Record(True))
    assert "all that a seat may have" in raw.until(messages.Refused).text
