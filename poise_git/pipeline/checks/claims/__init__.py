"""Claims of a proposal about its code and its effects. Each kind has one file, and is registered here.

`CLAIM_KINDS` is the only list of kinds. The check of a candidate's message, the schema of a model's answers, and the
decision before training all read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from poise_git.archive.entries import Claim
from poise_git.pipeline.checks.claims.bounded import Bounded
from poise_git.pipeline.checks.claims.effect import Effect
from poise_git.pipeline.checks.claims.kind import ClaimKind, Decided, Decision, WrongArguments
from poise_git.pipeline.checks.claims.order import Order
from poise_git.pipeline.checks.claims.reading import Reading
from poise_git.pipeline.checks.claims.reduction import Reduction
from poise_git.pipeline.checks.claims.zero_mean import ZeroMean
from poise_git.pipeline.checks.knobs import Knob

if TYPE_CHECKING:
    from poise_git.pipeline.checks.trial import Trial

__all__ = ["CLAIM_KINDS", "ClaimKind", "Decided", "Decision", "WrongArguments", "decide", "kind_named", "knobs_of"]

CLAIM_KINDS: tuple[type[ClaimKind], ...] = (Reduction, Order, ZeroMean, Bounded, Effect, Reading)


def kind_named(name: str) -> type[ClaimKind] | None:
    return next((kind for kind in CLAIM_KINDS if kind.name == name), None)


def decide(name: str, arguments: Mapping[str, Any], candidate: Trial, parent: Trial) -> Decision:
    """Decide one claim; a name that is not known here, or wrong arguments, leave it undecided."""
    kind = kind_named(name)
    if kind is None:
        return None, f"{name} is not decided by code"
    try:
        return kind.of(arguments).decide(candidate, parent)
    except WrongArguments as wrong:
        return None, f"{name} could not be decided: {wrong}"
    except (KeyError, TypeError, ValueError) as error:
        return None, f"{name} could not be decided: {type(error).__name__}: {error}"


def knobs_of(claims: Iterable[Claim]) -> Iterator[Knob]:
    """The knobs that deciding the claims needs; a claim with wrong arguments needs none."""
    for claim in claims:
        kind = kind_named(claim.check)
        try:
            knob = kind.of(claim.arguments).knob if kind else None
        except WrongArguments:
            continue
        if knob is not None:
            yield knob
