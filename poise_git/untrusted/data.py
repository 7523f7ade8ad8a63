"""Turn plain data, as YAML gives it, into an archive's entries; a wrong type or a missing field is one clear line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from poise_git.errors import ArchiveError

Entry = TypeVar("Entry")

# Numbers of JSON, not texts of them. Trainers report missing figures as not a number or infinity.
Number = Annotated[float, Field(strict=True)]
Amount = Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Whole = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]


def read_entry(read: Callable[[Any], Entry], data: Any, file: str) -> Entry:
    """`read(data)`, where `data` is what `file` holds, or a part of it.

    Raises:
        ArchiveError: it is not what `read` reads.
    """
    try:
        return read(data)
    except ValidationError as error:
        raise ArchiveError(f"{file}: {described(error)}") from error
    except KeyError as error:
        raise ArchiveError(f"{file}: the field {error} is missing") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArchiveError(f"{file}: {' '.join(str(error).split())[:200]}") from error


def described(error: ValidationError) -> str:
    """The first problem and its place."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:100]
    return f"{place}: {first['msg'][:200]}" if place else first["msg"][:200]


def mapping(data: Any) -> Mapping[str, Any]:
    """`data`, if it is a mapping.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(data, Mapping):
        raise TypeError("expected `field: value` lines")
    return data
