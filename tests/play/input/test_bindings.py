"""The controller map: what the file says is what is played, and every mistake is one helpful sentence."""

from __future__ import annotations

import contextlib
import os
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_play.errors import ScopeError
from scope_play.play.input import bindings
from scope_play.play.input.bindings import ControllerMap, load_map, parse_map, to_toml, write_map
from scope_play.play.input.bindings_text import PAD_LABELS, caps, legend, legend_text
from scope_play.play.input.keyboard import KEY_ACTIONS, KeyProfile, control_names, reserved_names
from scope_play.play.input.shaping import StickShape, TriggerShape
from scope_play.play.input.translator import ACTIONS, PAD_CONTROLS, PadProfile


def test_the_default_file_is_the_default_map_and_names_every_key():
    text = to_toml(ControllerMap())
    assert parse_map(text, "controller.toml") == ControllerMap()
    for word in (*ACTIONS, *KEY_ACTIONS, *PAD_CONTROLS, "dead_zone", "curve", "invert_y", "press", "mouse_pixels"):
        assert word in text


def test_an_empty_file_is_the_default_map():
    assert parse_map("", "controller.toml") == ControllerMap()


def test_what_is_written_counts_and_the_rest_stays_default():
    controls = parse_map('[pad]\nswap_sticks = true\n[pad.bindings]\njump = ["a", "left_shoulder"]\n', "x")
    assert controls.pad.swap_sticks
    assert controls.pad.bindings["jump"] == ("a", "left_shoulder")
    assert controls.pad.bindings["fire"] == ("right_trigger",)
    assert controls.keys == KeyProfile()


def test_two_actions_may_exchange_their_controls_and_one_may_be_unbound():
    controls = parse_map('[pad.bindings]\njump = "x"\nreload = "a"\nmelee = []\n', "x")
    assert (controls.pad.bindings["jump"], controls.pad.bindings["reload"]) == (("x",), ("a",))
    assert controls.pad.bindings["melee"] == ()


def test_a_profile_starts_from_the_pad_table_and_is_found_by_guid_or_name_in_any_case():
    text = """
        [pad.left_stick]
        dead_zone = 0.3
        [profile."030000005E0400008E02000010010000"]
        swap_sticks = true
        [profile."Worn Pad".left_stick]
        dead_zone = 0.4
    """
    controls = parse_map(text, "x")
    by_guid = controls.for_pad("030000005e0400008e02000010010000", "Any")
    assert (by_guid.swap_sticks, by_guid.left.dead_zone) == (True, 0.3)
    assert controls.for_pad("", "worn pad").left.dead_zone == 0.4
    assert controls.for_pad("ff", "other") is controls.pad


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pad = ", "not valid TOML"),
        ("[pda]", "pda is not known: did you mean 'pad'"),
        ("pad = 3", "pad is 3, not a table: write it as [pad]"),
        ("[pad]\nswop_sticks = true", "[pad] swop_sticks is not known: did you mean 'swap_sticks'"),
        ('[pad]\nswap_sticks = "yes"', "[pad] swap_sticks is 'yes': write true or false"),
        ('[pad.bindings]\njmup = "a"', "[pad.bindings] jmup is not known: did you mean 'jump'"),
        ('[pad.bindings]\njump = "left_shulder"', "did you mean 'left_shoulder'"),
        ("[pad.bindings]\njump = 4", "[pad.bindings] jump is 4: write the name of a control"),
        ('[pad.bindings]\njump = ["a", 4]', "write the name of a control"),
        ('[pad.bindings]\njump = "b"\nfire = "b"', "fire and jump both use 'b': give each control to one action"),
        ('[pad.bindings]\njump = ["b", "b"]', "jump has 'b' twice"),
        ('[pad.bindings]\njump = "x"', "jump takes 'x' from reload: give reload another control"),
        ('[pad.left_stick]\ndead_zone = "big"', "[pad.left_stick] dead_zone is 'big': write a number"),
        ("[pad.left_stick]\ndead_zone = true", "dead_zone is True: write a number"),
        ("[pad.left_stick]\ndead_zone = 1.5", "dead_zone is 1.5: write a number, 0.0 or more and at most 0.9"),
        ("[pad.left_stick]\ndead_zone = nan", "dead_zone is nan"),
        ("[pad.right_stick]\nfull = 0.1", "full is 0.1, not more than dead_zone 0.12"),
        ("[pad.right_stick]\ncurve = 0", "curve is 0: write a number"),
        ("[pad.triggers]\nrelease = 0.9", "release is 0.9, more than press 0.3"),
        ("[pad.triggers]\nrelease = 0", "release is 0: write a number, more than 0.0"),
        ("[keys]\nmouse_pixels = 0", "[keys] mouse_pixels is 0"),
        (
            '[keys.bindings]\njump = "spaec"',
            "jump names 'spaec', which is no control: did you mean 'space'",
        ),
        ('[keys.bindings]\njump = "escape"', "jump uses 'escape', which the menus need"),
        ('[keys.bindings]\njump = "w"', "jump takes 'w' from forward"),
        ("[profile]\nworn = 3", "[profile] worn is 3, not a table: write it as [profile.worn]"),
        ("[profile.AB]\n[profile.ab]", "appears twice"),
        ("[profile.ab.triggers]\npres = 1", "[profile.ab.triggers] pres is not known: did you mean 'press'"),
    ],
)
def test_each_mistake_is_one_sentence(text, said):
    with pytest.raises(ScopeError) as caught:
        parse_map(text, "controller.toml")
    sentence = str(caught.value)
    assert said in sentence
    assert sentence.startswith("controller.toml")
    assert "\n" not in sentence


