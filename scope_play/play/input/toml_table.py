"""Reading values out of a parsed TOML table, with errors that say what, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from scope_play.errors import ScopeError


class Table:
    """One table of a TOML file. `where` is the file; `name` the dotted name of the table in it, empty for the root."""

    def __init__(self, data: Mapping[str, Any], where: str, name: str = "") -> None:
        self._data = data
        self._where = where
        self._name = name

    def fail(self, key: str, problem: str, mend: str) -> NoReturn:
        """Raise the one sentence about `key`."""
        place = f"[{self._name}] {key}" if self._name else key
        raise ScopeError(f"{self._where}: {place} {problem}: {mend}.")

    def only(self, *known: str) -> None:
        """Raise for the first key that is not among `known`."""
        for key in self._data:
            if key not in known:
                self.fail(key, "is not known", suggestion(key, known))

    def table(self, key: str) -> Table:
        """The table `key`, empty if it is not there."""
        value = self._data.get(key, {})
        if not isinstance(value, Mapping):
            self.fail(key, f"is {value!r}, not a table", f"write it as [{self._child(key)}] with keys below it")
        return Table(value, self._where, self._child(key))

    def tables(self) -> Iterator[tuple[str, Table]]:
        """All entries, each of which must be a table."""
        for key in self._data:
            yield key, self.table(key)

    def boolean(self, key: str, default: bool) -> bool:
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"is {value!r}", "write true or false")
        return value

    def number(
        self, key: str, default: float, *, least: float | None = None, above: float | None = None, most: float
    ) -> float:
        """A number from `least`, or more than `above`, to `most`."""
        value = self._data.get(key, default)
        lowest = f"more than {above}" if least is None else f"{least} or more"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"is {value!r}", f"write a number, {lowest} and at most {most}")
        number = float(value)
        too_low = number < least if least is not None else above is not None and number <= above
        if too_low or not number <= most:
            self.fail(key, f"is {value!r}", f"write a number, {lowest} and at most {most}")
        return number

    def bindings(
        self, default: Mapping[str, tuple[str, ...]], known: Collection[str], reserved: Collection[str] = ()
    ) -> Mapping[str, tuple[str, ...]]:
        """Controls by action; a control may serve one action only.

        A control that is given to an action here is taken from the action that has it by default, unless that action
        is given its controls here as well: then it is a conflict.
        """
        given = {action: self._controls(action, known, reserved) for action in self._data}
        owner: dict[str, str] = {}
        for action, controls in given.items():
            for control in controls:
                if control in owner:
                    self.fail(
                        action,
                        f"and {owner[control]} both use {control!r}"
                        if owner[control] != action
                        else f"has {control!r} twice",
                        "give each control to one action",
                    )
                owner[control] = action
        kept = {action: tuple(c for c in controls if c not in owner) for action, controls in default.items()}
        for action, controls in default.items():
            if action not in given and controls and not kept[action]:
                taker = owner[controls[0]]
                self.fail(
                    taker, f"takes {controls[0]!r} from {action}", f"give {action} another control, or [] for none"
                )
        return MappingProxyType({**kept, **given})

    def _controls(self, action: str, known: Collection[str], reserved: Collection[str]) -> tuple[str, ...]:
        value = self._data[action]
        controls = [value] if isinstance(value, str) else value
        if not isinstance(controls, list) or not all(isinstance(control, str) for control in controls):
            self.fail(action, f"is {value!r}", 'write the name of a control, or a list such as ["a", "b"]')
        for control in controls:
            if control in reserved:
                self.fail(action, f"uses {control!r}, which the menus need", "choose another key")
            if control not in known:
                self.fail(action, f"names {control!r}, which is no control", suggestion(control, known))
        return tuple(controls)

    def _child(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


def suggestion(word: str, known: Collection[str]) -> str:
    """The mend for a name that is not among `known`."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]!r}"
    if len(known) > 20:
        return "the head of the default file lists the names"
    return f"choose from {', '.join(known)}"
