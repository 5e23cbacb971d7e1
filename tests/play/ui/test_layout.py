"""Nothing overlaps and nothing leaves the window, from the smallest size to the largest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pygame
import pytest

from scope_play.play.input.bindings import ControllerMap
from scope_play.play.input.bindings_text import caps, legend
from scope_play.play.input.events import PadState
from scope_play.play.menus import items as menu_items
from scope_play.play.menus.items import Form
from scope_play.play.menus.menu import Item, Menu
from scope_play.play.menus.textbox import TextBox
from scope_play.play.playback import Split
from scope_play.play.settings import Settings
from scope_play.play.ui import frame_view, hud, menu_view, panels, rewind_screen, start_screen, textbox_view
from scope_play.play.ui.keycaps import Holding
from scope_play.play.ui.theme import MUTED, Theme, letterbox
from tests.helpers.fake_world import fake_spec

SIZES = [(640, 360), (800, 600), (1280, 720), (1920, 1080), (2560, 1440), (3440, 1440), (480, 800)]
PAD = Holding("Xbox pad", True)
LONG = "The disk is too slow for the video, so the recording goes on with actions only; choose a faster disk next time."


@pytest.fixture(autouse=True)
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    pygame.font.init()
    pygame.display.set_mode((640, 360))
    yield
    pygame.display.quit()


def apart(rects: dict[str, pygame.Rect], window: tuple[int, int]) -> None:
    for name, rect in rects.items():
        assert pygame.Rect((0, 0), window).contains(rect), name
        assert rect.width > 0, name
        assert rect.height > 0, name
    for (one, first), (two, second) in combinations(rects.items(), 2):
        assert not first.colliderect(second), f"{one} over {two}"


def everything(message: str) -> hud.Shown:
    stats = hud.Stats(19.97, "slow 0.88x", Split(0.1, 0.01, 0.12, 0.04, 0.003))
    return hud.Shown(stats, PadState(), 4000.0, "untrained", message, True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("message", ["Saved.", LONG])
def test_the_overlays_keep_apart(size: tuple[int, int], message: str) -> None:
    apart(hud.layout(Theme(*size), everything(message)), size)


@pytest.mark.parametrize("size", SIZES)
def test_the_start_screen_keeps_apart(size: tuple[int, int]) -> None:
    items = menu_items.start_items(Form(), fake_spec(), "")
    apart(start_screen.layout(Theme(*size), len(items)), size)


@pytest.mark.parametrize("size", SIZES)
def test_menus_show_every_item_or_scroll_to_the_focus(size: tuple[int, int]) -> None:
    theme = Theme(*size)
    for items in (menu_items.pause_items(fake_spec(), True), menu_items.settings_items(Settings())):
        rects = panels.pause_layout(theme, len(items))
        assert rects["panel"].contains(rects["menu"])
        assert not rects["panel"].colliderect(rects["hints"])
        for focus in range(len(items)):
            shown = dict(menu_view.layout(theme, Menu(tuple(items), focus), rects["menu"]))
            assert focus in shown
            apart({str(number): rect for number, rect in shown.items()}, size)
            assert all(rects["menu"].contains(rect) for rect in shown.values())


@pytest.mark.parametrize("size", SIZES)
def test_the_rewind_bar_and_the_key_grid_fit(size: tuple[int, int]) -> None:
    theme = Theme(*size)
    rewind = rewind_screen.layout(theme)
    bar = rewind.pop("bar")
    apart(rewind, size)
    assert all(bar.contains(rect) for rect in rewind.values())
    panel = textbox_view.panel(theme)
    assert pygame.Rect((0, 0), size).contains(panel)
    keys = {f"{row},{column}": rect for row, column, rect in textbox_view.key_rects(theme)}
    apart(keys, size)
    assert all(panel.contains(rect) for rect in keys.values())


@pytest.mark.parametrize("size", SIZES)
def test_the_table_of_controls_has_room_for_every_line(size: tuple[int, int]) -> None:
    theme, lines = Theme(*size), 1 + len(legend(ControllerMap())) + len(panels.APP_KEYS)
    rects = panels.controls_layout(theme, lines)
    assert pygame.Rect((0, 0), size).contains(rects["panel"])
    assert rects["panel"].contains(rects["table"])
    assert rects["table"].height // lines >= theme.line_height("small")


@pytest.mark.parametrize("size", SIZES)
def test_text_is_cut_to_its_room(size: tuple[int, int]) -> None:
    theme = Theme(*size)
    for style in ("small", "body", "title"):
        for width in (40, 150, 400):
            for keep_end in (False, True):
                assert theme.measure(theme.fit(LONG, style, width, keep_end), style)[0] <= width
            lines = theme.wrap(LONG, style, max(width, 120), 3)
            assert len(lines) <= 3
            assert all(theme.measure(line, style)[0] <= max(width, 120) for line in lines)


def test_every_screen_draws_at_every_size() -> None:
    spec = fake_spec()
    picture = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    start = start_screen.StartLook(spec, picture, "Loading nano", PAD, caps(ControllerMap(), None, True), 1.2, LONG)
    for size in SIZES:
        surface, theme = pygame.display.set_mode(size), Theme(*size)
        items = Menu(tuple(menu_items.start_items(Form(picture="/a/very/long/path" * 9), spec, "loading")))
        start_screen.draw(surface, theme, items, start)
        rect = frame_view.fit_frame(surface, picture)
        frame_view.clear_around(surface, rect)
        hud.draw(surface, theme, everything(LONG))
        panels.draw_panel(surface, theme, "Paused", LONG, items, PAD)
        panels.draw_controls(surface, theme, legend(ControllerMap()), PAD)
        textbox_view.draw(surface, theme, TextBox("prompt", "Prompt", LONG * 3), PAD)


def test_letterbox_keeps_proportions_and_touches_two_edges() -> None:
    rect = letterbox((160, 96), (1280, 720))
    assert (rect.height, rect.width) == (720, 1200)
    assert rect.center == (640, 360)
    tall = letterbox((160, 96), (300, 900))
    assert (tall.width, tall.height) == (300, 180)


def test_a_small_frame_is_enlarged_without_a_shift_or_a_change_of_colour() -> None:
    surface = pygame.display.set_mode((1280, 768))
    frame = np.zeros((96, 160, 3), np.uint8)
    frame[:, :80] = (250, 40, 10)
    frame[:, 80:] = (10, 60, 240)
    frame_view.fit_frame(surface, frame)
    shown = pygame.surfarray.array3d(surface).swapaxes(0, 1)
    np.testing.assert_allclose(shown[300, 200], (250, 40, 10), atol=2)
    np.testing.assert_allclose(shown[300, 1100], (10, 60, 240), atol=2)
    border = int(np.argmax(shown[300, :, 2] > 125))
    assert abs(border - 640) <= 8


def test_shipped_scenes_are_pictures_with_names() -> None:
    from scope_play.play.menus.scenes import OWN, preview, shipped_scenes

    scenes = shipped_scenes("nano")
    assert scenes[0] is OWN
    assert len(scenes) >= 4
    assert "Drum in the sun" in {scene.name for scene in scenes}
    for scene in scenes[1:]:
        assert scene.path is not None
        picture = preview(scene.path)
        assert picture is not None
        assert picture.shape == (192, 320, 3)
    assert shipped_scenes("nano-96x160") == scenes
    assert shipped_scenes("unknown")[0] is OWN


def test_a_menu_says_where_it_goes_on() -> None:
    theme, area = Theme(640, 360), pygame.Rect(20, 40, 200, 5 * menu_view.row_height(Theme(640, 360)))

    def marks(count: int, focus: int) -> tuple[bool, bool]:
        target = pygame.Surface((640, 360))
        menu = Menu(tuple(Item(str(number), "") for number in range(count)), focus)
        menu_view.draw(target, theme, menu, area)
        shown = menu_view.layout(theme, menu, area)
        above, below = shown[0][1].top - theme.px(5), shown[-1][1].bottom + theme.px(5)
        return tuple(target.get_at((area.centerx, y))[:3] == MUTED for y in (above, below))  # type: ignore[return-value]

    assert marks(5, 0) == (False, False)
    assert marks(12, 0) == (False, True)
    assert marks(12, 6) == (True, True)
    assert marks(12, 11) == (True, False)
