"""`[zero-mean]`: a group's advantages are relative to one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from poise_git.pipeline.checks.claims.kind import ClaimKind, Decided, Decision

if TYPE_CHECKING:
    from torch import Tensor

    from poise_git.pipeline.checks.batches import Batch
    from poise_git.pipeline.checks.trial import Trial

_TOLERANCE = 1e-5


class ZeroMean(ClaimKind):
    name = "zero-mean"
    decided = Decided.BY_CODE
    wording = "the advantages of every group sum to 0"

    def decide(self, candidate: Trial, parent: Trial) -> Decision:
        from poise_git.pipeline.checks.claims.measuring import mixed_batches

        worst = 0.0
        for batch in mixed_batches():
            advantages = candidate.response_advantages(batch)
            for members in _groups(batch):
                total, size = advantages[members].sum().abs(), advantages[members].abs().sum()
                worst = max(worst, float(total / size.clamp(min=1.0)))
        return worst <= _TOLERANCE, f"the largest sum of a group's advantages is {worst:.2g}, expected 0 to 1e-5"


def _groups(batch: Batch) -> Iterator[Tensor]:
    """The rows of each prompt, as (N,) bool."""
    import torch

    for prompt in dict.fromkeys(batch.index):
        yield torch.tensor([other == prompt for other in batch.index])
