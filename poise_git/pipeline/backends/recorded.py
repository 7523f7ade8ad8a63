"""Check the form of a recorded run (seeds, lengths, estimator, ranges) against the protocol's text alone.

Nothing here trains or loads a backend, because these checks apply to every run of an archive from a stranger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from poise_git.archive.entries import Run
from poise_git.errors import PoiseError
from poise_git.pipeline.backends import BACKENDS
from poise_git.pipeline.protocol import Protocol

# The same code computes a figure twice, so only the last digits may differ.
TOLERANCE = 1e-9
# The number of defects of one run that are named.
NAMED = 3


class Recorded:
    """The form of the runs of one protocol; its settings are read once for all of them."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._problem = ""
        self._of_backend: Callable[[Run], Iterator[str]] = _nothing
        try:
            if kind := BACKENDS.get(protocol.backend):
                self._of_backend = kind.record_of(protocol).defects
        except PoiseError as error:
            self._problem = f"protocols/{protocol.name}.yaml cannot be read: {error}"

    def defects(self, run: Run) -> list[str]:
        """The reasons why `run` cannot belong to this protocol, or to any; empty if there are none."""
        if self._problem:
            return [self._problem]
        found: list[str] = []
        try:
            found += [*_values(self.protocol, run), *_rates(run)]
            found += self._of_backend(run)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            found.append(f"its curve or series have another form ({type(error).__name__}: {error})")
        return found[:NAMED]


# Shares that their names do not show: `sampled` is in archives of earlier versions.
SHARES = frozenset({"greedy", "early", "final", "sampled"})


def is_rate(name: str) -> bool:
    """Whether a figure of this name must be a share. The fraction of clipped tokens is not checked as one."""
    figure = name.rpartition("/")[2]
    return figure.endswith("_rate") or figure.startswith(("acc@", "pass@")) or figure in SHARES


def _values(protocol: Protocol, run: Run) -> Iterator[str]:
    if run.values.keys() != protocol.suites.keys():
        yield f"its values are for {', '.join(sorted(map(str, run.values))) or 'nothing'}, not for the suites"
    for name, value in run.values.items():
        if not _is_share(value):
            yield f"{name} {_shown(value)} is not a share between 0 and 1"


def _rates(run: Run) -> Iterator[str]:
    named: Iterator[tuple[str, object]] = (
        (f"{suite} {name}", value) for suite, figures in run.details.items() for name, value in figures.items()
    )
    for name, value in named:
        if is_rate(name.rpartition(" ")[2]) and not _is_share(value):
            yield f"{name} {_shown(value)} is not a share between 0 and 1"
    for name, values in run.series.items():
        for step, value in enumerate(values, 1):
            if not isinstance(value, int | float):
                yield f"series {name} has {_shown(value)} at step {step}, which is not a number"
                break
            # A series may lack values, but a value that is present must be a share.
            if is_rate(name) and not math.isnan(value) and not _is_share(value):
                yield f"series {name} has {_shown(value)} at step {step}, which is not a share between 0 and 1"
                break


def overall_defect(protocol: Protocol, point: Mapping[str, float], number: int) -> Iterator[str]:
    given = math.fsum(weight * float(point[suite]) for suite, weight in protocol.suite_weights.items())
    if not is_close(given, float(point["overall"])):
        yield f"point {number} of its curve says overall {float(point['overall']):.4f}, its suites give {given:.4f}"


def _nothing(run: Run) -> Iterator[str]:
    yield from ()


def is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else repr(value)[:40]
