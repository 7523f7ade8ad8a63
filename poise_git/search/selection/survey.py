"""Survey the genealogy for selection: the eligible nodes, and the best of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from poise_git.archive.collection import gc_paused
from poise_git.archive.entries import Candidate, Estimate, Metrics, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.errors import ArchiveError
from poise_git.measurement.objective import Objective
from poise_git.search.selection.interface import Node, Survey

# A 95% interval extends this many standard errors to either side.
INTERVAL = 1.96


def evaluated(genealogy: Genealogy, protocol: str) -> dict[str, tuple[Candidate, Metrics]]:
    """Candidates with metrics under `protocol`, in the order of their commits; the root comes first."""
    return {
        candidate.name: (candidate, metrics)
        for candidate in genealogy
        if (metrics := candidate.metrics_under(protocol)) and metrics.status is Status.EVALUATED and metrics.utility
    }


@gc_paused()
def survey(genealogy: Genealogy, protocol: str, objective: Objective, remaining: int | None = None) -> Survey:
    """Every evaluated candidate as a node; `remaining` is the number of evaluations left, if known.

    The metrics are those of the root: the protocol's suites, and the other metrics of the objective.

    Raises:
        ArchiveError: a candidate has a figure that is not finite, or lacks a metric that the root has; or a trailer
            names a parent that is missing or descends from its child.
    """
    genealogy.validate_parents()
    found = evaluated(genealogy, protocol)
    names = sorted(_vector(next(iter(found.values()))[1])) if found else []
    signs = [objective.orientation(metric) for metric in names]
    depths: dict[str, int] = {}
    for candidate in genealogy:
        depths[candidate.name] = 1 + depths.get(candidate.parents[0], -1) if candidate.parents else 0
    errors = _errors(found)
    nodes = []
    for name, (candidate, metrics) in found.items():
        utility = metrics.utility
        assert utility is not None
        vector = _vector(metrics)
        _refuse_unusable(candidate, {**vector, "U": utility}, names)
        nodes.append(
            Node(
                name=name,
                parents=candidate.parents,
                utility=utility.value,
                error=errors[name],
                metrics=tuple([sign * vector[metric].value for sign, metric in zip(signs, names, strict=True)]),
                metric_errors=tuple([vector[metric].se or 0.0 for metric in names]),
                dynamics=tuple(metrics.dynamics.values()),
                mechanisms=genealogy.mechanisms[name],
                text=f"{candidate.mechanism} {candidate.hypothesis}",
                depth=depths[name],
                seeds=utility.n,
                feasible=not metrics.violations,
            )
        )
    children = {name: len(genealogy.children(name)) for name in found}
    return Survey(tuple(nodes), children, remaining)


def _vector(metrics: Metrics) -> dict[str, Estimate]:
    return {**metrics.values, **metrics.further}


def _errors(found: Mapping[str, tuple[Candidate, Metrics]]) -> dict[str, float]:
    """The standard error of each utility in comparisons: the error of the gain, which is paired by seed.

    The root has no gain. It has the same seeds as the others, so it gets the median of their errors.
    """
    known: dict[str, float] = {}
    for name, (_, metrics) in found.items():
        gain = metrics.gain
        error = None if gain is None else gain.se if gain.interval is None else gain.interval / INTERVAL
        if error is None and metrics.utility and gain is not None:
            error = metrics.utility.se
        if error is not None:
            known[name] = error
    own = [metrics.utility.se for _, metrics in found.values() if metrics.utility and metrics.utility.se is not None]
    typical = statistics.median(known.values() or own or [0.0])
    return {name: known.get(name, typical) for name in found}


def _refuse_unusable(candidate: Candidate, figures: Mapping[str, Estimate], names: Sequence[str]) -> None:
    broken = [name for name, figure in figures.items() if not math.isfinite(figure.value)]
    lacking = [name for name in names if name not in figures]
    if broken or lacking:
        what = f"its {broken[0]} is not a finite number" if broken else f"its metrics lack {lacking[0]}"
        raise ArchiveError(
            f"candidate {candidate.name} (commit {candidate.commit[:10]}): {what}; "
            f"rescore it: poise-git reflect {candidate.name}"
        )


def best(genealogy: Genealogy, protocol: str) -> tuple[Candidate, Metrics] | None:
    """The best evaluated candidate; every candidate has run on the same seeds."""
    return max(evaluated(genealogy, protocol).values(), key=lambda pair: standing(pair[1]), default=None)


def standing(metrics: Metrics) -> tuple[bool, float]:
    """The sort key of candidates: those that keep every constraint rank above all others, then utility decides."""
    return not metrics.violations, metrics.utility.value if metrics.utility else float("-inf")


def gains_over_parent(genealogy: Genealogy, protocol: str) -> Mapping[str, float]:
    """U(child) - U(parent) of every evaluated child of an evaluated parent."""
    found = evaluated(genealogy, protocol)
    gains = {}
    for name, (candidate, metrics) in found.items():
        parents: Sequence[str] = [parent for parent in candidate.parents if parent in found]
        if parents and metrics.utility:
            best_parent = max(utility.value for parent in parents if (utility := found[parent][1].utility))
            gains[name] = metrics.utility.value - best_parent
    return gains


def effects_of_priors(genealogy: Genealogy, protocol: str, noise: float) -> Mapping[str, tuple[float, ...]]:
    """Prior -> the gains over their parents of all candidates that cite it, in units of `noise`; empty without
    noise."""
    effects: dict[str, list[float]] = {}
    for name, gain in gains_over_parent(genealogy, protocol).items():
        for prior in genealogy[name].priors if noise > 0 else ():
            effects.setdefault(prior, []).append(gain / noise)
    return {prior: tuple(gains) for prior, gains in effects.items()}
