"""Notes on a candidate's commit: one JSON object per line, so that notes of two clones merge with `cat_sort_uniq`.

That merge loses the order of lines. Therefore every line has its time of writing (`at`, Unix seconds), and readers use
the latest line of the kind that they need. They skip other lines, because people write notes by hand. Figures that are
not finite are written as Python's json writes them: NaN, Infinity.

A note of commit abcdef… is the file `abcdef…`, `ab/cdef…` or `ab/cd/ef…` of the notes tree. Git may change the depth.
Several of these files may exist at once; together their lines are the note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from poise_git.archive.codec import names_of
from poise_git.archive.entries import (
    SCHEMA_VERSION,
    Estimate,
    Metrics,
    Reflection,
    Reproduction,
    Run,
    Status,
    Violation,
)
from poise_git.archive.lines import (
    LINE_LENGTH,
    METRICS_LINE_LENGTH,
    NOTE_LENGTH,
    Line,
    MetricsLine,
    Numbers,
    ReflectionLine,
    ReproductionLine,
    RunLine,
    as_object,
    lines_of,
    read_line,
    read_lines,
)
from poise_git.archive.messages import shorten
from poise_git.archive.refs import METRICS_NOTES, REFLECTION_NOTES, TRAJECTORY_NOTES
from poise_git.untrusted.display import json_text, one_line

DIGITS = 6
# Cache the trajectories of this many candidates.
RUNS_REMEMBERED = 32
METRICS_REMEMBERED = 16_384
REASON_LENGTH = 200
REPRODUCTION = "reproduction"
# The clocks of two machines may differ by this many seconds.
CLOCKS_APART = 86_400.0
# git deepens a notes tree by one level each time it has 256 times more notes; four levels hold 16 million.
_DEPTHS = 4


def note_paths(commit: str) -> tuple[str, ...]:
    """Every path at which a note on `commit` may be; this package writes to the second one."""
    cuts = [[commit[2 * level : 2 * level + 2] for level in range(depth)] for depth in range(_DEPTHS)]
    return tuple("/".join([*cut, commit[2 * depth :]]) for depth, cut in enumerate(cuts))


def note_path(commit: str) -> str:
    return note_paths(commit)[1]


def parse_lines(text: str) -> Iterator[dict[str, Any]]:
    """The lines of a note that this package wrote, of any kind, oldest first."""
    found = ((line, data) for each in lines_of(text) if (line := read_line(each, Line)) and (data := as_object(each)))
    yield from (dict(data) for _, data in sorted(found, key=lambda entry: entry[0].at))


def unreadable_lines(text: str, kinds: Sequence[type[Line]] = (Line,)) -> list[str]:
    """JSON lines that are not of a kind that the note may hold, and text that is too long to be read."""

    def is_read(line: str) -> bool:
        return any(
            read_line(line, kind, METRICS_LINE_LENGTH if kind is MetricsLine else LINE_LENGTH) is not None
            for kind in kinds
        )

    broken = [line for line in lines_of(text) if line.startswith("{") and not is_read(line)]
    unread = [f"{len(text)} characters, of which the last {NOTE_LENGTH} are read"] if len(text) > NOTE_LENGTH else []
    return [*unread, *broken]


def algorithm_in(line: str) -> str:
    """The blob of the algorithm that a line is about; "" if the line does not name one."""
    found = read_line(line, Line)
    return found.algorithm if found else ""


def append(text: str, lines: Iterable[str]) -> str:
    """A note's text with further lines."""
    return "".join(f"{line}\n" for line in [*filter(None, text.split("\n")), *lines])


# The kinds of lines in the notes of each ref.
KINDS: Mapping[str, tuple[type[Line], ...]] = {
    METRICS_NOTES: (MetricsLine,),
    REFLECTION_NOTES: (ReflectionLine,),
    TRAJECTORY_NOTES: (RunLine, ReproductionLine),
}

# Metrics. A line begins with the result, because `git log` shows the line unchanged.


def metrics_line(metrics: Metrics, at: float) -> str:
    """The fields of `metrics` that selection needs, at six significant digits; details are in `metrics.yaml`."""
    data = metrics.data_of(_OF_FAILURE if metrics.status is Status.FAILED else _OF_RESULT)
    said = {name: value for name, value in data.items() if value or name not in _OMITTED}
    return _line({_FORMS[name].name: _FORMS[name].shorten(value) for name, value in said.items()}, at)


@lru_cache(METRICS_REMEMBERED)
def latest_metrics(text: str) -> Mapping[str, Metrics]:
    """The latest metrics of every protocol, by protocol hash."""
    found: dict[str, Metrics] = {}
    for line in read_lines(text, MetricsLine, METRICS_LINE_LENGTH):
        found[line.protocol] = _metrics(line)
    return found


def as_noted(metrics: Metrics) -> Metrics:
    """Metrics as a note holds them: without details, at six significant digits."""
    return latest_metrics(metrics_line(metrics, 0.0))[metrics.protocol]


