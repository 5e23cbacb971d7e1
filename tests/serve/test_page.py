"""The whole journey in a real browser: start, walk, shoot, pause, rewind, record, download, and the replay is equal."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from scope_play.bench.line import Line
from scope_play.cli import main
from scope_play.loading.request import LoadRequest
from scope_play.play import pacing
from scope_play.play.pacing import Flying, Pace
from scope_play.recording.clip import read_clip
from scope_play.session.interfaces import WorldLike
from scope_play.world import open_world
from tests.helpers.browser import DOWN, FAKE_PAD, MENU, RT, UP, VIEW, A, B, Player, browsing
from tests.helpers.serving import TOKEN, serving

PIXEL = """([x, y]) => {
  const view = document.getElementById("view");
  return [...view.getContext("2d").getImageData(x * view.width, y * view.height, 1, 1).data].slice(0, 3);
}"""

TURN_LEFT = (0.0, 0.0, -0.457, 0.0)
"""A quarter of full speed, after dead zone and curve."""


def is_orange(player: Player) -> bool:
    """Whether the target is behind the cross hair (just beside it, as it is white)."""
    red, green, blue = player.page.evaluate(PIXEL, [0.515, 0.52])
    return red > 180 and 60 < green < 170 and blue < 90


def until(player: Player, wanted: bool, chunks: int) -> None:
    last = player.chunk() + chunks
    while is_orange(player) is not wanted:
        assert player.chunk() < last, f"the target {'never came' if wanted else 'stands'}"
        player.page.wait_for_timeout(30)


def test_a_game_from_start_to_replay(tmp_path: Path) -> None:
    def nano(request: LoadRequest) -> WorldLike:
        return open_world(LoadRequest("nano"))

    with serving(tmp_path / "clips", nano) as served, browsing(served.url) as player:
        page = player.page
        player.wait("scopePlay.ready")
        player.choose("Play")
        player.screen("play")
        player.shown(2)

        player.push(*TURN_LEFT)
        until(player, True, chunks=40)
        player.push(0, 0, 0, 0)
        player.shown(player.chunk() + 3)
        assert is_orange(player)
        shot_at = player.chunk()
        player.press(RT)
        until(player, False, chunks=40)

        player.press(MENU)
        player.screen("pause")
        stood = player.chunk()
        player.choose("Start recording")
        player.wait("scopePlay.recording !== null")
        player.press(MENU)
        player.screen("play")
        player.push(0, -1, 0, 0)
        player.shown(stood + 8)
        player.push(0, 0, 0, 0)

        player.press(VIEW)
        player.screen("rewind")
        while (chosen := page.evaluate("scopePlay.strip.item.chunk")) > shot_at:
            player.press(14)
            assert page.evaluate("scopePlay.strip.item.chunk") < chosen
        player.press(A)
        player.screen("play")
        assert page.evaluate("scopePlay.player.shown") <= shot_at + 1
        until(player, True, chunks=4)  # the target stands again: its picture may still be on the way
        player.shown(shot_at + 6)

        player.press(MENU)
        player.choose("Stop recording")
        player.wait("scopePlay.recording === null")
        page.wait_for_selector("#message:has-text('saved')")
        player.choose("Clips")
        player.screen("clips")
        player.press(A)
        player.screen("clip")
        player.choose("Replay and check")
        page.wait_for_selector("#note:has-text('same: all')", timeout=120_000)
        with page.expect_download() as download:
            player.choose("Download")
        download.value.save_as(tmp_path / "clip.zip")

    with zipfile.ZipFile(tmp_path / "clip.zip") as archive:
        archive.extractall(tmp_path / "fetched")
    (clip,) = (tmp_path / "fetched").iterdir()
    assert len(read_clip(clip).metadata.branches) == 1
    assert main(["replay", str(clip), "--check"]) == 0


OVERLAPS = """() => {
  const ids = ["stats", "light", "pad", "message", "panel", "rewind", "foot"];
  const all = ids.map((id) => [id, document.getElementById(id).getBoundingClientRect()]);
  const boxes = all.filter(([, box]) => box.width);
  const inside = (b) => b.left > -1 && b.top > -1 && b.right < innerWidth + 1 && b.bottom < innerHeight + 1;
  const found = boxes.filter(([, box]) => !inside(box));
  for (const [one, a] of boxes)
    for (const [two, b] of boxes)
      if (one < two && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
        found.push([one, two]);
  for (const text of document.querySelectorAll("#start-menu .row, #stats b, #stats span, h1, h2"))
    if (text.offsetParent && text.scrollWidth > text.clientWidth + 1 && getComputedStyle(text).display !== "inline")
      found.push(text.textContent);
  return found.map(String);
}"""


@pytest.mark.parametrize(("width", "height"), [(640, 360), (1280, 720), (2560, 1440), (1024, 768)])
def test_nothing_overlaps_at_any_size(tmp_path: Path, width: int, height: int) -> None:
    with serving(tmp_path) as served, browsing(served.url, width, height) as player:
        player.wait("scopePlay.ready")
        assert player.page.evaluate(OVERLAPS) == []
        player.choose("Record")
        player.page.evaluate("scopePlay.focus = 0")
        player.press(DOWN)
        player.press(UP)
        player.press(A)
        player.screen("play")
        player.wait("scopePlay.recording !== null")
        player.shown(3)
        assert player.page.evaluate(OVERLAPS) == []
        player.press(VIEW)
        player.screen("rewind")
        assert player.page.evaluate(OVERLAPS) == []
        player.press(B)
        player.screen("pause")
        player.choose("Controls")
        player.screen("controls")
        player.page.wait_for_timeout(100)
        assert [found for found in player.page.evaluate(OVERLAPS) if "message" not in found] == []


def test_a_cut_line_a_reload_and_a_browser_without_webcodecs(tmp_path: Path) -> None:
    """As on a plain address of a network: pictures come as JPEG, and everything else works."""
    no_codecs = f"{FAKE_PAD}; delete window.VideoDecoder;"
    with (
        serving(tmp_path) as served,
        Line(served.port) as line,
        browsing(f"http://127.0.0.1:{line.port}/#{TOKEN}", init=no_codecs, cut=True) as player,
    ):
        page = player.page
        player.wait("scopePlay.ready")
        player.choose("Play")
        player.screen("play")
        player.shown(3)
        (game,) = served.lobby.games.values()
        assert game.film.codec == "jpeg"
        line.cut()
        player.screen("pause")
        player.wait("document.getElementById('curtain').hidden")
        before = player.chunk()
        player.press(A)
        player.screen("play")
        player.shown(before + 3)

        page.reload()
        player.screen("pause")
        assert player.chunk() >= before + 3
        at = player.chunk()
        player.press(A)
        player.screen("play")
        player.shown(at + 3)
        assert len(served.lobby.games) == 1

        page.evaluate("fakePad.connected = false")
        player.screen("pause")
        page.evaluate("fakePad.connected = true")
        page.wait_for_timeout(100)
        player.choose("Prompt")
        page.keyboard.type(" and a blue room")
        page.keyboard.press("Enter")
        page.wait_for_selector("#message:has-text('new prompt')")
        player.choose("Back to the start")
        player.screen("start")
        assert not game.begun


def test_keys_by_their_place(tmp_path: Path) -> None:
    with serving(tmp_path) as served, browsing(served.url) as player:
        page = player.page
        player.wait("scopePlay.ready")
        page.keyboard.press("Enter")
        player.screen("play")
        page.keyboard.down("KeyW")
        page.keyboard.down("Space")
        player.shown(player.chunk() + 3)
        page.keyboard.up("KeyW")
        page.keyboard.up("Space")
        page.keyboard.down("ArrowRight")
        player.shown(player.chunk() + 3)
        page.keyboard.up("ArrowRight")
        page.keyboard.press("Escape")
        player.screen("pause")
        (game,) = served.lobby.games.values()
        rows = np.concatenate([step.rows for step in game.keeper.tape.steps])
        assert (rows[:, 7] == -1).any()
        assert (rows[:, 2] == 1).any()
        assert np.isclose(rows[:, 8], 0.6, atol=1e-6).any()
        assert not rows[-1, :6].any()
        page.keyboard.press("Escape")
        player.screen("play")


PACE = """async (steps) => {
  const { Pace } = await import("/web/pace.js");
  const pace = new Pace(20, 4), out = [];
  for (const [kind, ...rest] of steps) {
    if (kind === "arrived") pace.arrived(...rest);
    if (kind === "shown") pace.shown(...rest);
    if (kind === "still") pace.stoodStill();
    if (kind === "begin") out.push(pace.beginAt(...rest));
  }
  return [...out, pace.interval, pace.lead(), pace.hint()];
}"""


def test_the_page_paces_as_the_window_does(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    with serving(tmp_path) as served, browsing(served.url) as player:
        for typical in (90.0, 260.0):
            pace, now, expected, steps = Pace(20, 4), 1e6, [], []
            for chunk in range(40):
                work, answer = typical + chance.uniform(-20, 20), typical + chance.uniform(20, 60)
                if chunk in (15, 16, 17, 30):
                    answer += 2000.0  # the line stood still
                steps.append(["arrived", work, answer])
                pace = pacing.arrived(pace, work / 1000, answer / 1000)
                for part in range(4):
                    now += chance.uniform(40, 75)
                    steps.append(["shown", now, part == 0])
                    pace = pacing.shown(pace, now / 1000, part == 0)
                    ready, flying = int(chance.integers(0, 5)), 4 * int(chance.integers(0, 3))
                    since = now - chance.uniform(0, 300)
                    steps.append(["begin", now, ready, flying, since])
                    begin = pacing.begin_at(pace, now / 1000, ready, Flying(flying, since / 1000))
                    expected.append(None if begin is None else begin * 1000)
            *found, interval, lead, hint = player.page.evaluate(PACE, steps)
            assert [value is None for value in found] == [value is None for value in expected]
            known = [(a, b) for a, b in zip(found, expected, strict=True) if a is not None]
            np.testing.assert_allclose([a for a, _ in known], [b for _, b in known], atol=1e-3)
            np.testing.assert_allclose([interval, lead], [1000 * pace.interval, 1000 * pacing.lead(pace)], atol=1e-6)
            assert hint == pacing.hint(pace)
            assert lead < typical + 60 + 20, "a standstill of the line does not count"
