"""What may come back from a sandbox, as strict models: the processes in it ran a candidate, or parsed what it wrote."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from poise_git.errors import RunFailed
from poise_git.pipeline.backends.verl.failures import Ending
from poise_git.pipeline.backends.verl.series import SERIES
from poise_git.settings import StrictModel

_LONGEST_REASON = 400

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Reply = TypeVar("Reply", bound=StrictModel)


class Failure(StrictModel):
    """One line, without anything that a terminal would obey."""

    failure: str
    ending: str = ""

    @property
    def reason(self) -> str:
        printable = "".join(character if character.isprintable() else " " for character in self.failure)
        return " ".join(printable.split())[:_LONGEST_REASON]

    @property
    def is_the_machines(self) -> bool:
        """As far as the ending tells: nothing that the candidate computed ended the run."""
        return self.ending in (Ending.CRASH.name, Ending.STALL.name, Ending.OUT_OF_MEMORY.name)


class TrainingReply(StrictModel):
    """A finite value of every series for every step."""

    series: dict[str, tuple[Finite, ...]]

    def require_whole(self, steps: int) -> None:
        """Raises RunFailed."""
        if set(self.series) != set(SERIES) or any(len(values) != steps for values in self.series.values()):
            raise RunFailed("train", "the trainer's reply is not a whole trajectory")


class SuiteReply(StrictModel):
    """See `SuiteScores`."""

    value: Annotated[float, Field(ge=0.0, le=1.0)]
    standard_error: Annotated[float, Field(ge=0.0)]
    valid_rate: Annotated[float, Field(ge=0.0, le=1.0)]
    mean_words: Annotated[float, Field(ge=0.0)]
    cut_off_rate: Annotated[float, Field(ge=0.0, le=1.0)]
    timed_out: Count
    samples: Count
    correct: dict[str, Count]


class EvaluationReply(StrictModel):
    suites: dict[str, SuiteReply]


class StepReply(StrictModel):
    """A message while a stage runs: `done`, and values under names of their own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    done: Count

    @property
    def values(self) -> dict[str, float]:
        extra = self.model_extra or {}
        return {name: float(value) for name, value in extra.items() if isinstance(value, int | float)}


def parse(reply: Any, model: type[Reply], stage: str) -> Reply | Failure:
    """The reply of a stage, or the failure that it tells of.

    Raises:
        RunFailed: it is neither.
    """
    for kind in (model, Failure):
        try:
            return kind.model_validate(reply)
        except ValidationError:
            continue
    raise RunFailed(stage, "the sandbox sent something that is not its reply")
