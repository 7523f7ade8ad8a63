"""Whether a candidate remembers its earlier calls, which no algorithm may: a trainer restarts, and has many workers."""

from __future__ import annotations

import torch
from torch import Tensor

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.trial import Outcome, Trial

# Calls of each entry point before the one that is compared. A counter that acts later than that goes unseen here.
_CALLS = 40
_ADVICE = "an algorithm keeps nothing between calls; what the loss needs to know must be in the advantages"


def memory(trial: Trial) -> str | None:
    """Compare calls after many others with the same calls alone in a fresh process, bit by bit.

    `policy_loss` is called without an earlier `compute_advantages`, as in verl's workers. Two restarts.
    """
    batch, others = batches.mixed(seed=7, groups=2), [batches.mixed(seed, groups=2) for seed in range(3)]
    alone = trial.restarted()
    try:
        advantages = alone.advantages(batch)
    finally:
        alone.close()
    # Another sequence of calls than the worn process has, on purpose.
    if (reason := _loss_alone(trial, batch, advantages, others)) is not None:
        return reason
    worn = trial.advantages(batch)
    if not torch.equal(worn, advantages):
        return f"compute_advantages gives other numbers after earlier calls than alone in a fresh process: {_ADVICE}"
    return None


def _loss_alone(trial: Trial, batch: Batch, advantages: Tensor, others: list[Batch]) -> str | None:
    """Wear the process of `trial` out; then its loss against that of a fresh one that has done nothing else."""
    sizes = batch.sizes
    _wear(trial, others)
    worn = trial.outcome(batch, advantages, sizes=sizes)
    fresh = trial.restarted()
    try:
        alone = fresh.outcome(batch, advantages, sizes=sizes)
    except CandidateFailed as failure:
        return (
            f"policy_loss fails where compute_advantages has not been called in the same process ({failure}): {_ADVICE}"
        )
    finally:
        fresh.close()
    if (name := _differs(worn, alone)) is not None:
        return f"policy_loss gives another {name} after earlier calls than alone in a fresh process: {_ADVICE}"
    return None


def _wear(trial: Trial, others: list[Batch]) -> None:
    """Calls with many different tiny batches, then with batches of the very shape and prompts that are compared."""
    for batch in (*map(_tiny, range(_CALLS)), *others):
        trial.outcome(batch, trial.advantages(batch), sizes=batch.sizes)


def _tiny(number: int) -> Batch:
    """A group of two, whose rewards and lengths change from call to call, and every other time its prompt."""
    levels = list(batches.LEVELS.values())
    score = torch.tensor([levels[number % 3], levels[(number // 3 + 1) % 3]])
    batch = batches.make_batch("a group of two", [score], seed=number)
    return batch.relabelled(batch.name, batches.object_array([f"prompt-{number % 2 * number}"] * 2))


def _differs(one: Outcome, other: Outcome) -> str | None:
    if not torch.equal(one.loss, other.loss):
        return "loss"
    return None if torch.equal(one.gradient, other.gradient) else "gradient"
