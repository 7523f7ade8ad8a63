"""The form of a run with verl."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git.archive.entries import Run
from poise_git.pipeline.backends.kind import RunRecord
from poise_git.pipeline.backends.recorded import is_close, overall_defect
from poise_git.pipeline.backends.verl.settings import parse_settings
from poise_git.pipeline.protocol import Protocol


class VerlRecord(RunRecord):
    """See `RunRecord`."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol, self.steps = protocol, parse_settings(protocol, protocol.name).steps

    def defects(self, run: Run) -> Iterator[str]:
        for name, values in run.series.items():
            if len(values) != self.steps:
                yield f"series {name} has {len(values)} steps, the protocol {self.steps}"
        if not run.series:
            yield "it has no series"
        if len(run.curve) != 1:
            yield f"its curve has {len(run.curve)} points, the protocol 1"
            return
        for suite, value in run.values.items():
            given = float(run.curve[-1][suite])
            if not is_close(given, value):
                yield f"its curve gives {suite} {given:.4f}, not {value:.4f}"
        yield from overall_defect(self.protocol, run.curve[-1], 0)
