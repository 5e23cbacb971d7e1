"""What comes from outside, damaged in every way that chance finds: a result or one sentence, never a traceback."""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scope_play.actions import read_actions
from scope_play.errors import ScopeError
from scope_play.images import read_image
from scope_play.loading.nano import parse_native_config
from scope_play.recording.clip import ACTIONS, read_clip
from scope_play.recording.journal import JOURNAL, read_journal
from scope_play.weights.catalog import NANO_MODELS, nano_folder
from tests.helpers.recordings import record

FUZZED = 500
"""Of each kind, seeded; ten times as many were tried once."""
CUT_EXIF = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0"
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut off, doubled or left out, mostly near the beginning, where the structure is."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = min(int(rng.expovariate(4 / max(1, len(made)))), max(0, len(made) - 1))
        match rng.randrange(4):
            case 0:
                made[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del made[place:]
            case 2:
                del made[place : place + rng.randrange(1, 9)]
            case _:
                made[place:place] = made[place : place + rng.randrange(1, 9)]
    return bytes(made)


def refused(read: Callable[[], object]) -> bool:
    """Whether it ended in one sentence; anything else but a result is a failure."""
    said = None
    try:
        read()
    except ScopeError as error:
        said = str(error)
    assert said is None or len(said.splitlines()) == 1
    return said is not None


def pictures() -> dict[str, bytes]:
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "png": (Image.fromarray(PICTURE), {"format": "PNG"}),
        "palette": (Image.fromarray(PICTURE).quantize(16), {"format": "PNG"}),
        "jpeg": (
            Image.fromarray(PICTURE),
            {"format": "JPEG", "exif": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0"},
        ),
        "webp": (Image.fromarray(PICTURE), {"format": "WEBP"}),
        "gif": (Image.fromarray(PICTURE), {"format": "GIF"}),
        "bmp": (Image.fromarray(PICTURE), {"format": "BMP"}),
        "tiff": (Image.fromarray(PICTURE), {"format": "TIFF", "compression": "tiff_lzw"}),
        "float": (Image.fromarray(PICTURE[..., 0].astype(np.float32)), {"format": "TIFF"}),
        "grey16": (Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257), {"format": "PNG"}),
    }
    made = {}
    for name, (image, options) in kinds.items():
        stream = io.BytesIO()
        image.save(stream, **options)
        made[name] = stream.getvalue()
    return made


@pytest.mark.parametrize("kind", pictures())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pictures(kind: str) -> None:
    whole, rng = pictures()[kind], random.Random(kind)
    assert read_image(whole).shape == (24, 40, 3)

    def read() -> None:
        found = read_image(damaged(whole, rng))
        assert found.dtype == np.uint8
        assert found.ndim == 3
        assert found.shape[2] == 3

    assert sum(refused(read) for _ in range(FUZZED // len(pictures()))) > 5


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("I;16", np.arange(0, 65536, 1024, dtype=np.uint16)),
        ("I", np.arange(0, 65536, 1024, dtype=np.int32)),
        ("I", np.arange(0, 256, 4, dtype=np.int32)),
        ("F", np.linspace(0, 1, 64, dtype=np.float32)),
        ("F", np.linspace(0, 255, 64, dtype=np.float32)),
        ("F", np.linspace(0, 65535, 64, dtype=np.float32)),
    ],
)
def test_pictures_of_many_levels_are_neither_white_nor_black(mode: str, values: np.ndarray) -> None:
    stream = io.BytesIO()
    image = Image.fromarray(np.tile(values, (8, 1)))
    assert image.mode == mode
    image.save(stream, format="TIFF")
    found = read_image(stream.getvalue())[0, :, 0].astype(int)
    assert found[0] < 8
    assert found[-1] > 240
    assert (np.diff(found) >= 0).all()
    assert len(set(found)) > 50


