"""The form of a run on the testbed."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git.archive.entries import Run
from poise_git.pipeline.backends.kind import RunRecord
from poise_git.pipeline.backends.recorded import is_close, overall_defect
from poise_git.pipeline.backends.testbed.estimators import estimate
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.protocol import Protocol


class TestbedRecord(RunRecord):
    """See `RunRecord`."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        regimes = parse_settings(protocol, protocol.name).regimes
        self.steps = {name: regime.training.steps for name, regime in regimes.items()}
        self.points = next(iter(regimes.values())).evaluation.points + 1

    def defects(self, run: Run) -> Iterator[str]:
        for name, values in run.series.items():
            steps = self.steps.get(name.rpartition("/")[0])
            if steps is None:
                yield f"series {name} belongs to no regime of the protocol"
            elif len(values) != steps:
                yield f"series {name} has {len(values)} steps, the protocol {steps}"
        recorded = {name.rpartition("/")[0] for name in run.series}
        for regime in self.steps:
            if regime not in recorded:
                yield f"there is no series of regime {regime}"
        if len(run.curve) != self.points:
            yield f"its curve has {len(run.curve)} points, the protocol {self.points}"
            return
        for suite, value in run.values.items():
            given = estimate(self.protocol.estimator, [float(point[suite]) for point in run.curve])
            if not is_close(given, value):
                yield f"its curve gives {suite} {given:.4f} by {self.protocol.estimator}, not {value:.4f}"
        for number, point in enumerate(run.curve):
            yield from overall_defect(self.protocol, point, number)
