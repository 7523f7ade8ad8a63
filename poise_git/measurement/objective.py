"""The objective: the utility, one number per run, and the bounds that a candidate must keep.

    U(y) = sum over metrics m of c_m y_m,   c_m = ± weight_m / (scale_m * sum of the weights)

The sign is + for a metric to maximize and - for one to minimize. U is linear, so each run has one value of it, and
its differences are paired by seed like those of any other figure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from poise_git.archive.entries import ROOT, Estimate, Run, Violation
from poise_git.measurement.figures import UTILITY, Figures, figures
from poise_git.measurement.statistics import estimate, paired_difference
from poise_git.settings import OVERALL, Constraint, ObjectiveSettings, Term

FINGERPRINT_LENGTH = 12


@dataclass(frozen=True)
class Objective:
    """The objective of a search; `suites` are the protocol's weights, summing to 1, which make up "overall".

    `stated` is the objective of a person, or an agent's translation of a directive; without a metric, U is "overall".
    """

    suites: Mapping[str, float]
    stated: ObjectiveSettings = field(default_factory=ObjectiveSettings)

    @cached_property
    def terms(self) -> Mapping[str, Term]:
        return self.stated.terms

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        return self.stated.constraints

    @property
    def metrics(self) -> dict[str, tuple[str | int, ...]]:
        """Every figure that the objective uses, with the place in its block that first names it."""
        found: dict[str, tuple[str | int, ...]] = {metric: ("metrics", metric) for metric in self.terms}
        for place, constraint in enumerate(self.constraints):
            found.setdefault(constraint.metric, ("constraints", place, "metric"))
        return found

    @property
    def further(self) -> tuple[str, ...]:
        """The metrics of U that are not suites of the protocol."""
        return tuple(metric for metric in self.terms if metric not in self.suites and metric != OVERALL)

    @cached_property
    def coefficients(self) -> dict[str, float]:
        """c_m of every metric of U."""
        total = sum(term.weight for term in self.terms.values())
        return {
            metric: self.orientation(metric) * term.weight / (term.scale * total) for metric, term in self.terms.items()
        }

    @property
    def of_suites(self) -> dict[str, float] | None:
        """The coefficients with "overall" expanded into one per suite; None if U uses any other metric."""
        if self.further:
            return None
        own, share = self.coefficients, self.coefficients.get(OVERALL, 0.0)
        return {suite: own.get(suite, 0.0) + share * weight for suite, weight in self.suites.items()}

    @property
    def unweighted(self) -> frozenset[str]:
        """The suites that have no part in U, not even by one of their single figures."""
        named = {metric.partition("/")[0] for metric in self.terms}
        overall = {suite for suite, weight in self.suites.items() if weight} if OVERALL in self.terms else set()
        return frozenset(self.suites) - named - overall

    @property
    def is_overall(self) -> bool:
        """Whether U is the protocol's own mean of suites."""
        return self.of_suites == dict(self.suites)

    @property
    def fingerprint(self) -> str:
        """First 12 hex digits of the SHA-256 of everything that decides U and the violations; weights count as
        shares."""
        data = {
            "coefficients": {metric: f"{value:.12g}" for metric, value in sorted(self.coefficients.items())},
            "constraints": [constraint.model_dump() for constraint in self.constraints],
        }
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:FINGERPRINT_LENGTH]

    @property
    def description(self) -> str:
        """The objective in one line of words."""
        return description_of(self.stated)

    def orientation(self, metric: str) -> float:
        """1 if larger is better, -1 if smaller is."""
        term = self.terms.get(metric)
        return -1.0 if term is not None and term.direction == "minimize" else 1.0

    def utility(self, values: Mapping[str, float]) -> float:
        """U from the figures of one run."""
        return sum(coefficient * values[metric] for metric, coefficient in self.coefficients.items())

    def utilities(self, table: Figures) -> dict[int, float]:
        """U by seed, for the seeds that have every metric."""
        columns = {metric: table.get(metric, {}) for metric in self.terms}
        seeds = set.intersection(*(set(column) for column in columns.values()))
        return {seed: self.utility({m: column[seed] for m, column in columns.items()}) for seed in sorted(seeds)}

    def figures(self, runs: Iterable[Run]) -> dict[str, dict[int, float]]:
        """Every figure of the runs by seed, the utility first; see `figures.figures`."""
        table = figures(runs, self.suites, self.metrics)
        return {UTILITY: self.utilities(table), **table}

    def violations(self, own: Figures, root: Figures | None) -> tuple[Violation, ...]:
        """The constraints that a candidate's figures violate; `root` is None for the root itself.

        Let e be the amount by which the estimate is beyond the bound; for a `root` bound it is the mean difference,
        paired by seed. A candidate violates a constraint if e > slack * se(e). One seed has no standard error, so the
        estimate alone decides.
        """
        found = []
        for constraint in self.constraints:
            excess = _excess(constraint, own, root)
            if excess is not None and excess.value > constraint.slack * (excess.se or 0.0):
                found.append(Violation(constraint.metric, bound_text(constraint), excess))
        return tuple(found)


def description_of(stated: ObjectiveSettings) -> str:
    """An objective in one line of words."""
    goals = [_goal(metric, term) for metric, term in stated.terms.items()]
    bounds = [
        f"keep {constraint.metric} {bound_text(constraint)} (slack {constraint.slack:g} s.e.)"
        for constraint in stated.constraints
    ]
    return ", ".join([*goals, *bounds])


def bound_text(constraint: Constraint) -> str:
    """The bound in words: `at least the root's`, `at most 12`."""
    words, bound = ("at most", constraint.at_most) if constraint.at_least is None else ("at least", constraint.at_least)
    return f"{words} {ROOT}'s" if bound == "root" else f"{words} {bound:g}"


def _excess(constraint: Constraint, own: Figures, root: Figures | None) -> Estimate | None:
    """The amount beyond the bound; None if there is nothing to compare, because the root meets its own figures."""
    upper = constraint.at_least is None
    bound = constraint.at_most if upper else constraint.at_least
    found = own.get(constraint.metric, {})
    if bound == "root":
        against = {} if root is None else root.get(constraint.metric, {})
        return paired_difference(found, against) if upper else paired_difference(against, found)
    if bound is None or not found:
        return None
    return estimate([value - bound if upper else bound - value for value in found.values()])


def _goal(metric: str, term: Term) -> str:
    details = [f"weight {term.weight:g}"] if term.weight != 1.0 else []
    details += [f"scale {term.scale:g}"] if term.scale != 1.0 else []
    return f"{term.direction} {metric}" + (f" ({', '.join(details)})" if details else "")
