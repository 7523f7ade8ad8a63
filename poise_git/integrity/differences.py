"""Compare two records of the same figures, each difference as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from poise_git.archive.entries import Estimate, Metrics

# Notes hold six significant digits. Evidence branches hold all digits, so only the order of summation may differ.
OF_NOTES, OF_EVIDENCE = 1e-5, 1e-9
# A smaller difference is rounding.
ROUNDING = 1e-9


def differences(said: Metrics, given: Metrics, tolerance: float, *, scored: bool, paired: bool) -> list[str]:
    """The figures in which `said` differs from `given`, as `U 0.9900, its runs give 0.1310`.

    Args:
        tolerance: the relative difference that is not one.
        scored: both have U by the same objective, so U and the figures that depend on it are compared.
        paired: both gains are known, so they are compared with U.
    """
    pairs: list[tuple[str, Estimate | None, Estimate | None]] = []
    if scored:
        pairs.append(("U", said.utility, given.utility))
        if paired:
            pairs.append(("gain", said.gain, given.gain))
        pairs += _pairs(said.further, given.further)
    pairs += _pairs(said.values, given.values)
    for suite in said.details.keys() & given.details.keys():
        pairs += [
            (f"{suite} {name}", one, other) for name, one, other in _pairs(said.details[suite], given.details[suite])
        ]
    found = [
        f"{name} {shown(one)}, its runs give {shown(other)}"
        for name, one, other in pairs
        if not _equal(one, other, tolerance)
    ]
    for name in sorted(said.dynamics.keys() | given.dynamics.keys()):
        one, other = said.dynamics.get(name, math.nan), given.dynamics.get(name, math.nan)
        if not _close(one, other, tolerance):
            found.append(f"{name} {one:.4g} late in training, its runs give {other:.4g}")
    if scored and paired and _bounds(said) != _bounds(given):
        found.append(f"{_broken(said)}, its runs give {_broken(given)}")
    if not _close(said.cpu_seconds, given.cpu_seconds, max(tolerance, OF_NOTES)):
        found.append(f"{said.cpu_seconds:.4g} CPU seconds, its runs give {given.cpu_seconds:.4g}")
    return found


def intervals_apart(said: Metrics, given: Metrics) -> bool:
    """Whether the intervals of the gain differ; the deviation behind them is not part of the runs."""
    one, other = ((each.gain.interval if each.gain else None) for each in (said, given))
    if one is None or other is None:
        return one is not other
    return not _close(one, other, OF_NOTES)


def shown(estimate: Estimate | None) -> str:
    """An estimate with its standard error and number of runs; `nothing` without one."""
    if estimate is None:
        return "nothing"
    return (
        f"{estimate.value:.4f}" + (f" ± {estimate.se:.4f}" if estimate.se is not None else "") + f" (n = {estimate.n})"
    )


def _pairs(
    said: Mapping[str, Estimate], given: Mapping[str, Estimate]
) -> Iterator[tuple[str, Estimate | None, Estimate | None]]:
    for name in sorted(said.keys() | given.keys()):
        yield name, said.get(name), given.get(name)


def _equal(one: Estimate | None, other: Estimate | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    errors = [math.nan if each.se is None else each.se for each in (one, other)]
    return one.n == other.n and _close(one.value, other.value, tolerance) and _close(errors[0], errors[1], tolerance)


def _close(one: float, other: float, tolerance: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=ROUNDING)


def _bounds(metrics: Metrics) -> list[tuple[str, str]]:
    return sorted((each.metric, each.bound) for each in metrics.violations)


def _broken(metrics: Metrics) -> str:
    broken = ", ".join(each.constraint for each in metrics.violations)
    return f"violations of {broken}" if broken else "no violations"
