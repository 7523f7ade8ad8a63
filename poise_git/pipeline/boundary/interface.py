"""The interface of a candidate for the trusted side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor

# The sizes of the whole batch that a micro-batch belongs to: names and values of verl's `global_batch_info`.
BatchSizes = Mapping[str, float]
LOG_DUAL_CLIP = math.log(3.0)


@dataclass(frozen=True)
class Gradient:
    """A policy loss and its derivative by the log-probabilities, (N, T) and exactly 0 on padding."""

    loss: float
    by_log_probs: Tensor


class Algorithm(Interface):
    """A candidate's two entry points, guarded: results have the right shape, type and size, and are finite.

    Both raise CandidateFailed.
    """

    def advantages(
        self, rewards: Tensor, mask: Tensor, index: Sequence[Any], sizes: BatchSizes | None = None
    ) -> Tensor:
        """Advantages (N, T) of token rewards (N, T) under `mask` (N, T); `index` holds N prompt identifiers."""
        ...

    def gradient(
        self,
        old_log_probs: Tensor,
        log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        aggregation: str,
        sizes: BatchSizes | None = None,
        rollout_is_weights: Tensor | None = None,
    ) -> Gradient:
        """The loss and its derivative; all tensors are (N, T)."""
        ...


def groups(index: Sequence[Any]) -> Tensor:
    """Prompt identifiers as numbers, in the order in which they first appear. (N,) int64 on the CPU."""
    numbers: dict[Any, int] = {}
    return torch.tensor([numbers.setdefault(prompt, len(numbers)) for prompt in index], dtype=torch.long, device="cpu")


def clip_fraction(
    gradient: Tensor, old_log_probs: Tensor, log_probs: Tensor, advantages: Tensor, mask: Tensor
) -> float:
    """The share of response tokens with an advantage but no gradient, as PPO's clip leaves them.

    Tokens beyond the dual clip (A < 0 and a ratio above 3, arXiv:1912.09729) do not count, because verl reports them
    separately, unless their whole response has no gradient, as after a clip of whole responses (arXiv:2507.18071). The
    trusted side measures this, so that the candidate cannot misreport it. All arguments are (N, T).
    """
    weight = mask.to(gradient.dtype)
    without = gradient == 0
    beyond_dual_clip = (advantages < 0) & (log_probs - old_log_probs > LOG_DUAL_CLIP)
    clipped = without & (advantages != 0) & (without.all(-1, keepdim=True) | ~beyond_dual_clip)
    return float((clipped.to(gradient.dtype) * weight).sum() / weight.sum().clamp(min=1.0))
