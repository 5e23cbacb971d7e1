"""The player's ways through the app, with a virtual pad plugged into SDL's dummy driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygame
import pytest
from PIL import Image

from scope_play.bench.virtual_pad import VirtualPad
from scope_play.errors import ScopeError
from scope_play.play.engine.protocol import Phase
from scope_play.play.input.shaping import StickShape
from scope_play.play.menus.menu import Chosen, Nav
from scope_play.play.menus.screen import Screen
from scope_play.recording.clip import read_clip
from tests.helpers.fake_world import FakeWorld, fake_spec
from tests.helpers.play_driver import Driver, pad_choose, rows, tap

PAD = "The pad of the evening"


def test_a_whole_evening_with_only_the_pad(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start(record=tmp_path / "clips")
    app = driver.app
    with VirtualPad(PAD) as pad:
        driver.until(lambda: app.engine.status.phase is Phase.READY and app.state.own_picture is not None)
        pad_choose(driver, pad, "play")
        driver.until(lambda: driver.screen is Screen.PLAY and app.playback.chunk >= 2)
        assert app.playback.recording is not None

        pad.set_axis("left_y", -1.0)
        pad.set_axis("right_trigger", 1.0)
        so_far = app.playback.chunk
        driver.until(lambda: app.playback.chunk >= so_far + 4)
        assert rows(driver)[-1, 0] == 1
        assert rows(driver)[-1, 7] < -0.9
        assert app.compositor.hud(app.devices, app.clock()).pad.right_trigger  # type: ignore[union-attr]
        pad.set_axis("left_y", 0.0)
        pad.set_axis("right_trigger", 0.0)

        tap(driver, pad, "start")
        assert driver.screen is Screen.PAUSE
        shown = app.playback.chunk
        pad_choose(driver, pad, "rewind")
        assert driver.screen is Screen.REWIND
        for _ in range(3):
            tap(driver, pad, "dpad_left")
        target = app.state.chosen_chunk
        assert target == app.playback.strip.newest - 3
        tap(driver, pad, "a")
        driver.until(lambda: driver.screen is Screen.PLAY and app.playback.chunk == target + 1)
        assert shown > target

        tap(driver, pad, "start")
        pad_choose(driver, pad, "record")
        assert app.playback.recording is None
        pad_choose(driver, pad, "resume")
        assert driver.screen is Screen.PLAY
        tap(driver, pad, "start")
        pad_choose(driver, pad, "leave")
        assert driver.screen is Screen.START
        driver.until(lambda: app.engine.status.phase is Phase.READY)
        pad_choose(driver, pad, "quit")
        assert app.state.over
    app.close()
    clips = list((tmp_path / "clips").iterdir())
    assert len(clips) == 1
    clip = read_clip(clips[0])
    assert len(clip.metadata.branches) == 1
    assert clip.metadata.branches[0].source_chunk == target
    assert clip.metadata.header.input.pad_name == PAD


def test_unplugging_pauses_and_releases_and_replugging_goes_on(start: Callable[..., Driver]) -> None:
    driver = start()
    app = driver.app
    pad = VirtualPad()
    driver.play()
    pad.set_button("a", True)
    driver.turns()
    pad.set_axis("left_x", 1.0)
    so_far = app.playback.chunk
    driver.until(lambda: app.playback.chunk >= so_far + 3)
    assert rows(driver)[-1, 6] > 0.9
    pad.detach()
    driver.until(lambda: driver.screen is Screen.PAUSE)
    assert "unplugged" in app.state.message.text
    assert app.state.message.alert
    with VirtualPad() as again:
        driver.until(lambda: "ready" in app.state.message.text)
        pad_choose(driver, again, "resume")
        so_far = app.playback.chunk
        driver.until(lambda: app.playback.chunk >= so_far + 3)
        assert not rows(driver)[-1].any()


def test_a_recording_knows_what_it_was_played_with(start: Callable[..., Driver], tmp_path: Path) -> None:
    """It begins on the keyboard; then a pad takes over, with other dead zones, and goes away again."""
    driver = start(record=tmp_path / "clips")
    app = driver.app
    driver.play()
    begun = app.playback.chunk
    driver.until(lambda: app.playback.chunk >= begun + 2)
    with VirtualPad(PAD) as pad:
        driver.until(lambda: "ready" in app.state.message.text)
        pad.set_axis("left_y", 1.0)
        driver.until(lambda: app.devices.active.name == PAD)
        pad.set_axis("left_y", 0.0)
        so_far = app.playback.chunk
        driver.until(lambda: app.playback.chunk >= so_far + 2)
    driver.until(lambda: driver.screen is Screen.PAUSE)
    driver.choose("leave")
    app.close()
    (path,) = (tmp_path / "clips").iterdir()
    metadata = read_clip(path).metadata
    began = metadata.header.input
    assert (began.pad_name, began.dead_zone, began.right_dead_zone) == ("keyboard and mouse", 0.0, 0.0)
    played = [event for event in metadata.events if event["event"] == "input"]
    assert [event["pad_name"] for event in played][:2] == [PAD, "keyboard and mouse"]
    assert played[0]["dead_zone"] == StickShape().dead_zone
    assert 1 < played[0]["frame"] < metadata.frames


def test_overlays_go_on_and_off_and_never_reach_recording_or_screenshot(
    start: Callable[..., Driver], tmp_path: Path
) -> None:
    driver = start(record=tmp_path / "clips")
    app = driver.app
    driver.play()
    with_everything = app.compositor.hud(app.devices, app.clock())
    assert with_everything.stats is not None
    assert with_everything.pad is not None
    assert with_everything.recording is not None
    driver.key(pygame.K_F1)
    driver.key(pygame.K_F2)
    bare = app.compositor.hud(app.devices, app.clock())
    assert bare.stats is None
    assert bare.pad is None
    driver.key(pygame.K_F12)
    assert "Saved" in app.state.message.text
    (picture,) = (tmp_path / "pictures").rglob("*.png")
    made = {frame.tobytes() for step in [app.playback.shot] if step and step.made for frame in step.made.frames}
    made |= {app.playback.shot.frame.tobytes()} if app.playback.shot else set()
    assert np.asarray(Image.open(picture)).shape == (48, 80, 3)
    driver.key(pygame.K_ESCAPE)
    driver.choose("quit")
    app.close()
    (clip_path,) = (tmp_path / "clips").iterdir()
    replayed = FakeWorld().start(seed=0)
    clip = read_clip(clip_path)
    from scope_play.recording.clip import frame_hash

    hashes = [frame_hash(replayed.first_frame)]
    for at in range(0, len(clip.rows) - 1, 4):
        hashes += [frame_hash(frame) for frame in replayed.step(clip.rows[at : at + 4]).frames]
    assert hashes == list(clip.columns.frame_hash)


def test_recording_begun_in_play_knows_what_came_before(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start()
    driver.app.state.record_dir = tmp_path / "clips"
    driver.play(4)
    driver.key(pygame.K_F9)
    so_far = driver.app.playback.chunk
    driver.until(lambda: driver.app.playback.chunk >= so_far + 3)
    driver.key(pygame.K_F9)
    driver.app.close()
    (clip_path,) = (tmp_path / "clips").iterdir()
    clip = read_clip(clip_path)
    assert clip.metadata.before is not None
    assert clip.metadata.before.chunks >= 4
    assert len(clip.rows) >= 9


def test_resize_and_fullscreen_keep_the_game(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.play()
    for size in ((640, 360), (333, 777), (2560, 1440)):
        pygame.display.set_mode(size, pygame.RESIZABLE)
        so_far = driver.app.playback.chunk
        driver.until(lambda so_far=so_far: driver.app.playback.chunk >= so_far + 2)  # type: ignore[misc]
        assert driver.app.window.surface.get_size() == size
    driver.key(pygame.K_F11)
    assert driver.app.window.fullscreen
    driver.key(pygame.K_F11)
    assert not driver.app.window.fullscreen
    assert driver.app.window.surface.get_size() == (2560, 1440)
    so_far = driver.app.playback.chunk
    driver.until(lambda: driver.app.playback.chunk > so_far)


def test_restart_begins_anew_with_the_same_seed(start: Callable[..., Driver]) -> None:
    driver = start(seed=5)
    driver.play(4)
    first = driver.app.playback.opened
    driver.key(pygame.K_ESCAPE)
    driver.choose("restart")
    driver.until(lambda: driver.screen is Screen.PLAY and driver.app.playback.chunk >= 1)
    again = driver.app.playback.opened
    assert first is not None
    assert again is not None
    assert again is not first
    assert again.begin == first.begin
    np.testing.assert_array_equal(again.first_frame, first.first_frame)


def test_pressing_play_twice_leaves_no_recording_open(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start(record=tmp_path / "clips")
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.app.state.choose(Chosen("play"), driver.app.clock())
    driver.app.state.choose(Chosen("play"), driver.app.clock())
    driver.until(lambda: driver.screen is Screen.PLAY and driver.app.playback.chunk >= 3)
    driver.app.close()
    clips = list((tmp_path / "clips").iterdir())
    assert clips
    assert not [clip for clip in clips if clip.name.endswith(".partial")]


def test_nothing_else_happens_while_the_world_goes_back(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.play(8)
    driver.key(pygame.K_BACKSPACE)
    assert driver.screen is Screen.REWIND
    driver.app.state.chosen_chunk = 2
    driver.app.state.navigate(Nav.OK, driver.app.clock())
    driver.app.state.navigate(Nav.BACK, driver.app.clock())
    assert driver.screen is Screen.REWIND
    driver.until(lambda: driver.screen is Screen.PLAY and driver.app.playback.chunk == 3)


def test_a_seed_is_turned_or_typed(start: Callable[..., Driver]) -> None:
    driver = start(seed=7)
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.choose("seed")
    driver.key(pygame.K_BACKSPACE)
    for digit in "42":
        driver.key(ord(digit), digit)
    driver.key(pygame.K_RETURN)
    assert driver.app.state.form.seed == 42
    driver.key(pygame.K_LEFT)
    assert driver.app.state.form.seed == 41
    driver.choose("seed")
    driver.key(ord("x"), "x")
    driver.key(pygame.K_RETURN)
    assert driver.app.state.form.seed == 41
    assert "'41x' is not a whole number" in driver.app.state.message.text


def test_a_prompt_can_change_in_play_with_the_pads_own_keyboard(start: Callable[..., Driver]) -> None:
    driver = start()
    app = driver.app
    with VirtualPad() as pad:
        driver.play()
        tap(driver, pad, "start")
        pad_choose(driver, pad, "prompt")
        assert app.state.box is not None
        tap(driver, pad, "a")  # q
        tap(driver, pad, "dpad_right")
        tap(driver, pad, "a")  # w
        for _ in range(4):
            tap(driver, pad, "dpad_down")
        tap(driver, pad, "dpad_left")
        assert app.state.box.text == "qw"
        tap(driver, pad, "a")  # Done
        assert app.state.box is None
        pad_choose(driver, pad, "resume")
        driver.until(lambda: app.playback.prompt == "qw")


@pytest.mark.parametrize("v", [pygame.K_v, 0x43C], ids=["Latin", "Russian, where V types em"])
def test_pasting_works_on_any_layout(start: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch, v: int) -> None:
    monkeypatch.setattr(pygame.scrap, "get_text", lambda: "a hall")
    driver = start()
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.choose("prompt")
    for key, place in ((v, pygame.KSCAN_V), (0x43B, pygame.KSCAN_K)):
        pressed = {"key": key, "scancode": place, "mod": pygame.KMOD_CTRL, "unicode": ""}
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, **pressed))
        driver.app.step()
    assert driver.app.state.box is not None
    assert driver.app.state.box.text == "a hall"


def test_typing_a_prompt_writes_and_moves_nothing_else(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.choose("prompt")
    for letter in "was":
        driver.key(ord(letter), letter)
    assert driver.app.state.box is not None
    assert driver.app.state.box.text == "was"
    driver.key(pygame.K_BACKSPACE)
    driver.key(pygame.K_RETURN)
    assert driver.app.state.form.prompt == "wa"
    assert driver.app.state.box is None
    driver.key(pygame.K_RETURN)
    driver.key(ord("x"), "x")
    driver.key(pygame.K_ESCAPE)
    assert driver.app.state.box is None
    assert driver.app.state.form.prompt == "wa"
    assert driver.focus == "prompt"


def test_an_input_method_gets_keys_only_while_a_line_is_written(
    start: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("start_text_input", "stop_text_input"):
        monkeypatch.setattr(pygame.key, name, lambda name=name: calls.append(name))
    driver = start()
    driver.until(lambda: driver.app.state.own_picture is not None)
    assert calls == ["stop_text_input"]
    driver.choose("prompt")
    assert calls[1:] == ["start_text_input"]
    driver.key(pygame.K_F11)  # a new window begins with text input on
    assert calls[2:] == ["start_text_input"]
    driver.key(pygame.K_RETURN)
    driver.key(pygame.K_F11)
    assert calls[3:] == ["stop_text_input", "stop_text_input"]


def test_back_deletes_and_then_leaves_an_empty_line_as_it_was(start: Callable[..., Driver]) -> None:
    driver = start(prompt="ab")
    app = driver.app
    with VirtualPad() as pad:
        driver.until(lambda: app.state.own_picture is not None)
        pad_choose(driver, pad, "prompt")
        for left in ("a", ""):
            tap(driver, pad, "b")
            assert app.state.box is not None
            assert app.state.box.text == left
        tap(driver, pad, "b")
        assert app.state.box is None
        assert app.state.form.prompt == "ab"
        assert driver.screen is Screen.START


def test_a_message_of_the_start_screen_stays_there(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start()
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.app.state.take_file(str(tmp_path), driver.app.clock())
    assert driver.app.state.message.alert
    driver.play(1)
    assert not driver.app.state.message.text


def test_starting_a_recording_loads_nothing(tmp_path: Path) -> None:
    """Play would stand still for as long as it takes to import the encoder and the table format."""
    code = f"""
