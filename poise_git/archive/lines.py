"""Read the lines of notes: one JSON object each. The type and size of every line are checked.

Readers ignore a line of another form, and `poise-git doctor` reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from poise_git.archive.entries import SCHEMA_VERSION, Isolation, Reproduction, Status
from poise_git.untrusted.data import Amount, Count, Deviation, Figure, Number, Whole

# Limits in characters. A run of 10,000 steps with 50 series has 10 MB, and a note grows by a line per run.
LINE_LENGTH = 16 * 1024 * 1024
METRICS_LINE_LENGTH = 256 * 1024
NOTE_LENGTH = 64 * 1024 * 1024
# The largest numbers of steps of a run, and of names in one mapping.
STEPS = 100_000
NAMES = 1_000
TEXT_LENGTH = 10_000

Text = Annotated[str, Field(max_length=TEXT_LENGTH)]
Figures = Annotated[dict[Text, Number], Field(max_length=NAMES)]
# [value, standard error, n], and half the interval if there is one.
Numbers = tuple[Figure, Deviation | None, Count] | tuple[Figure, Deviation | None, Count, Deviation]
Estimates = Annotated[dict[Text, Numbers], Field(max_length=NAMES)]


class Line(BaseModel):
    """The fields of every line: the time of writing (Unix seconds) and the version of the format."""

    model_config = ConfigDict(strict=True, frozen=True)

    at: Annotated[float, Field(allow_inf_nan=False)]
    v: Literal[SCHEMA_VERSION]  # type: ignore[valid-type]
    algorithm: Text = ""


class MetricsLine(Line):
    status: Status
    protocol: Text
    U: Numbers | None = None
    gain: Numbers | None = None
    y: Estimates = {}
    further: Estimates = {}
    seeds: Annotated[tuple[Whole, ...], Field(max_length=STEPS)] = ()
    cpu: Number = 0.0
    dynamics: Figures | None = None
    objective: Text = ""
    violations: Annotated[tuple[tuple[Text, Text, Numbers], ...], Field(max_length=NAMES)] = ()
    stage: Text = ""
    reason: Text = ""
    usd: Amount = 0.0


class RunLine(Line):
    protocol: Text
    seed: Whole
    values: Figures
    details: Annotated[dict[Text, Figures], Field(max_length=NAMES)]
    series: Annotated[dict[Text, Annotated[tuple[Number, ...], Field(max_length=STEPS)]], Field(max_length=NAMES)]
    curve: Annotated[tuple[Figures, ...], Field(max_length=STEPS)]
    cpu_seconds: Number
    isolation: Isolation | None = None


class ReproductionLine(Line):
    reproduction: Reproduction


class ReflectionLine(Line):
    protocol: Text
    facts: dict[str, Any]
    prose: str


AnyLine = TypeVar("AnyLine", bound=Line)


def read_line(text: str, kind: type[AnyLine], longest: int = LINE_LENGTH) -> AnyLine | None:
    """The line as `kind`; None if it has another form or more than `longest` characters."""
    if len(text) > longest or not text.startswith("{"):
        return None
    try:
        return kind.model_validate_json(text)
    except (ValidationError, ValueError):
        return None


def read_lines(text: str, kind: type[AnyLine], longest: int = LINE_LENGTH) -> Iterator[AnyLine]:
    """The lines of a note that are of this kind, oldest first."""
    found = [(line.at, each, line) for each in lines_of(text) if (line := read_line(each, kind, longest))]
    yield from (line for _, _, line in sorted(found, key=lambda entry: entry[:2]))


def lines_of(text: str) -> list[str]:
    """The lines of a note. Of a note that is too long, the last whole lines, because new lines are appended."""
    return text[-NOTE_LENGTH:].split("\n")[len(text) > NOTE_LENGTH :]


def as_object(line: str) -> Mapping[str, Any] | None:
    """The JSON object in a line, of any form; None if it is not one."""
    try:
        data = from_json(line) if len(line) <= LINE_LENGTH else None
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