def test_files(tmp_path, monkeypatch):
    monkeypatch.setattr(bindings, "user_config_dir", lambda name: str(tmp_path / name))
    assert load_map() == ControllerMap()
    controls = ControllerMap(pad=PadProfile(right=StickShape(sensitivity=1.5, invert_y=True)))
    path = write_map(controls)
    assert path == tmp_path / "scope-play" / "controller.toml"
    assert load_map() == load_map(path) == controls
    assert os.listdir(path.parent) == ["controller.toml"]
    with pytest.raises(ScopeError, match="there is no controller map at"):
        load_map(tmp_path / "other.toml")
    with pytest.raises(ScopeError, match="cannot be read"):
        load_map(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(ScopeError, match="cannot be read"):
        load_map(tmp_path / "latin.toml")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = write_map(ControllerMap(), tmp_path / "controller.toml")
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ScopeError, match="No space left"):
        write_map(ControllerMap(pad=PadProfile(swap_sticks=True)), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["controller.toml"]
    with pytest.raises(ScopeError, match="cannot be written"):
        write_map(ControllerMap(), path / "below" / "controller.toml")


# ---- properties

stick_shapes = st.builds(
    StickShape,
    dead_zone=st.floats(0.0, 0.5),
    full=st.floats(0.6, 1.0),
    curve=st.floats(0.25, 5.0),
    sensitivity=st.floats(0.1, 5.0),
    invert_y=st.booleans(),
)
trigger_shapes = st.floats(0.01, 1.0).flatmap(
    lambda press: st.builds(TriggerShape, press=st.just(press), release=st.floats(0.005, press))
)


def any_bindings(actions, controls):
    """Every control goes to at most one action."""
    return st.lists(st.sampled_from(controls), unique=True, max_size=12).flatmap(
        lambda chosen: st.lists(st.sampled_from(actions), min_size=len(chosen), max_size=len(chosen)).map(
            lambda to: MappingProxyType(
                {action: tuple(c for c, a in zip(chosen, to, strict=True) if a == action) for action in actions}
            )
        )
    )


pads = st.builds(
    PadProfile,
    bindings=any_bindings(tuple(ACTIONS), PAD_CONTROLS),
    left=stick_shapes,
    right=stick_shapes,
    triggers=trigger_shapes,
    swap_sticks=st.booleans(),
)
keys = st.builds(
    KeyProfile,
    bindings=any_bindings(KEY_ACTIONS, tuple(name for name in control_names() if name not in reserved_names())),
    mouse_pixels=st.floats(1.0, 2000.0),
    mouse_invert_y=st.booleans(),
    look_speed=st.floats(0.01, 1.0),
)
names = st.text(min_size=1, max_size=12).filter(lambda name: name.lower() == name and name.lower().lower() == name)


@given(pads, keys, st.dictionaries(names, pads, max_size=2).map(MappingProxyType))
def test_every_map_is_read_back_as_it_was_written(pad, keyboard, profiles):
    controls = ControllerMap(pad, keyboard, profiles)
    assert parse_map(to_toml(controls), "x") == controls


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text):
    for document in (text, f"[pad]\n{text}", f"[keys.bindings]\njump = {text}"):
        with contextlib.suppress(ScopeError):
            parse_map(document, "x")


def test_the_legend_tells_what_is_bound():
    lines = {entry.what: (entry.pad, entry.keys) for entry in legend(ControllerMap())}
    assert lines["Fire"] == ("RT", "left mouse")
    assert lines["Move"] == ("left stick", "W A S D")
    assert lines["Look"] == ("right stick", "mouse, arrow keys")
    changed = parse_map("[pad]\nswap_sticks = true\n[pad.bindings]\njump = []\n[keys.bindings]\njump = []\n", "x")
    lines = {entry.what: (entry.pad, entry.keys) for entry in legend(changed)}
    assert lines["Jump"] == ("-", "-")
    assert lines["Move"][0] == "right stick"
    text = legend_text(changed)
    assert len(text.splitlines()) == len(lines) + 1
    assert text.splitlines()[0].split() == ["pad", "keyboard", "and", "mouse"]


def test_caps_name_the_first_way_of_doing_each_thing_on_the_device_in_use():
    pad, keys = (dict(map(reversed, caps(ControllerMap(), None, on_pad))) for on_pad in (True, False))
    assert pad.keys() == keys.keys() == {entry.what.lower() for entry in legend(ControllerMap())}
    assert (pad["move"], pad["melee"], pad["fire"]) == ("L stick", "R3", "RT")
    assert (keys["look"], keys["melee"], keys["fire"], keys["jump"]) == ("Mouse", "F", "Left click", "Space")
    unbound = parse_map("[pad.bindings]\njump = []\n", "x")
    assert "jump" not in dict(map(reversed, caps(unbound, None, True)))


@given(st.sampled_from(PAD_CONTROLS))
def test_every_control_has_a_label(control):
    bound = PadProfile(bindings={**dict.fromkeys(ACTIONS, ()), "jump": (control,)})
    assert legend(ControllerMap(), bound)[4].pad == PAD_LABELS[control]
