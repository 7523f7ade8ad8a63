"""`[order levels=invalid,valid-wrong,correct]`: better responses get larger advantages."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from poise_git.pipeline.checks.claims.kind import ClaimKind, Decided, Decision

if TYPE_CHECKING:
    from torch import Tensor

    from poise_git.pipeline.checks.batches import Batch
    from poise_git.pipeline.checks.trial import Trial

Level = Literal["invalid", "valid-wrong", "correct"]


class Order(ClaimKind):
    name = "order"
    decided = Decided.BY_CODE
    wording = "mean advantages rise strictly over `levels` of reward, in groups that hold all of them"

    levels: Annotated[
        tuple[Level, ...],
        Field(min_length=2, description="two or all of invalid, valid-wrong and correct, lowest first"),
    ]

    def decide(self, candidate: Trial, parent: Trial) -> Decision:
        from poise_git.pipeline.checks.claims.measuring import mixed_batches

        means: dict[str, list[float]] = {level: [] for level in self.levels}
        for batch in mixed_batches():
            advantages = candidate.response_advantages(batch)
            for level in means:
                means[level].append(float(advantages[_at_level(batch, level)].mean()))
        rises = all(
            low < high
            for lower, upper in pairwise(self.levels)
            for low, high in zip(means[lower], means[upper], strict=True)
        )
        figures = ", ".join(f"{level} {sum(values) / len(values):.3f}" for level, values in means.items())
        return rises, f"mean advantages {figures}, expected strictly rising"


def _at_level(batch: Batch, level: str) -> Tensor:
    from poise_git.pipeline.checks.batches import LEVELS

    return (batch.score - LEVELS[level]).abs() < 1e-4
