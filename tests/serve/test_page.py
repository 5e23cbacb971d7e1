"""The whole journey in a real browser: start, walk, shoot, pause, rewind, record, download, and the replay is equal."""

from __future__ import annotations

import zipfile
from pathlib import Path

from scope_play.cli import main
from scope_play.loading.request import LoadRequest
from scope_play.recording.clip import read_clip
from scope_play.session.interfaces import WorldLike
from scope_play.world import open_world
from tests.helpers.browser import MENU, RT, VIEW, A, Player, browsing
from tests.helpers.serving import serving

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
        assert is_orange(player), "the target stands again"
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
