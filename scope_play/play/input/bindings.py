"""The controller map: which control does what, in a TOML file that players may edit.

The file holds only what differs from the defaults; `to_toml` writes all of it, with comments. Every mistake in
it is one sentence that names the file, the key and the mend, and nothing is played with a map that was half read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import tomlkit
from platformdirs import user_config_dir
from tomlkit.exceptions import TOMLKitError

from scope_play.errors import ScopeError
from scope_play.files import replacing
from scope_play.play.input.keyboard import KEY_ACTIONS, KeyProfile, control_names, reserved_names
from scope_play.play.input.shaping import StickShape, TriggerShape
from scope_play.play.input.toml_table import Table
from scope_play.play.input.translator import ACTIONS, PAD_CONTROLS, PadProfile

FILE_NAME = "controller.toml"


@dataclass(frozen=True)
class ControllerMap:
    """Everything the file can say: how pads play, how one special pad plays, and what the keyboard does."""

    pad: PadProfile = field(default_factory=PadProfile)
    keys: KeyProfile = field(default_factory=KeyProfile)
    profiles: Mapping[str, PadProfile] = field(default_factory=lambda: MappingProxyType({}))

    def for_pad(self, guid: str, name: str) -> PadProfile:
        """The profile of the pad with this GUID, or with this name, or the one for all pads."""
        return self.profiles.get(guid.lower()) or self.profiles.get(name.lower()) or self.pad


def default_path() -> Path:
    """Where the map lives on this system."""
    return Path(user_config_dir("scope-play")) / FILE_NAME


def load_map(path: Path | None = None) -> ControllerMap:
    """The map in `path`, by default `default_path()`; without such a file, the defaults.

    Raises ScopeError: a path given that does not exist, TOML that does not parse, or any key that is unknown, of the
    wrong type, out of range, or in conflict with another.
    """
    file = path or default_path()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if path is None:
            return ControllerMap()
        raise ScopeError(f"there is no controller map at {file}: leave the option away to use the defaults.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScopeError(f"the controller map {file} cannot be read ({error}): mend or delete it.") from error
    return parse_map(text, str(file))


def parse_map(text: str, where: str) -> ControllerMap:
    """The map written in `text`; `where` names the file in errors."""
    try:
        data = tomlkit.parse(text).unwrap()
    except TOMLKitError as error:
        raise ScopeError(f"{where} is not valid TOML: {error}; mend that line or delete the file.") from error
    root = Table(data, where)
    root.only("pad", "keys", "profile")
    pad = _pad(root.table("pad"), PadProfile())
    profiles: dict[str, PadProfile] = {}
    for key, table in root.table("profile").tables():
        if key.lower() in profiles:
            raise ScopeError(f"{where}: [profile] {key} appears twice, differing only in case: delete one.")
        profiles[key.lower()] = _pad(table, pad)
    return ControllerMap(pad, _keys(root.table("keys")), MappingProxyType(profiles))


def _pad(table: Table, base: PadProfile) -> PadProfile:
    table.only("bindings", "left_stick", "right_stick", "triggers", "swap_sticks")
    bindings = table.table("bindings")
    bindings.only(*ACTIONS)
    triggers = table.table("triggers")
    triggers.only("press", "release")
    shape = TriggerShape(
        press=triggers.number("press", base.triggers.press, above=0.0, most=1.0),
        release=triggers.number("release", base.triggers.release, above=0.0, most=1.0),
    )
    if shape.release > shape.press:
        triggers.fail("release", f"is {shape.release}, more than press {shape.press}", "make it press or less")
    return PadProfile(
        bindings=bindings.bindings(base.bindings, PAD_CONTROLS),
        left=_stick(table.table("left_stick"), base.left),
        right=_stick(table.table("right_stick"), base.right),
        triggers=shape,
        swap_sticks=table.boolean("swap_sticks", base.swap_sticks),
    )


def _stick(table: Table, base: StickShape) -> StickShape:
    table.only("dead_zone", "full", "curve", "sensitivity", "invert_y")
    shape = StickShape(
        dead_zone=table.number("dead_zone", base.dead_zone, least=0.0, most=0.9),
        full=table.number("full", base.full, above=0.0, most=1.0),
        curve=table.number("curve", base.curve, least=0.25, most=5.0),
        sensitivity=table.number("sensitivity", base.sensitivity, least=0.1, most=5.0),
        invert_y=table.boolean("invert_y", base.invert_y),
    )
    if shape.full <= shape.dead_zone:
        table.fail("full", f"is {shape.full}, not more than dead_zone {shape.dead_zone}", "raise it above dead_zone")
    return shape


def _keys(table: Table) -> KeyProfile:
    base = KeyProfile()
    table.only("bindings", "mouse_pixels", "mouse_invert_y", "look_speed")
    bindings = table.table("bindings")
    bindings.only(*KEY_ACTIONS)
    return KeyProfile(
        bindings=bindings.bindings(base.bindings, control_names(), reserved_names()),
        mouse_pixels=table.number("mouse_pixels", base.mouse_pixels, least=1.0, most=2000.0),
        mouse_invert_y=table.boolean("mouse_invert_y", base.mouse_invert_y),
        look_speed=table.number("look_speed", base.look_speed, above=0.0, most=1.0),
    )


def to_toml(controls: ControllerMap) -> str:
    """A map as a commented file that `parse_map` reads back to the same map."""
    lines = [
        "# scope-play controller map. Delete a line, or the file, to get its default back.",
        f"# Pad controls: {', '.join(PAD_CONTROLS)}.",
        '# Keys have pygame\'s names: "w", "space", "lshift", "kp0", "up", "mouse_left", "wheel_up".',
        "# Those that write a character are meant by their place on a US keyboard, whatever the layout.",
        "# Each action takes one control or a list; [] unbinds it. Menus always have start, back, a, b and the d-pad,",
        "# or escape, backspace, return and the arrow keys.",
        "",
        *_pad_toml("pad", controls.pad),
        "# One pad of its own, by GUID or name (a recording's metadata.json has both): what differs from [pad].",
        '# [profile."030000005e0400008e02000010010000".left_stick]',
        "# dead_zone = 0.2",
        "",
    ]
    for key, profile in controls.profiles.items():
        lines += _pad_toml(f"profile.{_string(key)}", profile)
    lines += [
        "[keys]",
        f"mouse_pixels = {controls.keys.mouse_pixels}  # mouse travel in one frame (1/20 s) that is a full right stick",
        f"mouse_invert_y = {_value(controls.keys.mouse_invert_y)}",
        f"look_speed = {controls.keys.look_speed}  # how far the look keys push the right stick, up to 1",
        "",
        "[keys.bindings]",
        *(f"{action} = {_value(controls.keys.bindings[action])}" for action in KEY_ACTIONS),
        "",
    ]
    return "\n".join(lines)


def _pad_toml(name: str, profile: PadProfile) -> list[str]:
    lines = [
        f"[{name}]",
        f"swap_sticks = {_value(profile.swap_sticks)}  # true: the right stick moves, the left one looks",
        "",
        f"[{name}.bindings]",
        *(f"{action} = {_value(profile.bindings[action])}" for action in ACTIONS),
        "",
    ]
    for stick, shape in (("left_stick", profile.left), ("right_stick", profile.right)):
        lines += [
            f"[{name}.{stick}]",
            f"dead_zone = {shape.dead_zone}  # below this the stick rests",
            f"full = {shape.full}  # from here on it is fully deflected",
            f"curve = {shape.curve}  # 1 is linear, more is finer around the centre",
            f"sensitivity = {shape.sensitivity}",
            f"invert_y = {_value(shape.invert_y)}",
            "",
        ]
    return [
        *lines,
        f"[{name}.triggers]",
        f"press = {profile.triggers.press}  # pulled this far it is pressed",
        f"release = {profile.triggers.release}  # let go this far it is released",
        "",
    ]


def _value(value: bool | tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"[{', '.join(_string(item) for item in value)}]" if len(value) != 1 else _string(value[0])


def _string(text: str) -> str:
    """A TOML basic string."""
    return tomlkit.string(text).as_string()


def write_map(controls: ControllerMap, path: Path | None = None) -> Path:
    """Write a map so that a full disk cannot cost the old one. Returns the path."""
    file = path or default_path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScopeError(
            f"the controller map {file} cannot be written ({error}): check the folder's rights."
        ) from error
    with replacing(file) as beside:
        beside.write_text(to_toml(controls), encoding="utf-8", newline="\n")
    return file
