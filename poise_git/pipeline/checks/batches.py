"""Batches that a candidate must handle: ordinary, degenerate and extreme, all small and seeded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

INVALID, WRONG, CORRECT = 0.0, 0.4, 1.0
LEVELS = {"invalid": INVALID, "valid-wrong": WRONG, "correct": CORRECT}
_TOKENS = 12


@dataclass(frozen=True)
class Batch:
    """N responses of at most T tokens, as verl hands them over.

    Attributes:
        name: its special property, in words.
        rewards: (N, T), the reward on each response's last token.
        mask: (N, T) int64.
        index: N prompt identifiers.
        old_log_prob, log_prob: (N, T).
    """

    name: str
    rewards: Tensor
    mask: Tensor
    index: Any
    old_log_prob: Tensor
    log_prob: Tensor

    @property
    def score(self) -> Tensor:
        """(N,)"""
        return self.rewards.sum(-1)

    @property
    def padding(self) -> Tensor:
        """(N, T) bool."""
        return self.mask == 0

    @property
    def sizes(self) -> dict[str, float]:
        """Sizes of the whole batch, as in verl's `global_batch_info`, so that the width of padding does not affect
        the loss."""
        return self.sizes_for(devices=1)

    def sizes_for(self, devices: int) -> dict[str, float]:
        """The same if the batch is spread over several devices."""
        return {
            "dp_size": devices,
            "batch_num_tokens": int(self.mask.sum()),
            "global_batch_size": len(self.mask),
            "loss_scale_factor": _TOKENS,
        }

    def relabeled(self, name: str, index: Any) -> Batch:
        return replace(self, name=name, index=index)

    def permuted(self, order: Tensor) -> Batch:
        """Row i of the new batch is row order[i] of this one."""
        return Batch(
            f"{self.name}, rows permuted",
            self.rewards[order],
            self.mask[order],
            self.index[order.numpy()],
            self.old_log_prob[order],
            self.log_prob[order],
        )

    def moved(self, deviation: float, seed: int = 0) -> Batch:
        """The same responses after a policy update: log-ratios with this standard deviation."""
        noise = torch.randn(self.mask.shape, generator=torch.Generator().manual_seed(seed))
        return replace(self, log_prob=self.old_log_prob + deviation * noise)

    def rows(self, chosen: Tensor) -> Batch:
        """The rows `chosen` (int64), cut to their longest response, like a micro-batch of verl."""
        width = int(self.mask[chosen].sum(-1).max())
        return Batch(
            f"{self.name}, {len(chosen)} of {len(self.mask)} rows",
            self.rewards[chosen, :width],
            self.mask[chosen, :width],
            self.index[chosen.numpy()],
            self.old_log_prob[chosen, :width],
            self.log_prob[chosen, :width],
        )

    def cast(
        self,
        rewards: torch.dtype | None = None,
        old_log_prob: torch.dtype | None = None,
        log_prob: torch.dtype | None = None,
    ) -> Batch:
        """The same numbers, as far as other float types can hold them."""
        return replace(
            self,
            rewards=self.rewards.to(rewards),
            old_log_prob=self.old_log_prob.to(old_log_prob),
            log_prob=self.log_prob.to(log_prob),
        )

    def padded(self, columns: int) -> Batch:
        """Add columns of padding on the right, with arbitrary log-probabilities."""

        def widen(values: Tensor, fill: float) -> Tensor:
            return torch.cat([values, values.new_full((len(values), columns), fill)], dim=-1)

        return Batch(
            f"{self.name}, {columns} columns of padding added",
            widen(self.rewards, 0),
            widen(self.mask, 0),
            self.index,
            widen(self.old_log_prob, -3.0),
            widen(self.log_prob, -0.5),
        )


def mixed(seed: int = 0, groups: int = 6) -> Batch:
    """Groups of 8 that each hold all three levels."""
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for _ in range(groups):
        drawn = torch.tensor(list(LEVELS.values()))[torch.randint(3, (5,), generator=generator)]
        group = torch.cat([torch.tensor([INVALID, WRONG, CORRECT]), drawn])
        scores.append(group[torch.randperm(8, generator=generator)])
    return make_batch("groups of 8 with all three reward levels", scores, seed)


def degenerate() -> Iterator[Batch]:
    """Batches without contrast."""
    yield make_batch("groups whose rewards are all equal", [torch.full((8,), v) for v in LEVELS.values()])
    yield make_batch("no reward at all", [torch.zeros(8), torch.zeros(8)])
    yield make_batch("every response correct", [torch.ones(8), torch.ones(8)])
    yield make_batch("groups of one response", [torch.tensor([v]) for v in (*LEVELS.values(), CORRECT)])
    yield make_batch("groups of different sizes", [torch.tensor([CORRECT, INVALID]), torch.tensor([WRONG] * 3)])
    for level, reward in LEVELS.items():
        yield make_batch(f"a single response, {level}", [torch.tensor([reward])])


def extreme(shift: float) -> Batch:
    """A mixed batch whose log-ratios are +shift and -shift, in every sign of the advantage."""
    batch = mixed(seed=3)
    signs = torch.where(torch.arange(batch.mask.numel()).view_as(batch.mask) % 3 == 0, 1.0, -1.0)
    moved = replace(batch, old_log_prob=torch.full_like(batch.log_prob, -40.0))
    return replace(moved, name=f"log-ratios of +-{shift:g}", log_prob=moved.old_log_prob + shift * signs)


def make_batch(name: str, scores: Sequence[Tensor], seed: int = 0) -> Batch:
    """One group for each (n,) tensor of `scores`; lengths and log-probabilities are drawn."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.cat(list(scores))
    count = len(score)
    lengths = torch.randint(2, _TOKENS + 1, (count,), generator=generator)
    mask = (torch.arange(_TOKENS) < lengths.unsqueeze(-1)).long()
    rewards = torch.zeros(count, _TOKENS).scatter(1, (lengths - 1).unsqueeze(-1), score.unsqueeze(-1))
    old = -2.0 * torch.rand(count, _TOKENS, generator=generator) - 0.05
    new = old + 0.1 * torch.randn(count, _TOKENS, generator=generator)
    identifiers = [f"prompt-{group}" for group, members in enumerate(scores) for _ in members]
    return Batch(name, rewards, mask, object_array(identifiers), old, new)


def object_array(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Prompt identifiers in verl's form."""
    return np.array(values, dtype=object)
