"""The description of a backend that is available before the backend is loaded."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from poise_git.archive.entries import Run
from poise_git.pipeline.equipment import Equipment
from poise_git.pipeline.estimate import CostEstimate
from poise_git.pipeline.interface import Backend
from poise_git.pipeline.protocol import Protocol


class RunRecord(ABC):
    """The form of the runs of one protocol, as its text determines it."""

    @abstractmethod
    def __init__(self, protocol: Protocol) -> None:
        """Raises SettingsError: the protocol is wrong."""

    @abstractmethod
    def defects(self, run: Run) -> Iterator[str]:
        """The reasons why `run` cannot belong to this protocol.

        Raises: KeyError, TypeError, ValueError or IndexError for a run of another form.
        """


class BackendKind(ABC):
    """The kind of a backend: one object per backend, in the `__init__` of its package.

    Only `open` may import optional or slow packages.

    Attributes:
        name: as in protocol files.
        default_protocol: the template's protocol for an archive with this backend.
    """

    name: ClassVar[str]
    default_protocol: ClassVar[str]

    @abstractmethod
    def open(self) -> Backend:
        """Load and return the backend."""

    @abstractmethod
    def estimate_cost(self, protocol: Protocol, file: str) -> CostEstimate:
        """Estimate one run of `protocol`, which was read from `file`. Raises SettingsError for a wrong protocol."""

    @abstractmethod
    def record_of(self, protocol: Protocol) -> RunRecord:
        """The form of runs of `protocol`. Raises SettingsError for a wrong protocol."""

    def at_learning_rate(self, protocol: Protocol, factor: float) -> Protocol:
        """The protocol with its learning rates multiplied by `factor`, and otherwise the same."""
        settings = copy.deepcopy(protocol.settings)
        for section in self.training_sections(settings):
            if "learning_rate" in section:
                section["learning_rate"] = float(section["learning_rate"]) * factor
        return protocol.model_copy(update={"settings": settings})

    def training_sections(self, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The sections of a protocol's settings that may state a `learning_rate` of training."""
        yield settings.get("training") or {}

    def obstacles(self, protocol: Protocol, file: str, machine: Equipment, base: Path) -> tuple[str, ...]:
        """The reasons why `protocol` cannot run on `machine`, one line each; its paths are relative to `base`.

        Raises:
            SettingsError: the protocol is wrong.
            UsageError: it needs a package that is not installed.
        """
        self.open().validate(protocol, file)
        return ()

    def files_named(self, protocol: Protocol, file: str) -> tuple[str, ...]:
        """The paths in `protocol`, as written there. Raises SettingsError for a wrong protocol."""
        return ()
