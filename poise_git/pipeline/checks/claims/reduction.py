"""`[reduction function=scale argument=kappa value=0]`: a knob has a neutral value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, FiniteFloat, StrictBool, StrictInt

from poise_git.pipeline.checks.claims.kind import ClaimKind, Decided, Decision
from poise_git.pipeline.checks.knobs import Knob, NoSuchRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from poise_git.pipeline.checks.batches import Batch
    from poise_git.pipeline.checks.trial import Trial

_TOLERANCE = 1e-6


class Reduction(ClaimKind):
    name = "reduction"
    decided = Decided.BY_CODE
    wording = "with the keyword default `argument` of `function` at `value` the child equals its parent, to 1e-6"

    function: Annotated[str, Field(description="the name of a stage function")]
    argument: Annotated[str, Field(description="the name of one of its keywords that has a default")]
    # This order of types keeps 0 an int, and reads "0.5" as a number.
    value: Annotated[
        StrictBool | StrictInt | FiniteFloat | str | None,
        Field(union_mode="left_to_right", description="a finite number or a text, neutral for the mechanism"),
    ]

    @property
    def knob(self) -> Knob:
        return Knob(self.function, self.argument, self.value)

    def decide(self, candidate: Trial, parent: Trial) -> Decision:
        from poise_git.pipeline.checks.claims.measuring import largest, mixed_batches

        knob = self.knob
        try:
            variant = candidate.of(candidate.open, knob.recipe)
        except NoSuchRecipe as error:
            return False, f"{knob}: {error}"
        worst = 0.0
        for batch in mixed_batches():
            for what, found, expected in _quantities(variant, parent, batch):
                difference = largest((found - expected) / expected.abs().clamp(min=1.0))
                if not difference <= _TOLERANCE:
                    return False, f"with {knob} {what} differ from the parent's by {difference:.2g}, expected 0 to 1e-6"
                worst = max(worst, difference)
        return True, f"with {knob} advantages, loss and gradient equal the parent's to {worst:.1g}"


def _quantities(candidate: Trial, parent: Trial, batch: Batch) -> Iterator[tuple[str, Tensor, Tensor]]:
    yield "advantages", candidate.advantages(batch), parent.advantages(batch)
    ours, theirs = candidate.outcome(batch), parent.outcome(batch)
    yield "losses", ours.loss, theirs.loss
    yield "gradients", ours.gradient, theirs.gradient
