"""The description of a kind of claim: its name, its arguments, its decision, and its wording."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from poise_git.pipeline.checks.knobs import Knob

if TYPE_CHECKING:
    from poise_git.pipeline.checks.trial import Trial

# Held (True), refuted (False) or undecided (None), and a sentence of evidence.
Decision = tuple[bool | None, str]


class Decided(StrEnum):
    """The time and the means of a claim's decision."""

    BY_CODE = "before training"
    BY_RUNS = "by the runs"
    BY_CODE_REVIEW = "by a code review"


class WrongArguments(ValueError):
    """The arguments of a claim are not those of its kind; the message says in one line what is wrong."""


class ClaimKind(BaseModel):
    """The arguments of one claim; a subclass is a kind of claim, and its fields are the arguments.

    Every field has a description that completes "ARGUMENT is ...". A git hook reads the kinds within milliseconds, so
    `decide` imports torch itself, and nothing at the top of a kind's file does.

    Attributes:
        name: the name of the kind in a claim, as in `[bounded limit=3]`.
        decided: the means of its decision; a kind with BY_CODE overrides `decide`.
        wording: the claim as a clause.
    """

    # Unknown arguments are ignored here, so that every archived claim can be decided. The check of a candidate's
    # message refuses them.
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: ClassVar[str]
    decided: ClassVar[Decided]
    wording: ClassVar[str]

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Raises WrongArguments."""
        if missing := [name for name in cls.model_fields if name not in arguments]:
            raise WrongArguments(f"{cls.name} needs {' and '.join(f'{name}=' for name in missing)}")
        try:
            return cls.model_validate(dict(arguments))
        except ValidationError as error:
            wrong = dict.fromkeys(str(each["loc"][0]) for each in error.errors())
            raise WrongArguments(
                "; ".join(f"{name} is {cls.model_fields[name].description}" for name in wrong)
            ) from error

    @property
    def knob(self) -> Knob | None:
        """The knob with which the claim is decided; `Knob.recipe` then names the candidate's process."""
        return None

    def decide(self, candidate: Trial, parent: Trial) -> Decision:
        """Decide whether the claim holds, with the numbers as evidence. Runs on the trusted side of the boundary."""
        return None, f"{self.name} is not decided by code"
