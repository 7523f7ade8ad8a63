"""What a kind of claim states about itself: its name, its arguments, how it is decided, and its words."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from poise_git.pipeline.checks.knobs import Knob

if TYPE_CHECKING:
    from poise_git.pipeline.checks.trial import Trial

# held (True), refuted (False) or undecided (None), and a sentence of evidence
Decision = tuple[bool | None, str]


class Decided(StrEnum):
    """When a claim is decided, and by what."""

    BY_CODE = "before training"
    BY_RUNS = "by the runs"
    BY_READING = "by a code review"


class WrongArguments(ValueError):
    """The arguments of a claim are not those of its kind; the message says in one line what is wrong."""


class ClaimKind(BaseModel):
    """The arguments of one claim; a subclass is a kind of claim, and its fields are the arguments.

    Every field has a description that completes "ARGUMENT is ...". A git hook reads the kinds within milliseconds, so
    `decide` imports torch itself, and nothing at the top of a kind's file does.

    Attributes:
        name: how a claim names its kind, as in `[bounded limit=3]`.
        decided: by what it is decided; a kind of BY_CODE overrides `decide`.
        wording: what is claimed, as a clause.
    """

    # A claim may say more than its kind knows: the message of a candidate may not, an archived claim is decided.
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
        """The claim is decided on the candidate with this knob, whose process is then opened by `Knob.recipe`."""
        return None

    def decide(self, candidate: Trial, parent: Trial) -> Decision:
        """Whether the claim holds, and by which numbers; runs on the trusted side of the boundary."""
        return None, f"{self.name} is not decided by code"
