"""The backend `testbed`, which trains a small transformer in this package's own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poise_git.pipeline.backends.kind import BackendKind, RunRecord
from poise_git.pipeline.estimate import CostEstimate
from poise_git.pipeline.interface import Backend
from poise_git.pipeline.protocol import Protocol


class Testbed(BackendKind):
    """See `BackendKind`."""

    __test__ = False
    name = "testbed"
    default_protocol = "testbed"

    def open(self) -> Backend:
        from poise_git.pipeline.backends.testbed.backend import TestbedBackend

        return TestbedBackend()

    def estimate_cost(self, protocol: Protocol, file: str) -> CostEstimate:
        from poise_git.pipeline.backends.testbed.estimate import estimate_cost

        return estimate_cost(protocol, file)

    def record_of(self, protocol: Protocol) -> RunRecord:
        from poise_git.pipeline.backends.testbed.record import TestbedRecord

        return TestbedRecord(protocol)

    def training_sections(self, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for section in (settings, *(settings.get("regimes") or {}).values()):
            yield (section or {}).get("training") or {}
