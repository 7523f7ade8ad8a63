"""`[bounded limit=3]`: no response counts for too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from poise_git.pipeline.checks.claims.kind import ClaimKind, Decided, Decision

if TYPE_CHECKING:
    from poise_git.pipeline.checks.trial import Trial


class Bounded(ClaimKind):
    name = "bounded"
    decided = Decided.BY_CODE
    wording = "no advantage is larger than `limit` in magnitude"

    limit: Annotated[float, Field(gt=0.0, allow_inf_nan=False, description="a finite number above 0")]

    def decide(self, candidate: Trial, parent: Trial) -> Decision:
        from poise_git.pipeline.checks import batches
        from poise_git.pipeline.checks.claims.measuring import largest, mixed_batches

        cases = (*mixed_batches(), *batches.degenerate())
        worst, where = max((largest(candidate.advantages(batch)), batch.name) for batch in cases)
        because = f"the largest advantage is {worst:.4g}, on a batch with {where}; expected at most {self.limit:g}"
        return worst <= self.limit, because
