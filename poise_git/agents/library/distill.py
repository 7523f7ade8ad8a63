"""The distill operator by rules: the effect of a card over all its candidates, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poise_git.agents.library.ideas import Operation
from poise_git.analysis.lessons import Lesson
from poise_git.archive.entries import Estimate
from poise_git.measurement.statistics import beyond_noise, estimate, half_width

# A regularity needs more than one case.
FEWEST = 2


def distill(lessons: Sequence[Lesson]) -> list[dict[str, Any]]:
    """One principle for each prior that several candidates cite, the most certain first."""
    effects: dict[str, dict[str, Estimate]] = {}
    for lesson in lessons:
        is_presence = len(lesson.priors) == 1 and lesson.operation != Operation.MUTATE
        if lesson.effect is not None and is_presence:
            (prior,) = lesson.priors
            effects.setdefault(prior, {})[lesson.candidate] = _of_presence(lesson, lesson.effect)
    pooled = {prior: (_pooled(list(cases.values())), cases) for prior, cases in effects.items() if len(cases) >= FEWEST}
    ordered = sorted(pooled.items(), key=lambda entry: (-_sureness(entry[1][0]), entry[0]))
    return [_principle(prior, effect, cases) for prior, (effect, cases) in ordered]


def _of_presence(lesson: Lesson, effect: Estimate) -> Estimate:
    """The effect of the mechanism's presence: a lesson from its removal has the opposite sign."""
    return Estimate(-effect.value, effect.se, effect.n) if lesson.operation == Operation.REMOVE else effect


def _pooled(cases: Sequence[Estimate]) -> Estimate:
    """The mean effect of k candidates. Its standard error is the larger of the stated one, sqrt(sum se_i^2) / k, and
    the observed one, s / sqrt(k), because parents differ and seeds are shared."""
    shown = estimate([case.value for case in cases])
    stated = math.sqrt(math.fsum((case.se or 0.0) ** 2 for case in cases)) / len(cases)
    mean = Estimate(shown.value, max(shown.se or 0.0, stated), len(cases))
    return Estimate(mean.value, mean.se, mean.n, half_width(mean))


def _principle(prior: str, effect: Estimate, cases: dict[str, Estimate]) -> dict[str, Any]:
    verb = "makes no difference beyond noise"
    if beyond_noise(effect):
        verb = "raises utility" if effect.value > 0 else "lowers utility"
    return {
        "statement": f"{prior} {verb}: {effect.value:+.4f} ± {effect.se:.4f}, mean of {effect.n} candidates",
        "effect": {name: None if number is None else _rounded(number) for name, number in _fields(effect).items()},
        "support": sorted(name for name, case in cases.items() if case.value * effect.value > 0),
        "against": sorted(name for name, case in cases.items() if case.value * effect.value <= 0),
    }


def _fields(effect: Estimate) -> dict[str, float | None]:
    return {"value": effect.value, "se": effect.se, "n": effect.n, "interval": effect.interval}


def _rounded(number: float) -> float:
    return number if isinstance(number, int) else float(f"{number:.4g}")


def _sureness(effect: Estimate) -> float:
    return abs(effect.value) / effect.se if effect.se else 0.0
