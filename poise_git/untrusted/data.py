"""Convert plain data, as read from YAML, to entries; a wrong type or a missing field gives a one-line error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from poise_git.errors import ArchiveError

Entry = TypeVar("Entry")

# Larger figures overflow when statistics square them.
LARGEST = 1e100


def _not_finite(value: float) -> float:
    if math.isfinite(value):
        raise ValueError(f"expected a number of at most {LARGEST:g}")
    return value


def _nan(value: float) -> float:
    if not math.isnan(value):
        raise ValueError(f"expected a number from 0 to {LARGEST:g}")
    return value


# Numbers of JSON, not text. NaN and infinity are valid: trainers report missing figures as these.
Number = Annotated[float, Field(strict=True)]
# The first form decides for finite numbers; the second one, slower, is for the others.
Figure = Annotated[
    Annotated[float, Field(ge=-LARGEST, le=LARGEST)] | Annotated[float, AfterValidator(_not_finite)],
    Field(union_mode="left_to_right"),
]
Deviation = Annotated[
    Annotated[float, Field(ge=0.0, le=LARGEST)] | Annotated[float, AfterValidator(_nan)],
    Field(union_mode="left_to_right"),
]
Amount = Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Whole = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]


def read_entry(read: Callable[[Any], Entry], data: Any, file: str) -> Entry:
    """`read(data)`, where `data` is the content of `file` or a part of it.

    Raises:
        ArchiveError: `read` does not accept the data.
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
    """The first problem of a validation error, and its place."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:100]
    return f"{place}: {first['msg'][:200]}" if place else first["msg"][:200]


def mapping(data: Any) -> Mapping[str, Any]:
    """`data`, if it is a mapping.

    Raises:
        TypeError: it is not a mapping.
    """
    if not isinstance(data, Mapping):
        raise TypeError("expected `field: value` lines")
    return data