import sys, threading
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
from pathlib import Path
from tests.helpers.play_driver import Driver
driver = Driver()
driver.app.state.record_dir = Path({str(tmp_path)!r})
[thread.join() for thread in threading.enumerate() if thread.name == "libraries"]
driver.play(2)
before = set(sys.modules)
driver.app.state.toggle_recording(0.0)
assert driver.app.playback.recording is not None
assert driver.app.playback.recording.status.state == "recording"
print(sorted(set(sys.modules) - before))
driver.app.close()
"""
    environment = {**os.environ, "SDL_VIDEODRIVER": "dummy", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_mouse_chooses_what_it_points_at(start: Callable[..., Driver]) -> None:
    from scope_play.play.ui import menu_view, start_screen

    driver = start()
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.turns()
    theme, items = driver.app.window.theme, driver.app.state.menu
    area = start_screen.layout(theme, len(items.items))["menu"]
    where = dict(menu_view.layout(theme, items, area))
    settings = next(number for number, item in enumerate(items.items) if item.key == "settings")
    pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=where[settings].center, rel=(1, 1), buttons=(0, 0, 0)))
    driver.turns()
    assert driver.focus == "settings"
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, pos=where[settings].center, button=1))
    driver.turns()
    assert driver.screen is Screen.SETTINGS


def test_running_out_of_memory_returns_to_the_menu_and_the_next_load_works(
    start: Callable[..., Driver], capsys: pytest.CaptureFixture[str]
) -> None:
    error = RuntimeError("CUDA out of memory. Tried to allocate 14.00 GiB")
    driver = start({"large": FakeWorld(errors={4: error}), "nano": FakeWorld()})
    app = driver.app
    driver.until(lambda: app.state.own_picture is not None)
    driver.choose("play")
    driver.until(lambda: app.engine.status.phase is Phase.FAILED)
    driver.until(lambda: driver.screen is Screen.START)
    assert app.state.message.text.startswith("Out of memory while playing")
    assert "Out of memory" in capsys.readouterr().err
    driver.until(lambda: app.state.message.text != "" and driver.screen is Screen.START)
    for _ in range(9):
        if driver.focus == "model":
            break
        driver.key(pygame.K_DOWN)
    driver.key(pygame.K_RIGHT)
    assert app.state.form.model == "nano"
    driver.play()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            ScopeError("weights/x: 3 tensors are missing, first head.head.weight; download it again"),
            "3 tensors are missing",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "Out of memory while loading"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_sentence(
    start: Callable[..., Driver], capsys: pytest.CaptureFixture[str], broken: Exception, words: str
) -> None:
    driver = start({"broken": broken, "nano": FakeWorld()})
    driver.until(lambda: driver.app.engine.status.phase is Phase.FAILED)
    driver.until(lambda: words in driver.app.state.message.text)
    assert words in capsys.readouterr().err
    driver.choose("play")
    driver.until(lambda: driver.app.engine.status.phase is Phase.FAILED)
    assert driver.screen is Screen.START


def test_bad_pictures_and_folders_are_sentences(
    start: Callable[..., Driver], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    driver = start()
    app = driver.app
    driver.until(lambda: app.state.own_picture is not None)
    pygame.event.post(pygame.event.Event(pygame.DROPFILE, file=str(text)))
    driver.turns()
    assert "is not a picture" in app.state.message.text
    assert app.state.form.picture == ""
    good = tmp_path / "good.png"
    Image.new("RGB", (30, 20), (200, 0, 0)).save(good)
    pygame.event.post(pygame.event.Event(pygame.DROPFILE, file=str(good)))
    driver.turns()
    assert app.state.form.picture == str(good)
    app.state.record_dir = blocked
    driver.play(1)
    driver.key(pygame.K_F9)
    assert app.playback.recording is None
    assert str(blocked) in app.state.message.text
    assert app.playback.opened is not None
    assert app.playback.opened.first_frame[0, 0, 0] == 200
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if line.startswith("scope-play:")]) == 2


def test_a_picture_that_vanished_is_refused_by_the_world(start: Callable[..., Driver], tmp_path: Path) -> None:
    driver = start(image=str(tmp_path / "gone.png"))
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.choose("play")
    driver.until(lambda: "gone.png" in driver.app.state.message.text)
    assert driver.screen is Screen.START
    assert driver.app.engine.status.phase is Phase.READY


def test_a_prompt_for_a_model_without_text_is_told_and_left_out(
    start: Callable[..., Driver], capsys: pytest.CaptureFixture[str]
) -> None:
    wordless = FakeWorld(fake_spec(name="nano", has_text=False))
    driver = start({"nano": wordless, "large": FakeWorld()}, prompt="a red room")
    driver.until(lambda: driver.app.state.own_picture is not None)
    assert driver.app.state.message.text == "Nano takes no prompt; it is played without one."
    assert "nano takes no prompt" in capsys.readouterr().err
    driver.play(1)
    assert driver.app.playback.prompt is None
    assert "takes no prompt" in driver.app.state.message.text
    driver.key(pygame.K_ESCAPE)
    driver.choose("leave")
    for _ in range(9):
        if driver.focus == "model":
            break
        driver.key(pygame.K_DOWN)
    driver.key(pygame.K_RIGHT)
    driver.play(1)
    assert driver.app.playback.prompt == "a red room"


def test_the_controls_page_opens_and_closes_from_start_and_pause(start: Callable[..., Driver]) -> None:
    driver = start()
    driver.until(lambda: driver.app.state.own_picture is not None)
    driver.choose("controls")
    assert driver.screen is Screen.CONTROLS
    driver.key(pygame.K_ESCAPE)
    assert driver.screen is Screen.START
    driver.play()
    driver.key(pygame.K_ESCAPE)
    before = driver.pixels()
    driver.choose("controls")
    driver.turns()
    assert driver.pixels() != before
    driver.key(pygame.K_RETURN)
    assert driver.screen is Screen.PAUSE


def test_a_paused_game_draws_and_makes_nothing(start: Callable[..., Driver]) -> None:
    world = FakeWorld()
    driver = start({"nano": world})
    driver.play()
    driver.key(pygame.K_ESCAPE)
    driver.until(lambda: driver.app.engine.status.phase is Phase.PAUSED)
    driver.turns(3)
    driver.app.state.message = replace(driver.app.state.message, text="")
    driver.turns(2)
    steps, drawn = world.steps_made, driver.app.drawn_at
    driver.turns(50)
    assert world.steps_made == steps
    assert driver.app.drawn_at == drawn
