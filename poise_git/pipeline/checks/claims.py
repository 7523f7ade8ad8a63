"""Claims of a proposal that its code decides, by name, on the trusted side of the boundary.

A claim about what training will do ("effect") is no business of this module: it stays undecided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.knobs import Knob, NoSuchRecipe
from poise_git.pipeline.checks.trial import Trial

# held (True), refuted (False) or undecided (None), and a sentence of evidence
Decision = tuple[bool | None, str]
_SEEDS = range(5)
_REDUCTION_TOLERANCE = 1e-6
_SUM_TOLERANCE = 1e-5


def decide(name: str, arguments: Mapping[str, Any], candidate: Trial, parent: Trial) -> Decision:
    """Decide one claim; a name that is not known here, or wrong arguments, leave it undecided."""
    if name not in CLAIMS:
        return None, f"{name} is not decided by code"
    try:
        return CLAIMS[name](arguments, candidate, parent)
    except (KeyError, TypeError, ValueError) as error:
        return None, f"{name} could not be decided: {type(error).__name__}: {error}"


def _reduction(arguments: Mapping[str, Any], candidate: Trial, parent: Trial) -> Decision:
    """With keyword `argument` of `function` at `value`, the candidate is its parent."""
    knob = Knob.of(arguments)
    try:
        variant = Trial.of(candidate.open, knob.recipe)
    except NoSuchRecipe as error:
        return False, f"{knob}: {error}"
    worst = 0.0
    for seed in _SEEDS:
        batch = batches.mixed(seed)
        for what, found, expected in _quantities(variant, parent, batch):
            difference = _largest((found - expected) / expected.abs().clamp(min=1.0))
            if not difference <= _REDUCTION_TOLERANCE:
                return False, f"with {knob} {what} differ from the parent's by {difference:.2g}, expected 0 to 1e-6"
            worst = max(worst, difference)
    return True, f"with {knob} advantages, loss and gradient equal the parent's to {worst:.1g}"


def _order(arguments: Mapping[str, Any], candidate: Trial, parent: Trial) -> Decision:
    """The mean advantage rises strictly over `levels`, in groups that hold all of them."""
    levels = [str(level) for level in arguments["levels"]]
    if unknown := [level for level in levels if level not in batches.LEVELS]:
        return None, f"{unknown[0]!r} is not a level; there are {', '.join(batches.LEVELS)}"
    means: dict[str, list[float]] = {level: [] for level in levels}
    for seed in _SEEDS:
        batch = batches.mixed(seed)
        advantages = candidate.response_advantages(batch)
        for level in levels:
            means[level].append(float(advantages[_at_level(batch, level)].mean()))
    rises = all(
        low < high for lower, upper in pairwise(levels) for low, high in zip(means[lower], means[upper], strict=True)
    )
    figures = ", ".join(f"{level} {sum(values) / len(values):.3f}" for level, values in means.items())
    return rises, f"mean advantages {figures}, expected strictly rising"


def _zero_mean(arguments: Mapping[str, Any], candidate: Trial, parent: Trial) -> Decision:
    """The advantages of every group sum to 0."""
    worst = 0.0
    for seed in _SEEDS:
        batch = batches.mixed(seed)
        advantages = candidate.response_advantages(batch)
        for members in _groups(batch):
            worst = max(worst, float(advantages[members].sum().abs() / advantages[members].abs().sum().clamp(min=1.0)))
    return worst <= _SUM_TOLERANCE, f"the largest sum of a group's advantages is {worst:.2g}, expected 0 to 1e-5"


def _bounded(arguments: Mapping[str, Any], candidate: Trial, parent: Trial) -> Decision:
    """No advantage is larger than `limit`."""
    limit = float(arguments["limit"])
    cases = (*map(batches.mixed, _SEEDS), *batches.degenerate())
    worst, name = max((_largest(candidate.advantages(batch)), batch.name) for batch in cases)
    return worst <= limit, f"the largest advantage is {worst:.4g}, on a batch with {name}; expected at most {limit:g}"


CLAIMS: Mapping[str, Callable[[Mapping[str, Any], Trial, Trial], Decision]] = {
    "reduction": _reduction,
    "order": _order,
    "zero-mean": _zero_mean,
    "bounded": _bounded,
}


def _quantities(candidate: Trial, parent: Trial, batch: Batch) -> Iterator[tuple[str, Tensor, Tensor]]:
    yield "advantages", candidate.advantages(batch), parent.advantages(batch)
    ours, theirs = candidate.outcome(batch), parent.outcome(batch)
    yield "losses", ours.loss, theirs.loss
    yield "gradients", ours.gradient, theirs.gradient


def _at_level(batch: Batch, level: str) -> Tensor:
    return (batch.score - batches.LEVELS[level]).abs() < 1e-4


def _groups(batch: Batch) -> Iterator[Tensor]:
    for prompt in dict.fromkeys(batch.index):
        yield torch.tensor([other == prompt for other in batch.index])


def _largest(values: Tensor) -> float:
    """The largest magnitude; NaN counts as infinite."""
    return float(values.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).max())
