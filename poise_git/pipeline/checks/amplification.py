"""Check that advantages and gradients keep a usable size where a candidate could amplify rounding errors.

Measured over the root, the 55 shipped cards and the 1,251 pairs that may stand together, knobs at their defaults:

| figure                                                              | root | largest | bound |
|---------------------------------------------------------------------|------|---------|-------|
| advantage, groups of 2 to 64 equal rewards                          | 0.29 | 5.8     | 100   |
| advantage, one response of 2 to 64 different                        | 7.87 | 16.5    | 100   |
| gradient of a token, over the root's unclipped one, log-ratios to 1 | 1.0  | 5.4     | 100   |

A scale that amplifies float32's residue reaches 2,690 to 16,500. The bounds leave factors of 6 and 18.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.trial import Case, Trial

_BOUND = 100.0
_SIZES = (2, 3, 5, 6, 7, 8, 13, 16, 31, 64)
# Rewards of valid but wrong responses whose float32 sums leave a residue.
_LEVELS = (0.1, 1.0 / 3.0, 0.4, 0.7)
_LOG_RATIOS = (0.0, 0.1, 0.5, 1.0)
# Log-probabilities at sampling: of a nearly certain token, and of a nearly impossible one.
_OLD = (-1e-4, -15.0)
_ADVICE = (
    "give every denominator that can vanish a floor or an epsilon; in float32 sums a difference of 0 can become 1e-8"
)


def amplification(trial: Trial) -> str | None:
    """Advantages of groups with no contrast or a single different response; gradients at moderate log-ratios."""
    given = list(_little_contrast())
    for batch, signed in zip(given, trial.all_advantages(given), strict=True):
        advantages = signed.abs()
        if not advantages.max() <= _BOUND:
            row = int(advantages.amax(-1).argmax())
            members = int((batch.index == batch.index[row]).sum())
            return (
                f"an advantage of {advantages.max():.3g} on a batch with {batch.name}, in a group of {members}; at "
                f"most {_BOUND:g} is allowed: {_ADVICE}"
            )
    advantages = _advantages(len(_plain().mask))
    moderate = list(_moderate())
    cases = [Case(batch, advantages * batch.mask, sizes=batch.sizes) for batch, _ in moderate]
    for (batch, ratio), outcome in zip(moderate, trial.outcomes(cases), strict=True):
        gradient = outcome.gradient.abs().max()
        # The root's gradient without clipping: ratio times advantage, divided by the number of tokens.
        size = float(gradient) * int(batch.mask.sum()) / (ratio * float(advantages.abs().max()))
        if not size <= _BOUND:
            return (
                f"a gradient {size:.3g} times GRPO's on a batch with {batch.name}; at most {_BOUND:g} times is "
                f"allowed: {_ADVICE}"
            )
    return None


def _little_contrast() -> Iterator[Batch]:
    yield _equal_but_for_one("rewards 0 or 1", ((0.0, 1.0), (1.0, 0.0)))
    for level in _LEVELS:
        yield batches.make_batch(f"every reward {level:.3g}", [torch.full((n,), level) for n in _SIZES])
        yield batches.make_batch(
            f"groups whose rewards are all 0, all {level:.3g} or all 1",
            [torch.full((n,), reward) for n in _SIZES for reward in (0.0, level, 1.0)],
        )
        # All responses have the same length, because mechanisms for length divide by its spread.
        yield _of_one_length([torch.full((n,), level) for n in _SIZES], f"every reward {level:.3g}")
        pairs = ((level, 1.0), (1.0, level), (level, 0.0), (0.0, level))
        yield _equal_but_for_one(f"rewards 0, {level:.3g} or 1", pairs)


def _equal_but_for_one(rewards: str, pairs: Sequence[tuple[float, float]]) -> Batch:
    scores = [_but_one(n, usual, other) for n in _SIZES for usual, other in pairs]
    return batches.make_batch(f"groups of {rewards} that are all equal except one", scores)


def _of_one_length(scores: list[Tensor], name: str) -> Batch:
    batch = batches.make_batch("", scores)
    rewards = torch.zeros_like(batch.rewards)
    rewards[:, -1] = batch.score
    return replace(batch, name=f"{name} and every response as long", rewards=rewards, mask=torch.ones_like(batch.mask))


def _but_one(size: int, usual: float, other: float) -> Tensor:
    score = torch.full((size,), usual)
    score[size // 2] = other
    return score


def _plain() -> Batch:
    return batches.make_batch("", [torch.tensor([0.0, 0.4, 1.0, 1.0])] * 2, seed=3)


def _advantages(count: int) -> Tensor:
    """Advantages (N, 1) of both signs that have no exact float32 value."""
    return torch.where(torch.arange(count) % 2 == 0, 0.7, -0.3).unsqueeze(-1)


def _moderate() -> Iterator[tuple[Batch, float]]:
    """Batches with log-ratios of either sign, and the largest ratio, where the root's dual clip at 3 stops."""
    batch = _plain()
    places = torch.arange(batch.mask.numel()).view_as(batch.mask)
    signs = torch.where(places % 2 == 0, 1.0, -1.0)
    for sampled in _OLD:
        old = torch.where(places % 5 < 3, torch.full_like(batch.old_log_prob, sampled), batch.old_log_prob)
        for shift in _LOG_RATIOS:
            new = (old + shift * signs).clamp(max=0.0)
            name = f"log-ratios of +-{shift:g}, most log-probabilities {sampled:g} when sampled"
            ratio = float((new - old).exp().clamp(max=3.0).max())
            yield replace(batch, name=name, old_log_prob=old, log_prob=new), ratio
