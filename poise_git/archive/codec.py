"""Convert entries to plain data and back. The fields of an entry's class are the only definition of its format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Self, get_type_hints

from pydantic import TypeAdapter

_SCALARS = frozenset({float, int, str, bool, type(None)})


class Entry:
    """A frozen dataclass that converts to plain data, field by field, and back."""

    __slots__ = ()
    # Fields that `to_data` omits if they have their default.
    OMITTED: ClassVar[frozenset[str]] = frozenset()

    def to_data(self) -> dict[str, Any]:
        """JSON or YAML data: field -> value, in the order of definition."""
        kind: Any = type(self)
        return self.data_of(names_of(kind))

    def data_of(self, names: Iterable[str]) -> dict[str, Any]:
        """The data of some fields, in the given order."""
        kind: Any = type(self)
        defaults, foreign = _omitted(kind), _foreign(kind)
        return {
            name: dict(value) if name in foreign else _plain(value)
            for name in names
            if (value := getattr(self, name)) != defaults.get(name, MISSING)
        }

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Read an entry from plain data. Unknown fields are ignored, because later versions may have more.

        Raises:
            ValueError: the data do not describe an entry of this class.
        """
        kind: Any = cls
        if isinstance(data, Mapping):
            optional = _optional(kind)
            data = {name: value for name, value in data.items() if value is not None or name not in optional}
        found: Self = _reader(kind).validate_python(data)
        return found


@cache
def names_of(kind: Any) -> tuple[str, ...]:
    """The fields of an entry's class."""
    return tuple(each.name for each in fields(kind))


@cache
def _omitted(kind: Any) -> Mapping[str, Any]:
    """The fields that are omitted if they have this value."""
    return {each.name: each.default for each in fields(kind) if each.name in kind.OMITTED}


@cache
def _foreign(kind: Any) -> frozenset[str]:
    """The fields with arbitrary data, which the archive passes on unchanged."""
    return frozenset(name for name, of in get_type_hints(kind).items() if of == Mapping[str, Any])


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _optional(kind: Any) -> frozenset[str]:
    """The fields that a person may leave empty (`knobs:` without a value)."""
    return frozenset(
        each.name for each in fields(kind) if each.default is not MISSING or each.default_factory is not MISSING
    )


def _plain(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Entry):
        return value.to_data()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        # A trajectory may have a million figures.
        return list(value) if _SCALARS.issuperset(map(type, value)) else [_plain(each) for each in value]
    return str(value) if isinstance(value, StrEnum) else value
