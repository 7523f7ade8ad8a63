"""Check a candidate by calling it on small batches; the trusted side decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from poise_git.pipeline.boundary.calls import kind
from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.additivity import micro_batches
from poise_git.pipeline.checks.amplification import amplification
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.memory import memory
from poise_git.pipeline.checks.portability import device, dtype
from poise_git.pipeline.checks.registry import CheckFunction, ordered
from poise_git.pipeline.checks.trial import Case, Outcome, Trial

# float32 sums in another order differ by this much, relative to numbers of order 1.
_TOLERANCE = 1e-5
_LOG_RATIOS = (5.0, 30.0)
# The longest description from the candidate's process, in characters.
_WORDS = 100


def _advantage_shape(trial: Trial) -> str | None:
    batch = batches.mixed()
    found = trial.call_advantages(batch)
    if not isinstance(found.described, list) or len(found.described) != 2:
        return f"compute_advantages must return (advantages, returns), it returned {_words(found.described)}"
    for position, name in enumerate(("advantages", "returns")):
        values, element = found.tensor(position), found.described[position]
        if values is None:
            return f"{name} must be a tensor, found {_words(element)}"
        if values.shape != batch.rewards.shape or values.dtype != batch.rewards.dtype:
            return (
                f"{name} must have shape {tuple(batch.rewards.shape)} and type {batch.rewards.dtype}, "
                f"found {tuple(values.shape)} and {values.dtype}"
            )
        if element.get("requires_grad"):
            return f"{name} must not require a gradient"
    return None


def _advantage_finite(trial: Trial) -> str | None:
    given = _advantage_batches()
    return _first(
        f"advantages must be finite, found {_odd(advantages)} on a batch with {batch.name}"
        for batch, advantages in zip(given, trial.all_advantages(given), strict=True)
        if not advantages.isfinite().all()
    )


def _advantage_padding(trial: Trial) -> str | None:
    given = _advantage_batches()
    return _first(
        f"advantages must be exactly 0 on padding, found {found[found != 0][0]:g} on a batch with {batch.name}"
        for batch, advantages in zip(given, trial.all_advantages(given), strict=True)
        if (found := advantages[batch.padding]).any()
    )


def _loss_scalar(trial: Trial) -> str | None:
    batch = batches.mixed()
    found = trial.call_loss(Case(batch, trial.advantages(batch)))
    loss = found.tensor(0)
    if loss is None or loss.shape != () or not loss.is_floating_point():
        return f"the loss must be a scalar tensor, found {_words(found.described) if loss is None else kind(loss)}"
    if len(found.tensors) != 2:
        return "no differentiable path leads from log_prob to the loss"
    if not isinstance(found.metrics, list):
        return f"the metrics must be a mapping, found {_words(found.metrics)}"
    return _first(
        f"the metrics must map names to finite floats, found {_words(pair)}"
        for pair in found.metrics
        if not _is_metric(pair)
    )


def _loss_finite(trial: Trial) -> str | None:
    given = (*_advantage_batches(), *map(batches.extreme, _LOG_RATIOS))
    cases = list(map(Case, given, trial.all_advantages(given)))
    for batch, outcome in zip(given, trial.outcomes(cases), strict=True):
        for name, values in (("loss", outcome.loss), ("gradient", outcome.gradient)):
            if not values.isfinite().all():
                return f"the {name} must be finite, found {_odd(values)} on a batch with {batch.name}"
    return None


def _gradient(trial: Trial) -> str | None:
    batch = batches.mixed()
    if trial.outcome(batch).gradient.any():
        return None
    return f"the gradient is 0 everywhere on a batch with {batch.name}: the policy would learn nothing"


def _gradient_padding(trial: Trial) -> str | None:
    return _first(
        f"the gradient must be exactly 0 on padding, found {found[found != 0][0]:g} on a batch with {batch.name}"
        for batch in (batches.mixed(), batches.mixed(seed=1))
        if (found := trial.outcome(batch).gradient[batch.padding]).any()
    )


def _inputs_unchanged(trial: Trial) -> str | None:
    batch = batches.mixed()
    advantages = trial.advantages(batch)
    changed = {
        "compute_advantages": trial.call_advantages(batch, watch=True).changed,
        "policy_loss": trial.call_loss(Case(batch, advantages), watch=True).changed,
    }
    return _first(
        f"{function} modifies its argument {name} in place; use a copy"
        for function, names in changed.items()
        for name in names
    )


def _deterministic(trial: Trial) -> str | None:
    """Check equality under other random numbers too, because random numbers are not a function of the rollouts."""
    batch = batches.mixed()
    # The first answer was given before any call of the loss.
    first, *others = (trial.advantages(batch, seed=seed) for seed in range(3))
    if not all(torch.equal(first, other) for other in others):
        return "compute_advantages gives other numbers when called again with the same batch"
    one, other = trial.outcome(batch, seed=1), trial.outcome(batch, seed=2)
    if not torch.equal(one.loss, other.loss) or not torch.equal(one.gradient, other.gradient):
        return "policy_loss gives other numbers when called again with the same batch"
    return None


def _padding_invariance(trial: Trial) -> str | None:
    batch = batches.mixed()
    wide = batch.padded(5)
    width = batch.mask.shape[-1]
    return _differs(trial, batch, wide, "five more columns of padding", lambda values: values[:, :width])


def _order_invariance(trial: Trial) -> str | None:
    batch = batches.mixed()
    order = torch.randperm(len(batch.mask), generator=torch.Generator().manual_seed(1))
    return _differs(trial, batch, batch.permuted(order), "another order of the responses", lambda v: v[order.argsort()])


def _relabelling(trial: Trial) -> str | None:
    batch = batches.mixed()
    numbers = [int(str(prompt).rsplit("-", 1)[1]) for prompt in batch.index]
    expected = trial.advantages(batch)
    others = {
        "a list of texts": [f"{97 - number}!" for number in numbers],
        "a list of descending integers": [-5 * number for number in numbers],
        "an object array of integers": batches.object_array([number + 1000 for number in numbers]),
    }
    for words, index in others.items():
        found = trial.advantages(batch.relabeled(words, index))
        if (reason := _apart("advantages", found, expected)) is not None:
            return f"with {words} as index instead of an object array of texts, {reason}"
    return None


def _verl_types(trial: Trial) -> str | None:
    batch = batches.mixed()
    advantages = trial.advantages(batch)
    found = trial.call_advantages(batch, mask=batch.mask.float(), sizes=batch.sizes).tensor(0)
    if found is None or (reason := _apart("advantages", found, advantages)) is not None:
        return f"with a float mask instead of an int64 one, and a config, {reason if found is not None else 'none'}"
    expected = trial.outcome(batch, advantages, sizes=batch.sizes)
    others = {
        "an int64 mask": trial.outcome(batch, advantages, mask=batch.mask, sizes=batch.sizes),
        "a float mask": trial.outcome(batch, advantages, mask=batch.mask.float(), sizes=batch.sizes),
        "rollout weights of 1": trial.outcome(
            batch, advantages, sizes=batch.sizes, weights=torch.ones_like(batch.log_prob)
        ),
    }
    for words, outcome in others.items():
        if (reason := _outcomes_apart(outcome, expected)) is not None:
            return f"with {words} instead of a bool mask and no weights, {reason}"
    return None


NUMERIC: tuple[tuple[str, CheckFunction[Trial]], ...] = ordered(
    "numeric",
    {
        "advantage-shape": _advantage_shape,
        "advantage-finite": _advantage_finite,
        "advantage-padding": _advantage_padding,
        "loss-scalar": _loss_scalar,
        "loss-finite": _loss_finite,
        "gradient": _gradient,
        "gradient-padding": _gradient_padding,
        "inputs-unchanged": _inputs_unchanged,
        "deterministic": _deterministic,
        "memory": memory,
        "padding-invariance": _padding_invariance,
        "order-invariance": _order_invariance,
        "relabelling": _relabelling,
        "verl-types": _verl_types,
        "dtype": dtype,
        "device": device,
        "micro-batches": micro_batches,
        "amplification": amplification,
    },
)


def _advantage_batches() -> tuple[Batch, ...]:
    return (batches.mixed(), *batches.degenerate())


def _differs(trial: Trial, batch: Batch, changed: Batch, change: str, back: Any) -> str | None:
    """Compare advantages and loss of `changed`, brought `back` to the form of `batch`, with those of `batch`."""
    if (reason := _apart("advantages", back(trial.advantages(changed)), trial.advantages(batch))) is not None:
        return f"{change} must change nothing, but {reason}"
    # Both get the same configuration, with the sizes of the batch, because padding does not change these.
    found, expected = trial.outcome(changed, sizes=batch.sizes), trial.outcome(batch, sizes=batch.sizes)
    reason = _outcomes_apart(Outcome(found.loss, back(found.gradient)), expected)
    return None if reason is None else f"{change} must change nothing, but {reason}"


def _outcomes_apart(found: Outcome, expected: Outcome) -> str | None:
    return _apart("the loss", found.loss, expected.loss) or _apart("the gradient", found.gradient, expected.gradient)


def _apart(name: str, found: Tensor, expected: Tensor) -> str | None:
    if torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
        return None
    where = (found - expected).abs().nan_to_num(nan=math.inf).argmax()
    return f"{name}: expected {expected.flatten()[where]:.6g}, found {found.flatten()[where]:.6g}"


def _first(reasons: Iterator[str]) -> str | None:
    return next(reasons, None)


def _odd(values: Tensor) -> str:
    """The first value that is not finite, and its place."""
    flat = int((~values.isfinite()).flatten().nonzero()[0])
    position = [int(i) for i in torch.unravel_index(torch.tensor(flat), values.shape)]
    return f"{values.flatten()[flat]:g}" + (f" at {position}" if position else "")


def _is_metric(pair: Any) -> bool:
    match pair:
        case [str(), float() | int() as value]:
            return math.isfinite(value)
    return False


def _words(described: Any) -> str:
    """The description of a value from the candidate's process, with limited length."""
    match described:
        case [{"value": words}] | {"value": words} | str(words):
            return str(words)[:_WORDS]
        case [{"tensor": _}, *_] | {"tensor": _}:
            return "a tensor of the wrong shape or type"
        case [name, value]:
            return f"{name!r}: {value}"[:_WORDS]
    return "something else"
