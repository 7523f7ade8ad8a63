"""The replies of verl's child processes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poise_git.errors import RunFailed
from poise_git.pipeline.backends.verl.failures import Ending
from poise_git.pipeline.backends.verl.series import SERIES
from poise_git.pipeline.replies import Count, Failure, Finite, Share
from poise_git.settings import StrictModel

_MACHINES = (Ending.CRASH.name, Ending.STALL.name, Ending.OUT_OF_MEMORY.name)


def is_the_machines(failure: Failure) -> bool:
    """Whether the ending may be the machine's fault: no value that the candidate computed ended the run."""
    return failure.ending in _MACHINES


class TrainingReply(StrictModel):
    """A finite value of every series for every step."""

    series: dict[str, tuple[Finite, ...]]

    def require_whole(self, steps: int) -> None:
        """Require all series, with `steps` values each. Raises RunFailed."""
        if set(self.series) != set(SERIES) or any(len(values) != steps for values in self.series.values()):
            raise RunFailed("train", "the trainer's reply is not a whole trajectory")


class SuiteReply(StrictModel):
    """See `SuiteScores`."""

    value: Share
    standard_error: Annotated[float, Field(ge=0.0)]
    valid_rate: Share
    mean_words: Annotated[float, Field(ge=0.0)]
    cut_off_rate: Share
    timed_out: Count
    samples: Count
    correct: dict[str, Count]


class EvaluationReply(StrictModel):
    suites: dict[str, SuiteReply]
