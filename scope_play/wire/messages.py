"""Protocol 1: the JSON messages between a player and a server, each a dataclass, read strictly.

Pictures and rows travel beside them in binary (`scope_play.wire.header`). Times `t` and `now` are milliseconds of the
player's clock, on which the server makes rows: no two clocks need to agree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scope_play.errors import ScopeError
from scope_play.records import read_record, to_json

VERSION = 1
MOST_TEXT = 1 << 16
"""Characters of a message to the server; hundreds of events are less."""

BAD, UNKNOWN, OTHER_VERSION, FULL, AGAIN = 4400, 4401, 4409, 1013, 1012
"""Codes that close a connection: a bad message, a wrong token, another version, no place left, a server that goes."""


@dataclass(frozen=True)
class Hello:
    """The first message. codecs: the best first. resume: a token of an earlier `Welcome`; then `have` is the last chunk
    in hand and `shown` repeats the newest [n, t]. device: the pad's name. free: chunks may be asked for faster than
    real time."""

    version: int
    token: str
    codecs: tuple[str, ...]
    resume: str | None = None
    have: int = 0
    shown: list = field(default_factory=list)
    device: str = ""
    free: bool = False


@dataclass(frozen=True)
class Start:
    """A game. image: the id of an upload or of a scene; None is the model's own."""

    image: str | None = None
    prompt: str | None = None
    seed: int = 0
    mode: str = "exact"


@dataclass(frozen=True)
class Play:
    """Play goes on at `t`: nothing is held."""

    t: float


@dataclass(frozen=True)
class In:
    """What the hands did: [t, "button", name, pressed], [t, "stick", "left" or "right", x, y], [t, "look", dx, dy] or
    [t, "release"]."""

    events: list


@dataclass(frozen=True)
class Go:
    """Make chunk `n` of what was done until `now`."""

    n: int
    now: float


@dataclass(frozen=True)
class Shown:
    """The first frame of chunk `n` came on screen at `t`."""

    n: int
    t: float


@dataclass(frozen=True)
class Pause:
    pass


@dataclass(frozen=True)
class Rewind:
    """To the state after `chunk` chunks; what was not shown never happened."""

    chunk: int


@dataclass(frozen=True)
class Prompt:
    text: str


@dataclass(frozen=True)
class Snapshot:
    name: str


@dataclass(frozen=True)
class Restore:
    name: str


@dataclass(frozen=True)
class Record:
    on: bool


@dataclass(frozen=True)
class Key:
    """The next picture must not need an older one. codec: go on in another, if not empty."""

    codec: str = ""


@dataclass(frozen=True)
class Check:
    """Replay a clip and compare every frame."""

    clip: str


@dataclass(frozen=True)
class Ping:
    """lag: by how many ms the newest chunk took longer on its way than the quickest of late."""

    c: float
    lag: float = 0.0


@dataclass(frozen=True)
class Leave:
    """End the game; the seat stays."""


@dataclass(frozen=True)
class Welcome:
    """A seat. resume: the secret that takes it up again. spec: a `WorldSpec` in JSON. playing, chunk: whether a game is
    taken up, and the last chunk of it that the server knows to be in hand; its pictures follow."""

    version: int
    codec: str
    resume: str
    spec: dict
    model: str
    playing: bool = False
    chunk: int = 0
    recording: bool = False
    limits: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """A game has begun; its first picture follows. build, identity: as in a recording."""

    seed: int
    prompt: str | None
    identity: dict
    build: dict


@dataclass(frozen=True)
class Prompts:
    """All that this game has been given; pictures name them by their places."""

    texts: list


@dataclass(frozen=True)
class Back:
    """The world stands after `chunk` chunks; the picture follows."""

    chunk: int


@dataclass(frozen=True)
class Status:
    """What the server is doing; phase "idle" means that it has paused the game."""

    phase: str
    text: str


@dataclass(frozen=True)
class Recording:
    """state: "recording", "degraded", "saved" with the clip's id, or "failed". on: whether a recording goes on now,
    which may be a later one than what is told of."""

    state: str
    on: bool
    id: str = ""
    text: str = ""


@dataclass(frozen=True)
class Checked:
    """How far a `Check` is; `different`: the first frame that is not as recorded."""

    clip: str
    done: int
    total: int
    different: int | None = None


@dataclass(frozen=True)
class Refused:
    """Why a message changed nothing; the game goes on."""

    text: str


@dataclass(frozen=True)
class Failed:
    """Why there is no game, or no longer."""

    text: str


@dataclass(frozen=True)
class Done:
    """A prompt, a snapshot or a restore holds."""

    what: str


@dataclass(frozen=True)
class Queue:
    """All seats are taken; `place` is 1 for whoever is next."""

    place: int


@dataclass(frozen=True)
class Pong:
    c: float


@dataclass(frozen=True)
class Error:
    """The connection is about to be closed with `code`."""

    code: int
    text: str


TO_SERVER = {
    kind.__name__.lower(): kind
    for kind in (
        *(Hello, Start, Play, In, Go, Shown, Pause, Rewind, Prompt, Snapshot, Restore, Record, Key, Check, Ping, Leave),
    )
}
TO_PLAYER = {
    kind.__name__.lower(): kind
    for kind in (
        *(Welcome, Opened, Prompts, Back, Status, Recording, Checked, Refused, Failed, Done, Queue, Pong, Error),
    )
}

Message = TypeVar("Message")


def write(message: Any) -> str:
    """A message as the text of a frame."""
    return json.dumps({"type": type(message).__name__.lower(), **to_json(message)}, allow_nan=False)


def read(text: str, kinds: dict[str, Any]) -> Any:
    """One of `kinds`, `TO_SERVER` or `TO_PLAYER`.

    Raises ScopeError naming the key that is missing, unknown, of the wrong type, infinite or NaN.
    """
    try:
        if kinds is TO_SERVER and len(text) > MOST_TEXT:
            raise ScopeError(f"a message of {len(text)} characters is longer than {MOST_TEXT}; send less at once")
        data = json.loads(text, parse_constant=_refuse)
        name = data.pop("type", None) if isinstance(data, dict) else None
        if not isinstance(name, str) or name not in kinds:
            raise ScopeError(f"a message of type {str(name)[:40]!r} is not known; send one of {', '.join(kinds)}")
        return read_record(kinds[name], data, f"message {name!r}", mend=f"write it as protocol {VERSION} says")
    except ScopeError:
        raise
    except (ValueError, ArithmeticError, RecursionError, TypeError) as error:
        raise ScopeError(f"a message is no JSON object ({type(error).__name__}); send one") from error


def _refuse(constant: str) -> None:
    raise ScopeError(f"a message has {constant}, which is no number; send finite numbers")
