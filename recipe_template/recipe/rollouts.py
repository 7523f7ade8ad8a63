"""Fixed helpers of every candidate: groups, masked means, reward levels, loss aggregation.

`algorithm.py` evolves, this file does not. It imports torch alone, so the same file serves every backend.

Shapes: N responses, T tokens of the longest response. Rewards take three levels, so that validity and
correctness are exactly recoverable from them: invalid 0, valid but wrong w_f (0 < w_f < 1), correct 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Rewards are sums of float32 terms; a level is recognised within this distance.
LEVEL_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Rollouts:
    """One batch of scored responses, grouped by prompt.

    Attributes:
        score: (N,) reward of each response.
        valid: (N,) 1.0 where the response has the required form, else 0.0.
        correct: (N,) 1.0 where the answer is right (which implies valid), else 0.0.
        length: (N,) number of response tokens.
        group: (N,) int64, which prompt a response belongs to, 0..number of groups - 1.
        mask: (N, T) 1.0 on response tokens, 0.0 on padding.
    """

    score: Tensor
    valid: Tensor
    correct: Tensor
    length: Tensor
    group: Tensor
    mask: Tensor

    @classmethod
    def from_rewards(cls, token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[Any]) -> Rollouts:
        """Collect a batch from what verl hands an advantage estimator.

        Args:
            token_level_rewards: (N, T); a response's reward is the sum over its tokens.
            response_mask: (N, T), 1 on response tokens.
            index: N prompt identifiers (any hashable values, in any order).
        """
        mask = response_mask.to(token_level_rewards.dtype)
        score = (token_level_rewards * mask).sum(-1)
        numbers: dict[Any, int] = {}
        group = torch.tensor(
            [numbers.setdefault(prompt, len(numbers)) for prompt in index], dtype=torch.long, device=score.device
        )
        return cls(
            score=score,
            valid=(score > LEVEL_TOLERANCE).to(score.dtype),
            correct=(score > 1.0 - LEVEL_TOLERANCE).to(score.dtype),
            length=mask.sum(-1),
            group=group,
            mask=mask,
        )

    def group_sum(self, values: Tensor) -> Tensor:
        """Sum of `values` (N,) over each response's group, given back to every member: (N,)."""
        groups = int(self.group.max()) + 1 if self.group.numel() else 0
        sums = torch.zeros(groups, dtype=values.dtype, device=values.device).index_add(0, self.group, values)
        return sums[self.group]

    def group_size(self) -> Tensor:
        """Number of responses in each response's group: (N,)."""
        return self.group_sum(torch.ones_like(self.score))

    def group_mean(self, values: Tensor, where: Tensor | None = None) -> Tensor:
        """Mean of `values` (N,) over the group, or over its members with `where` 1; 0 if there is none: (N,)."""
        weight = torch.ones_like(values) if where is None else where
        return self.group_sum(values * weight) / self.group_sum(weight).clamp(min=1.0)

    def group_std(self, values: Tensor, where: Tensor | None = None) -> Tensor:
        """Sample deviation (n - 1) over the group, or its members with `where` 1; 0 if fewer than two: (N,)."""
        weight = torch.ones_like(values) if where is None else where
        deviation = (values - self.group_mean(values, where)) * weight
        return (self.group_sum(deviation**2) / (self.group_sum(weight) - 1.0).clamp(min=1.0)).sqrt()

    def group_max(self, values: Tensor) -> Tensor:
        """Largest of `values` (N,) in the group: (N,)."""
        return self._group_reduce(values, "amax")

    def group_min(self, values: Tensor) -> Tensor:
        """Smallest of `values` (N,) in the group: (N,)."""
        return self._group_reduce(values, "amin")

    def pass_rate(self) -> Tensor:
        """Share of correct responses in each response's group: (N,)."""
        return self.group_mean(self.correct)

    def _group_reduce(self, values: Tensor, reduction: str) -> Tensor:
        groups = int(self.group.max()) + 1 if self.group.numel() else 0
        out = torch.zeros(groups, dtype=values.dtype, device=values.device)
        return out.scatter_reduce(0, self.group, values, reduction, include_self=False)[self.group]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` over the entries where `mask` is 1 (0 if there is none): a scalar."""
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def response_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` (N, T) over each response's tokens: (N,)."""
    weight = mask.to(values.dtype)
    return (values * weight).sum(-1) / weight.sum(-1).clamp(min=1.0)


def to_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Give every token of a response the response's value, padding 0: (N,) -> (N, T)."""
    return values.unsqueeze(-1) * mask.to(values.dtype)


def aggregate_loss(losses: Tensor, mask: Tensor, mode: str, config: Any = None) -> Tensor:
    """Reduce token losses (N, T) to a scalar; the modes and their meaning are verl's `agg_loss`.

    - "token-mean": every token counts the same (DAPO, arXiv:2503.14476).
    - "token-sum": sum over tokens.
    - "seq-mean-token-mean": every response counts the same (GRPO, arXiv:2402.03300, eq. 3).
    - "seq-mean-token-sum": mean over responses of their sums.
    - "seq-mean-token-sum-norm": the same divided by a constant (Dr.GRPO, arXiv:2503.20783).

    `config.global_batch_info`, where a backend sets it, carries the sizes of the whole batch, so that
    splitting it into micro-batches or over devices leaves the gradient as it was.

    Raises:
        ValueError: an unknown mode.
    """
    found = getattr(config, "global_batch_info", None)
    info: Mapping[str, Any] = found if found is not None else {}
    weight = mask.to(losses.dtype)
    devices = info.get("dp_size") or 1
    if mode in ("token-mean", "token-sum"):
        total = (losses * weight).sum() * devices
        if mode == "token-sum":
            return total
        tokens = info.get("batch_num_tokens")
        return total / (tokens if tokens is not None else weight.sum().clamp(min=1.0))
    tokens_per_response = weight.sum(-1)
    present = (tokens_per_response > 0).to(losses.dtype)
    per_response = (losses * weight).sum(-1)
    if mode == "seq-mean-token-mean":
        per_response = per_response / tokens_per_response.clamp(min=1.0)
    elif mode == "seq-mean-token-sum-norm":
        per_response = per_response / (info.get("loss_scale_factor") or losses.shape[-1])
    elif mode != "seq-mean-token-sum":
        raise ValueError(f"unknown loss aggregation mode {mode!r}")
    responses = info.get("global_batch_size")
    total = (per_response * present).sum() * devices
    return total / (responses if responses is not None else present.sum().clamp(min=1.0))
