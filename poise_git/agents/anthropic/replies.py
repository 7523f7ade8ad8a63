"""The answers of the operators: pydantic models, whose JSON schemas are the model's tools."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from poise_git.archive.entries import Claim
from poise_git.pipeline.checks.claims import CLAIM_KINDS, ClaimKind, Decided

Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\n]+$")]
Prose = Annotated[str, Field(min_length=1, max_length=6000)]
Label = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class AnswerModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClaimAnswer(AnswerModel):
    """A claim of some kind: `any_claim` adds the field `check` and the kind's arguments."""

    statement: Line

    def to_claim(self) -> Claim:
        said = self.model_dump(mode="json")
        return Claim(said.pop("statement"), said.pop("check"), said)


def any_claim(kinds: Sequence[type[ClaimKind]]) -> Any:
    """The type of a claim of one of the kinds, without the kinds that only a code review decides."""
    decidable = [kind for kind in kinds if kind.decided is not Decided.BY_CODE_REVIEW]
    return Annotated[reduce(or_, map(_claim_answer, decidable)), Field(discriminator="check")]


def _claim_answer(kind: type[ClaimKind]) -> Any:
    name, check = f"{kind.__name__}Claim", cast(Any, Literal[kind.name])
    # `check` comes before the arguments: a model writes the fields in the order of the schema.
    bases: Any = (kind, create_model(name, __base__=ClaimAnswer, check=(check, ...)))
    return create_model(name, __base__=bases, __doc__=f"{kind.wording[0].upper()}{kind.wording[1:]}.")


# A type checker sees only the fields that the claims of all kinds share.
if TYPE_CHECKING:
    AnyClaim = ClaimAnswer
else:
    AnyClaim = any_claim(CLAIM_KINDS)


class ProposalAnswer(AnswerModel):
    """One change of mechanism of the parent: one idea, falsifiable, and small enough to read as a diff."""

    name: Annotated[Label, Field(description="Name of the child: short, kebab-case, after its mechanism.")]
    mechanism: Annotated[Line, Field(description="The change, in one line.")]
    hypothesis: Annotated[
        Prose, Field(description="Why it should help this parent, what would refute it, and the formula.")
    ]
    family: Annotated[Label, Field(description="The family of the mechanism.")]
    knobs: Annotated[
        dict[str, Number],
        Field(description="Hyper-parameters of the mechanism: keyword default of a stage function -> value."),
    ]
    claims: Annotated[list[AnyClaim], Field(min_length=1, max_length=8)]
    priors: Annotated[list[Label], Field(description="Names of the literature cards that it builds on.")]
    steps: Annotated[Prose, Field(description="How to implement it: which stage functions change, and how.")]
    departure: Annotated[
        str, Field(max_length=300, description="Why the proposal leaves its direction; empty if it stays.")
    ] = ""


class TermAnswer(AnswerModel):
    """How one figure counts."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    direction: Literal["maximize", "minimize"]
    scale: Annotated[
        float,
        Field(
            gt=0, allow_inf_nan=False, description="The amount of the figure that counts as one unit, in its own units."
        ),
    ]


class ConstraintAnswer(AnswerModel):
    """One bound: exactly one of at_least and at_most."""

    metric: str
    at_least: Number | Literal["root"] | None = None
    at_most: Number | Literal["root"] | None = None
    slack: Annotated[float, Field(ge=0, allow_inf_nan=False, description="In standard errors.")] = 1.0


class ObjectiveAnswer(AnswerModel):
    """What a directive asks for."""

    metrics: Annotated[
        dict[str, TermAnswer], Field(description="Figure -> its weight, direction and scale; empty if none fits.")
    ]
    constraints: list[ConstraintAnswer] = []
    explanation: Annotated[Line, Field(description="Which words led to which part, or why no figure fits.")]


class OpinionAnswer(AnswerModel):
    """What is to be thought of one proposal before anybody implements it."""

    name: Annotated[str, Field(description="The proposal's name.")]
    consistency: Annotated[
        Share, Field(description="Does the mechanism follow from the hypothesis, and can the claims test it?")
    ]
    feasibility: Annotated[Share, Field(description="Can it be written on this parent, within the stage functions?")]
    improvement: Annotated[Share, Field(description="Will it raise the objective? 0.5 means no expected effect.")]
    accepted: bool
    reason: Line


class OpinionsAnswer(AnswerModel):
    """One opinion on every proposal."""

    opinions: list[OpinionAnswer]


class Replacement(AnswerModel):
    """A piece of the present text, which must occur in it exactly once, and what comes in its place."""

    old: Annotated[str, Field(min_length=1)]
    new: str


class CodeAnswer(AnswerModel):
    """The change of algorithm.py: whole functions, replacements of pieces of text, or both."""

    functions: Annotated[
        list[str],
        Field(
            description="Complete top-level functions. They replace existing ones of the same name; others are added."
        ),
    ] = []
    patch: Annotated[list[Replacement], Field(description="Replacements, applied before the functions.")] = []
    explanation: Annotated[
        str, Field(max_length=2000, description="A summary of the change, in a sentence or two.")
    ] = ""


class ReadingAnswer(AnswerModel):
    """An independent reading of code against the proposal that it is to implement."""

    implements: Annotated[bool, Field(description="Does the code do what the proposal says, no less and no more?")]
    reason: Annotated[
        str, Field(min_length=1, max_length=1000, description="If not: the differences, and where they are.")
    ]
    unproven: Annotated[list[str], Field(description="Statements of claims that the code does not support.")] = []


class ReflectionAnswer(AnswerModel):
    """A diagnosis at the level of the mechanism: why the child did what it did against its parent."""

    diagnosis: Annotated[Prose, Field(description="Plain prose. Cite only numbers from the evidence.")]
    focus: Annotated[list[Label], Field(max_length=8, description="Tags of weak spots to work on.")]
    next: Annotated[list[Line], Field(max_length=6, description="Next steps, one sentence each.")]


class Principle(AnswerModel):
    """One regularity that the evidence of several candidates supports."""

    statement: Line
    support: Annotated[list[str], Field(min_length=1, description="Names of the candidates that support it.")]
    against: Annotated[list[str], Field(description="Names of the candidates that contradict it.")] = []
    scope: Annotated[str, Field(max_length=300, description="Where it was observed, and where it may not hold.")] = ""


class PrinciplesAnswer(AnswerModel):
    """The principles of the search so far; they replace the earlier ones."""

    principles: Annotated[list[Principle], Field(max_length=20)]
