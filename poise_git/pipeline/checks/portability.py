"""Check that outputs follow the device and the float types of the inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.trial import Trial

# float32 against float64, relative to the largest number. The largest difference over the shipped cards and a third
# of their pairs is 5.8e-7.
_TOLERANCE = 1e-5


def device(trial: Trial) -> str | None:
    """Both entry points work on tensors of another device, and return the same numbers."""
    batch = _batch()
    elsewhere = trial.on_second_device()
    advantages, found = trial.advantages(batch), elsewhere.advantages(batch)
    if not torch.equal(found, advantages):
        return "compute_advantages gives other numbers on another device"
    weights = torch.ones_like(batch.log_prob)
    here = trial.outcome(batch, advantages, sizes=batch.sizes, weights=weights)
    there = elsewhere.outcome(batch, advantages, sizes=batch.sizes, weights=weights)
    if not (torch.equal(here.loss, there.loss) and torch.equal(here.gradient, there.gradient)):
        return "policy_loss gives other numbers on another device"
    return None


def dtype(trial: Trial) -> str | None:
    """Outputs have the types of the inputs, for the types that verl hands over and for float64.

    verl 0.9 computes rewards and advantages in float32, stores old_log_prob in float32 (one of its two trainers: in
    the type of log_prob), and gives log_prob in float32 with flash-attn's cross entropy, else in bfloat16.
    """
    batch = _batch()
    for kind in (torch.float32, torch.float64):
        found = trial.advantages(batch.cast(rewards=kind))
        if (reason := _odd("advantages", found, kind, f"{_name(kind)} rewards")) is not None:
            return reason
    advantages = trial.advantages(batch)
    for old, new in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16), (torch.float64, torch.float64)):
        cast = batch.cast(batch.rewards.dtype, old, new)
        given = advantages.to(torch.float64) if new is torch.float64 else advantages
        outcome = trial.outcome(cast, given, sizes=batch.sizes)
        words = f"old_log_prob in {_name(old)}, log_prob in {_name(new)} and advantages in {_name(given.dtype)}"
        expected = torch.promote_types(torch.promote_types(old, new), given.dtype)
        for name, values, kind in (("loss", outcome.loss, expected), ("gradient", outcome.gradient, new)):
            if (reason := _odd(f"the {name}", values, kind, words)) is not None:
                return reason
    return _precision(trial, batch, advantages)


def _precision(trial: Trial, batch: Batch, advantages: Tensor) -> str | None:
    """A comparison with float64 shows whether float32 loses digits."""
    fine = batch.cast(torch.float64, torch.float64, torch.float64)
    pairs = {"advantages": (advantages, trial.advantages(fine))}
    narrow = trial.outcome(batch, advantages, sizes=batch.sizes)
    wide = trial.outcome(fine, advantages.double(), sizes=batch.sizes)
    pairs |= {"the loss": (narrow.loss, wide.loss), "the gradient": (narrow.gradient, wide.gradient)}
    for name, (found, expected) in pairs.items():
        off = (found.double() - expected.double()).abs().max()
        # A loss sums terms of order 0.1 to 1 of both signs, so the loss may be near 0 although its terms are not.
        if not off <= _TOLERANCE * expected.abs().max().clamp(min=0.1 if name == "the loss" else 1e-6):
            return f"{name} in float32 and in float64 differ by {off:.2g}: float32 loses digits, or a type is fixed"
    return None


def _batch() -> Batch:
    scores = [torch.tensor([0.0, 0.4, 1.0, 0.4]), torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.4])]
    return batches.make_batch("groups of 4, 3 and 1", scores, seed=4)


def _odd(name: str, values: Tensor, expected: torch.dtype, given: str) -> str | None:
    if values.dtype != expected:
        return (
            f"with {given}, {name} must be {_name(expected)}, not {_name(values.dtype)}: convert with x.to(y.dtype), "
            "not to a fixed type"
        )
    return None if bool(values.isfinite().all()) else f"with {given}, {name} must be finite"


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
