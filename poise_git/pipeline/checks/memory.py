"""Check that a candidate does not remember earlier calls: a trainer restarts, and has many workers."""

from __future__ import annotations

import torch
from torch import Tensor

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.trial import Case, Outcome, Trial

# The number of different batches before the compared call, and how often each entry point gets each of them. This check
# does not detect a counter that acts only after more calls than their product.
_BATCHES, _TIMES = 12, 4
_ADVICE = "an algorithm keeps nothing between calls; pass values to the loss through the advantages"


def memory(trial: Trial) -> str | None:
    """Compare calls after many others with the same calls in a fresh process, bit by bit.

    The fresh process calls `policy_loss` without an earlier `compute_advantages`, as verl's workers do. The used
    process calls it after `compute_advantages`, so that state shared by the two shows. One restart.
    """
    trial = trial.forgetting()
    case = _case(batches.mixed(seed=7, groups=2))
    trial.wear(map(_case, map(_tiny, range(_BATCHES))), _TIMES)
    trial.wear(_case(batches.mixed(seed, groups=2)) for seed in range(3))
    advantages, (worn,) = trial.advantages(case.batch), trial.outcomes([case])
    fresh = trial.restarted()
    try:
        return _differs(fresh, case, advantages, worn)
    finally:
        fresh.close()


def _differs(fresh: Trial, case: Case, advantages: Tensor, worn: Outcome) -> str | None:
    try:
        (alone,) = fresh.outcomes([case])
    except CandidateFailed as failure:
        return f"policy_loss fails if compute_advantages was not called in the same process ({failure}): {_ADVICE}"
    for name, one, other in (("loss", worn.loss, alone.loss), ("gradient", worn.gradient, alone.gradient)):
        if not torch.equal(one, other):
            return f"policy_loss gives another {name} after earlier calls than alone in a fresh process: {_ADVICE}"
    if not torch.equal(fresh.advantages(case.batch), advantages):
        return f"compute_advantages gives other numbers after earlier calls than in a fresh process: {_ADVICE}"
    return None


def _case(batch: Batch) -> Case:
    """A case with arbitrary advantages, so that they need not be computed first."""
    return Case(batch, (batch.score - batch.score.mean()).unsqueeze(-1) * batch.mask, sizes=batch.sizes)


def _tiny(number: int) -> Batch:
    """A group of two. Its rewards and lengths change with every call, and its prompt with every second call."""
    levels = list(batches.LEVELS.values())
    score = torch.tensor([levels[number % 3], levels[(number // 3 + 1) % 3]])
    batch = batches.make_batch("a group of two", [score], seed=number)
    return batch.relabeled(batch.name, batches.object_array([f"prompt-{number % 2 * number}"] * 2))
