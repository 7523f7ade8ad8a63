"""The replies of the testbed's child processes."""

from __future__ import annotations

from pydantic import ConfigDict

from poise_git.errors import RunFailed
from poise_git.pipeline.replies import Finite, Share
from poise_git.settings import StrictModel


class TrainingReply(StrictModel):
    """A finite value of every series for every step of its regime."""

    series: dict[str, tuple[Finite, ...]]

    def require_whole(self, steps: dict[str, int]) -> None:
        """Require `steps` values of each series. Raises RunFailed."""
        if {name: len(values) for name, values in self.series.items()} != steps:
            raise RunFailed("train", "the trainer's reply is not a whole trajectory")


class PointReply(StrictModel):
    """The figures of one saved policy. Further ones are rates too, except the length in tokens."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Finite]

    value: Share
    mean_length: Finite


class EvaluationReply(StrictModel):
    points: dict[str, tuple[PointReply, ...]]

    def require_whole(self, points: dict[str, int]) -> None:
        """Require the figures of `points` saved policies of each regime. Raises RunFailed."""
        if {regime: len(figures) for regime, figures in self.points.items()} != points:
            raise RunFailed("evaluate", "the evaluator's reply does not match the saved policies")

    def to_data(self) -> dict[str, list[dict[str, float]]]:
        return {regime: [figures.model_dump() for figures in listed] for regime, listed in self.points.items()}
