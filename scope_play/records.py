"""Dataclasses as JSON values and back, every key checked: the one way that configs, metadata and recipes are read."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

from scope_play.errors import ScopeError

Record = TypeVar("Record")


def read_record(
    kind: type[Record],
    data: Any,
    source: str,
    key: str = "",
    *,
    strict: bool = True,
    mend: str = "restore the file from a copy",
) -> Record:
    """Builds the dataclass `kind` from JSON values. With `strict` a key that `kind` does not know is refused.

    Raises:
        ScopeError: one sentence that names `source`, the dotted key that is missing, unknown, of the wrong type or out
            of range, and the `mend`.
    """
    return typing.cast(Record, _Reader(source, strict, mend).convert(kind, data, key))


def to_json(record: Any) -> Any:
    """The inverse: a dataclass as plain JSON values."""
    return dataclasses.asdict(record)


@dataclasses.dataclass(frozen=True)
class _Reader:
    source: str
    strict: bool
    mend: str

    def convert(self, kind: Any, data: Any, key: str) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            if data is None and type(None) in arguments:
                return None
            return self.convert(next(a for a in arguments if a is not type(None)), data, key)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self._record(kind, data, key)
        if origin is tuple:
            return self._tuple(arguments, data, key)
        if kind is float:
            self._expect((int, float), data, key)
            if not math.isfinite(data):
                raise self._fault(key, data, "a finite number")
            return float(data)
        self._expect(dict if origin is not None else kind, data, key)
        return data

    def _record(self, kind: type, data: Any, key: str) -> Any:
        self._expect(dict, data, key)
        hints, known = typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
        unknown = sorted(set(data) - set(known), key=str)
        if self.strict and unknown:
            where = f"{key}.{unknown[0]}" if key else unknown[0]
            raise ScopeError(
                f"{self.source}: unknown key {where!r}; known keys are {', '.join(sorted(known))}: {self.mend}."
            )
        values = {}
        for name, field in known.items():
            dotted = f"{key}.{name}" if key else name
            if name in data:
                values[name] = self.convert(hints[name], data[name], dotted)
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise ScopeError(f"{self.source} has no {dotted}; {self.mend}.")
        try:
            return kind(**values)
        except (ValueError, ArithmeticError, TypeError, LookupError) as error:  # values that no check foresaw
            where = f"{self.source}, {key}" if key else self.source
            raise ScopeError(f"{where}: {error}") from error

    def _tuple(self, arguments: tuple[Any, ...], data: Any, key: str) -> tuple[Any, ...]:
        self._expect((list, tuple), data, key)
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(data)
        if len(arguments) != len(data):
            raise self._fault(key, data, f"a list of {len(arguments)}")
        return tuple(
            self.convert(kind, item, f"{key}[{i}]") for i, (kind, item) in enumerate(zip(arguments, data, strict=True))
        )

    def _expect(self, kind: type | tuple[type, ...], data: Any, key: str) -> None:
        if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
            kinds = [each for each in (kind if isinstance(kind, tuple) else (kind,)) if each is not tuple]
            raise self._fault(key, data, " or ".join(each.__name__ for each in kinds))

    def _fault(self, key: str, data: Any, wanted: str) -> ScopeError:
        shown = repr(data)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return ScopeError(f"{self.source} has {shown} in {key or 'its root'}, which must be {wanted}; {self.mend}.")


STRONGEST = 1000.0
"""Scales and shifts beyond it are taken for slips of the hand: SCOPE's own are 5."""


def require_scales(record: Any, *names: str) -> None:
    """Raises ScopeError naming the first of these fields of a config that is no number between 0 and `STRONGEST`."""
    for name in names:
        value = getattr(record, name)
        if not 0 <= value <= STRONGEST:
            raise ScopeError(f"{name} is {value}, but must lie between 0 and {STRONGEST:g}; change it")


def require_positive(record: Any, *names: str) -> None:
    """Raises ScopeError naming the first of these fields of a config that is below 1."""
    for name in names:
        value = getattr(record, name)
        if value < 1:
            raise ScopeError(f"{name} is {value}, but must be at least 1; change it")
