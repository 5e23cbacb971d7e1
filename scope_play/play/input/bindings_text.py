"""What every control does, in words, by the map in use: for a help page and for `scope-play play --controls`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scope_play.play.input.bindings import ControllerMap
from scope_play.play.input.keyboard import caps_of_layout
from scope_play.play.input.translator import ACTIONS, PadProfile

PAD_LABELS: Mapping[str, str] = MappingProxyType(
    {
        **{"a": "A", "b": "B", "x": "X", "y": "Y", "left_shoulder": "LB", "right_shoulder": "RB"},
        **{"left_trigger": "LT", "right_trigger": "RT", "left_stick": "press left stick"},
        **{"right_stick": "press right stick", "back": "View", "start": "Menu", "guide": "Xbox"},
        **{"dpad_up": "d-pad up", "dpad_down": "d-pad down", "dpad_left": "d-pad left", "dpad_right": "d-pad right"},
    }
)


SHORT: Mapping[str, str] = MappingProxyType(
    {
        **{"left stick": "L stick", "right stick": "R stick", "press left stick": "L3", "press right stick": "R3"},
        **{"left mouse": "Left click", "right mouse": "Right click", "middle mouse": "Middle click"},
    }
)
"""Labels where there is little room."""

STICK_ACTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "left": ("forward", "strafe_left", "backward", "strafe_right"),
        "right": ("look_up", "look_left", "look_down", "look_right"),
    }
)
"""In the order in which their keys are usually named: W A S D."""


@dataclass(frozen=True)
class Entry:
    """One line of the legend: what happens, and what does it on the pad and on the keyboard. "-" for nothing."""

    what: str
    pad: str
    keys: str


def legend(controls: ControllerMap, pad: PadProfile | None = None) -> list[Entry]:
    """The legend for a pad's profile, by default the one for all pads; keys as the layout in use labels them."""
    profile = pad or controls.pad
    moving, looking = ("right stick", "left stick") if profile.swap_sticks else ("left stick", "right stick")
    layout = caps_of_layout()
    keys = {
        action: tuple(layout.get(control, control) for control in bound)
        for action, bound in controls.keys.bindings.items()
    }
    entries = [
        Entry("Move", moving, _directions(keys, "left")),
        Entry("Look", looking, f"mouse, {_directions(keys, 'right')}"),
    ]
    for action in ACTIONS:
        buttons = ", ".join(PAD_LABELS[control] for control in profile.bindings[action])
        entries.append(Entry(action.capitalize(), buttons or "-", _keys(keys[action]) or "-"))
    return [*entries, Entry("Pause", PAD_LABELS["start"], "Esc"), Entry("Rewind", PAD_LABELS["back"], "Backspace")]


def caps(controls: ControllerMap, pad: PadProfile | None, on_pad: bool) -> list[tuple[str, str]]:
    """The legend as (what is on the key, what it does), shortened to the first way of doing each thing."""
    found = []
    for entry in legend(controls, pad):
        label = (entry.pad if on_pad else entry.keys).partition(", ")[0]
        if label != "-":
            found.append((SHORT.get(label, label[:1].upper() + label[1:]), entry.what.lower()))
    return found


def legend_text(controls: ControllerMap) -> str:
    """The legend as an aligned table."""
    entries = [Entry("", "pad", "keyboard and mouse"), *legend(controls)]
    what, pad = (max(len(getattr(entry, column)) for entry in entries) for column in ("what", "pad"))
    return "\n".join(f"{entry.what:<{what}}  {entry.pad:<{pad}}  {entry.keys}".rstrip() for entry in entries)


def _keys(controls: tuple[str, ...]) -> str:
    return ", ".join(map(_key, controls))


def _key(control: str) -> str:
    """`mouse_left` as "left mouse", `w` as "W", `lshift` as "Lshift"."""
    kind, _, which = control.partition("_")
    if kind == "mouse":
        return f"{which} mouse"
    return control.replace("_", " ") if which else control.capitalize()


def _directions(bindings: Mapping[str, tuple[str, ...]], stick: str) -> str:
    keys = [_keys(bindings[action]) or "-" for action in STICK_ACTIONS[stick]]
    return "arrow keys" if keys == ["Up", "Left", "Down", "Right"] else " ".join(keys)
