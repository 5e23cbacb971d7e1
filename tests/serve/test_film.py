"""Pictures on their way: every codec gives back what it says, keys stand for themselves, a bad line costs quality."""

from __future__ import annotations

import numpy as np
import pytest

from scope_play.errors import ScopeError
from scope_play.serve.film import Film
from scope_play.wire.header import CODECS, FRAME, STILL, Picture, read_picture
from scope_play.wire.video import make_decoder, make_encoder
from tests.helpers.fake_world import fake_spec


def moving(n: int, height: int = 96, width: int = 160) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    frames = [np.stack([128 + 100 * np.sin((x + 3 * t) / 11), 2 * y, 90 + 0 * x], -1) for t in range(n)]
    return np.stack(frames).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(96, 160), (47, 81)])
def test_one_picture_in_is_one_out(codec: str, size: tuple[int, int]) -> None:
    frames = moving(8, *size)
    encoder, decoder = make_encoder(codec, *size, 20), make_decoder(codec, *size)
    for number, frame in enumerate(frames):
        payload, key = encoder.encode(frame, number == 5)
        assert key or codec in ("h264", "lossless")
        if number in (0, 5):
            assert key
            decoder = make_decoder(codec, *size)  # as for somebody who has just come
        found = decoder.decode(payload)
        if codec in ("lossless", "raw"):
            np.testing.assert_array_equal(found, frame)
        else:
            assert np.abs(found.astype(int) - frame).mean() < 6
    assert 0 < len(payload) < frames[0].nbytes or codec == "raw"


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_picture_is_a_sentence(codec: str) -> None:
    with pytest.raises(ScopeError):
        make_decoder(codec, 96, 160).decode(b"\x00\x00\x00\x01 no picture at all")


def test_a_header_comes_back() -> None:
    picture = Picture(FRAME, "jpeg", True, 3, 70_000, b"payload", 1.5e12 + 0.25, 1.0, 2.0, 3.0, 4.0, 5.0, 9)
    assert read_picture(picture.pack()) == picture
    with pytest.raises(ScopeError, match="too short"):
        read_picture(picture.pack()[:30])
    with pytest.raises(ScopeError, match="kind 9"):
        read_picture(b"\x09" + picture.pack()[1:])


def test_a_late_line_costs_quality_and_a_new_watcher_gets_a_key() -> None:
    film = Film(fake_spec(height=96, width=160))
    film.use("h264")
    found: list[Picture] = []

    def next_chunk() -> list[Picture]:
        found.clear()
        film.run(lambda: film.chunk(moving(4), {"chunk": 1}, found.append)).result(20)
        return list(found)

    assert [picture.key for picture in next_chunk()] == [True, False, False, False]
    fine = next_chunk()
    assert not any(picture.key for picture in fine)
    film.strain(0.05)
    assert film.quality == 0
    film.strain(0.5)
    film.strain(0.5)
    assert film.quality == 1, "one step at a time"
    coarse = next_chunk()
    assert coarse[0].key
    assert sum(len(p.payload) for p in coarse[1:]) < sum(len(p.payload) for p in fine[1:])
    film.use("jpeg")
    still = film.run(lambda: film.still(moving(1)[0], 7)).result(20)
    assert (still.kind, still.codec, still.chunk, still.key) == (STILL, "jpeg", 7, True)
    film.close()