def edited(value: Any, rng: random.Random) -> Any:
    """One number, text or list of a config changed for another, somewhere in it."""
    made = copy.deepcopy(value)
    spot: Any = made
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        key = rng.choice(keys)
        inner = spot[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.8:
            spot = inner
            continue
        if isinstance(spot, dict) and rng.random() < 0.1:
            del spot[key]
        else:
            spot[key] = rng.choice([None, 0, -1, 1, 2.5, 1e9, float("nan"), "no", True, [], [1], {}, {"a": 1}, 10**20])
        return made


@pytest.mark.parametrize("name", NANO_MODELS)
def test_configs(name: str) -> None:
    whole, rng = json.loads((nano_folder(name) / "config.json").read_text()), random.Random(name)
    parse_native_config(whole, "config.json")
    tried = [refused(lambda: parse_native_config(edited(whole, rng), "config.json")) for _ in range(FUZZED)]
    assert sum(tried) > FUZZED // 2


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("clip"), 4, rewinds={3: 1}, prompts={2: "a hall"})


@pytest.mark.parametrize("name", [ACTIONS, "metadata.json"])
def test_clips(clip: Path, tmp_path: Path, name: str) -> None:
    copied, rng = tmp_path / "clip", random.Random(name)
    shutil.copytree(clip, copied)
    whole = (copied / name).read_bytes()
    count = 0
    for _ in range(FUZZED // 2):
        (copied / name).write_bytes(damaged(whole, rng))
        count += refused(lambda: read_clip(copied))
        if name == ACTIONS:
            refused(lambda: read_actions(copied / name))
    assert count > 50


def test_journals(tmp_path: Path) -> None:
    from scope_play.recording.recorder import Recorder
    from tests.helpers.fake_world import FakeWorld
    from tests.helpers.recordings import header_of, random_rows

    world, generator = FakeWorld(), np.random.default_rng(5)
    session = world.start(None, "a yard", 3)
    recorder = Recorder(tmp_path, header_of(world), session.first_frame)
    for number in range(3):
        rows = random_rows(generator)
        recorder.add_chunk(session.step(rows).frames, rows, 0.2 * number, 0.2 * number, 0)
    while (recorder.path / JOURNAL).read_bytes().count(b"\n") < 4:
        pass
    whole, rng = (recorder.path / JOURNAL).read_bytes(), random.Random(1)
    recorder.close("quit")
    path = tmp_path / "journal"
    count = 0
    for _ in range(FUZZED):
        path.write_bytes(damaged(whole, rng))
        count += refused(lambda: read_journal(path))
    assert 20 < count < FUZZED


def test_messages() -> None:
    """Those of a player, and what the hands did in them, damaged."""
    from scope_play.serve.hands import Hands
    from scope_play.wire import messages

    did = [[10.0, "button", "right_trigger", True], [12.5, "stick", "left", 0.5, -1.0], [13.0, "look", 3.0, 0.0]]
    sent = [
        messages.Hello(messages.VERSION, "t" * 32, ("h264", "jpeg"), resume="r" * 24, have=3, shown=[[2, 41.5]]),
        messages.Start("scene-1", "a hall", 7, "exact"),
        messages.In([*did, [14.0, "release"]]),
        messages.Go(4, 812.25),
        messages.Shown(3, 700.5),
        messages.Rewind(2),
        messages.Prompt("a hall at night"),
        messages.Snapshot("before"),
        messages.Record(True),
        messages.Ping(99.5, 3.0),
    ]
    texts, rng = [messages.write(message).encode() for message in sent], random.Random(3)
    count = 0

    def take(text: bytes) -> None:
        message = messages.read(text.decode("utf-8", "replace"), messages.TO_SERVER)
        if isinstance(message, messages.In):
            Hands().take(message.events)

    for text in texts:
        assert not refused(partial(take, text))
    for number in range(FUZZED):
        count += refused(partial(take, damaged(texts[number % len(texts)], rng)))
    assert count > FUZZED // 2
