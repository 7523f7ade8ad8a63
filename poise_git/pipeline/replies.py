"""The replies of a sandbox, as strict models, because no process in one is trusted."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from poise_git.errors import RunFailed
from poise_git.settings import StrictModel

_LONGEST_REASON = 400

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0, strict=True)]
Reply = TypeVar("Reply", bound=StrictModel)


class Failure(StrictModel):
    """One line, without control characters."""

    failure: str
    ending: str = ""

    @property
    def reason(self) -> str:
        printable = "".join(character if character.isprintable() else " " for character in self.failure)
        return " ".join(printable.split())[:_LONGEST_REASON]


class StepReply(StrictModel):
    """A message during a stage: `done`, and named values."""

    model_config = ConfigDict(extra="allow", frozen=True)

    done: Count

    @property
    def values(self) -> dict[str, float]:
        extra = self.model_extra or {}
        return {name: value for name, value in extra.items() if isinstance(value, float) and math.isfinite(value)}


def parse(reply: Any, model: type[Reply], stage: str) -> Reply | Failure:
    """Parse the reply of a stage, or the failure that it reports.

    Raises:
        RunFailed: it is neither.
    """
    for kind in (model, Failure):
        try:
            return kind.model_validate(reply)
        except (ValidationError, RecursionError):
            continue
    raise RunFailed(stage, "the sandbox sent an invalid reply")
