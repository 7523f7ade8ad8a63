"""Check that micro-batches add up to the batch, as every trainer that splits a batch assumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.trial import AGGREGATION, Case, Outcome, Trial

# The modes of aggregate_loss in recipe/rollouts.py.
MODES = ("token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")
# Relative to the largest gradient of the batch, and to the sum of the parts' absolute losses. The largest difference
# over the shipped cards and a third of their pairs is 1.4e-6, from float32 sums in another order.
_TOLERANCE = 1e-5
_ADVICE = (
    "A trainer may split a batch at any row, so policy_loss must use each response alone; move anything that needs "
    "the whole batch or whole groups (a mean, a maximum, a quantile) into compute_advantages"
)


def micro_batches(trial: Trial) -> str | None:
    """Compare the sums over row-wise parts with the whole, for every mode of aggregation.

    Parts of a single response are tested only in the protocols' mode, because the other modes differ from it only in
    the sums. Each part gets the sizes of the whole batch in `config.global_batch_info`, as in verl, and is cut to its
    own longest response. One of the splits is over two devices, whose gradients verl averages.
    """
    usual = _batch()
    # Test the protocols' mode once more with responses at all distances from the policy, because some mechanisms act
    # only beyond a certain distance.
    for batch, mode in (*((usual, mode) for mode in MODES), (_ever_farther(usual), AGGREGATION)):
        advantages = _advantages(trial, batch)
        weights = 0.5 + torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(2))
        whole = Case(batch, advantages, sizes=batch.sizes, weights=weights, aggregation=mode)
        splits = list(_splits(len(batch.mask), alone=mode == AGGREGATION))
        cases = [_part(whole, rows, devices) for parts, devices in splits for rows in parts]
        expected, *outcomes = trial.outcomes([whole, *cases])
        for parts, devices in splits:
            found, outcomes = outcomes[: len(parts)], outcomes[len(parts) :]
            if (reason := _apart(expected, parts, found, devices)) is not None:
                return f"in mode {mode}, {reason}. {_ADVICE}"
    return None


def _part(whole: Case, rows: Tensor, devices: int) -> Case:
    assert whole.weights is not None
    batch = whole.batch.rows(rows)
    width = batch.mask.shape[-1]
    return replace(
        whole,
        batch=batch,
        advantages=whole.advantages[rows, :width],
        sizes=whole.batch.sizes_for(devices),
        weights=whole.weights[rows, :width],
    )


def _batch() -> Batch:
    """Three groups, of 4, 3 and 1; the splits cut through them. Log-ratios extend beyond every usual clip."""
    levels = list(batches.LEVELS.values())
    scores = [torch.tensor([levels[i] for i in group]) for group in ((2, 0, 1, 2), (0, 2, 0), (2,))]
    batch = batches.make_batch("groups of 4, 3 and 1", scores, seed=5)
    return batch.moved(0.4)


def _ever_farther(batch: Batch) -> Batch:
    """Make the log-ratios of the first response small, and those of each next response about twice as large."""
    log_ratio = batch.log_prob - batch.old_log_prob
    factors = 2.0 ** torch.arange(-4, len(log_ratio) - 4).unsqueeze(-1)
    return replace(batch, log_prob=batch.old_log_prob + log_ratio * factors)


def _advantages(trial: Trial, batch: Batch) -> Tensor:
    """The candidate's advantages, varied by token, so that no statistic of a part agrees with the batch by chance."""
    generator = torch.Generator().manual_seed(1)
    factors = 0.5 + torch.rand(batch.mask.shape, generator=generator)
    own = trial.advantages(batch)
    signs = torch.where(torch.arange(len(own)) % 2 == 0, 0.3, -0.3).unsqueeze(-1)
    # The signs test the loss even if a candidate gives no advantage to a group of one, or to all its responses.
    return (own + signs) * factors * batch.mask


def _splits(count: int, alone: bool) -> Iterator[tuple[list[Tensor], int]]:
    """Ways to split `count` rows, also into single ones if `alone`: the parts, and the number of devices."""
    rows = torch.arange(count)
    if alone:
        yield list(rows.unsqueeze(-1)), 1
    yield [rows[: count // 3], rows[count // 3 :]], 1
    yield [rows[::2], rows[1::2]], 2


def _apart(whole: Outcome, parts: list[Tensor], outcomes: list[Outcome], devices: int) -> str | None:
    gradient = torch.zeros_like(whole.gradient)
    for rows, outcome in zip(parts, outcomes, strict=True):
        gradient[rows, : outcome.gradient.shape[-1]] = outcome.gradient / devices
    losses = torch.stack([outcome.loss / devices for outcome in outcomes])
    words = f"{len(parts)} micro-batches" + (" on 2 devices" if devices > 1 else "")
    off = (gradient - whole.gradient).abs().max()
    largest = whole.gradient.abs().max()
    if not off <= _TOLERANCE * largest:
        share = (
            f"by {off / largest:.2g} of the largest" if largest > 0 else f"by {off:.2g}, where the whole batch has 0"
        )
        return f"the gradient of {words} differs from the whole batch's {share}"
    if not (losses.sum() - whole.loss).abs() <= _TOLERANCE * losses.abs().sum().clamp(min=1e-6):
        return f"the losses of {words} add up to {losses.sum():.6g}, the whole batch's is {whole.loss:.6g}"
    return None