def _metrics(line: MetricsLine) -> Metrics:
    return Metrics(**{name: form.read(getattr(line, form.name)) for name, form in _FORMS.items()})


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _numbers(estimate: Mapping[str, Any] | None) -> list[Any] | None:
    """[value, standard error, n], and half the interval if there is one."""
    if estimate is None:
        return None
    return [value if value is None or name == "n" else _round(value) for name, value in estimate.items()]


def _estimate(numbers: Numbers | None) -> Estimate | None:
    return Estimate(*numbers) if numbers else None


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class _Form:
    """The form of a field of Metrics in a line: its name, and functions that shorten and read its plain data."""

    name: str
    shorten: Callable[[Any], Any] = _same
    read: Callable[[Any], Any] = _same


_ESTIMATES = (
    lambda estimates: {name: _numbers(each) for name, each in estimates.items()},
    lambda line: {name: Estimate(*numbers) for name, numbers in line.items()},
)
_FORMS: Mapping[str, _Form] = {
    "utility": _Form("U", _numbers, _estimate),
    "gain": _Form("gain", _numbers, _estimate),
    "values": _Form("y", *_ESTIMATES),
    "status": _Form("status"),
    "stage": _Form("stage"),
    "reason": _Form("reason", lambda reason: shorten(one_line(reason), REASON_LENGTH)),
    "protocol": _Form("protocol"),
    "seeds": _Form("seeds"),
    "cpu_seconds": _Form("cpu", _round),
    "further": _Form("further", *_ESTIMATES),
    "dynamics": _Form(
        "dynamics",
        lambda dynamics: {name: _round(value) for name, value in dynamics.items()},
        lambda figures: figures or {},
    ),
    "violations": _Form(
        "violations",
        lambda violations: [[each["metric"], each["bound"], _numbers(each["excess"])] for each in violations],
        lambda line: tuple(Violation(metric, bound, Estimate(*excess)) for metric, bound, excess in line),
    ),
    "objective": _Form("objective"),
    "algorithm": _Form("algorithm"),
    "usd": _Form("usd", _round),
}
# The fields of a line in their order, and those that are omitted if they are empty.
_OF_FAILURE = ("status", "stage", "reason", "protocol", "objective", "algorithm", "usd")
_OF_RESULT = tuple(name for name in _FORMS if name not in ("stage", "reason"))
_OMITTED = frozenset({"further", "dynamics", "violations", "usd"})


# Trajectories: one line per run, with all its data.


def run_line(run: Run, at: float, algorithm: str) -> str:
    """The line of a run. `algorithm` is the trained blob, because git also copies notes to a commit with other code."""
    return _line(run.to_data() | {"algorithm": algorithm}, at)


# A search reads the same runs repeatedly, and reading them is slow.
@lru_cache(RUNS_REMEMBERED)
def latest_runs(text: str, algorithm: str) -> tuple[Run, ...]:
    """The latest run of every protocol and seed, sorted by both, without runs of other algorithms than this blob."""
    found: dict[tuple[str, int], Run] = {}
    for line in read_lines(text, RunLine):
        if _is_of(line, algorithm):
            found[line.protocol, line.seed] = _run(line)
    return tuple(found[key] for key in sorted(found))


def _run(line: RunLine) -> Run:
    return Run(**{name: getattr(line, name) for name in names_of(Run)})


@dataclass(frozen=True)
class Trajectory:
    """The content of a trajectory note, oldest line first.

    `runs` are the runs of the candidate's own algorithm, one per line: a seed that was trained twice occurs twice.
    `foreign` names the algorithm blobs of runs of other code. `future` counts lines dated later than they can be.
    """

    runs: tuple[Run, ...] = ()
    foreign: tuple[str, ...] = ()
    reproductions: tuple[Reproduction, ...] = ()
    future: int = 0


def read_trajectory(text: str, algorithm: str, now: float) -> Trajectory:
    """Every run and reproduction of a note; `now` in Unix seconds."""
    runs, foreign = list[Run](), list[str]()
    lines, again = list(read_lines(text, RunLine)), list(read_lines(text, ReproductionLine))
    for line in lines:
        if _is_of(line, algorithm):
            runs.append(_run(line))
        else:
            foreign.append(line.algorithm)
    reproductions = tuple(line.reproduction for line in again if _is_of(line, algorithm))
    future = sum(line.at > now + CLOCKS_APART for line in (*lines, *again))
    return Trajectory(tuple(runs), tuple(foreign), reproductions, future)


def reproduction_line(reproduction: Reproduction, at: float, algorithm: str) -> str:
    """A line of the trajectory note. It has no `values`, so readers of runs skip it."""
    return _line({"reproduction": reproduction.to_data(), "algorithm": algorithm}, at)


def _is_of(line: RunLine | ReproductionLine, algorithm: str) -> bool:
    """Whether a line is about that blob; a line that does not name a blob counts."""
    return "algorithm" not in line.model_fields_set or line.algorithm == algorithm


def reflection_line(reflection: Reflection, protocol: str, at: float) -> str:
    return _line({"protocol": protocol, "facts": reflection.facts.to_data(), "prose": reflection.prose}, at)


def _line(data: Mapping[str, Any], at: float) -> str:
    return json_text({**data, "at": at, "v": SCHEMA_VERSION}, separators=(",", ":"), default=str)
