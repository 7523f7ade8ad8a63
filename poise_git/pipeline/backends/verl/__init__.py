"""The backend `verl`: trains candidates with verl, evaluates them with vLLM."""

from __future__ import annotations

from pathlib import Path

from poise_git.pipeline.backends.kind import BackendKind, RunRecord
from poise_git.pipeline.equipment import Equipment
from poise_git.pipeline.estimate import CostEstimate
from poise_git.pipeline.interface import Backend
from poise_git.pipeline.protocol import Protocol


class Verl(BackendKind):
    """See `BackendKind`."""

    name = "verl"
    default_protocol = "cpu-smoke"

    def open(self) -> Backend:
        from poise_git.pipeline.backends.verl.backend import VerlBackend

        return VerlBackend()

    def estimate_cost(self, protocol: Protocol, file: str) -> CostEstimate:
        from poise_git.pipeline.backends.verl.estimate import estimate_cost

        return estimate_cost(protocol, file)

    def record_of(self, protocol: Protocol) -> RunRecord:
        from poise_git.pipeline.backends.verl.record import VerlRecord

        return VerlRecord(protocol)

    def obstacles(self, protocol: Protocol, file: str, machine: Equipment, base: Path) -> tuple[str, ...]:
        from poise_git.pipeline.backends.verl.obstacles import obstacles

        return obstacles(protocol, file, machine, base)

    def files_named(self, protocol: Protocol, file: str) -> tuple[str, ...]:
        from poise_git.pipeline.backends.verl.obstacles import files_named
        from poise_git.pipeline.backends.verl.settings import parse_settings

        return files_named(parse_settings(protocol, file))
