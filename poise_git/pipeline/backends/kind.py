"""What is known of a backend before it is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from poise_git.archive.entries import Run
from poise_git.pipeline.equipment import Equipment
from poise_git.pipeline.estimate import CostEstimate
from poise_git.pipeline.interface import Backend
from poise_git.pipeline.protocol import Protocol


class RunRecord(ABC):
    """What the runs of one protocol look like, as its text says."""

    @abstractmethod
    def __init__(self, protocol: Protocol) -> None:
        """Raises SettingsError: the protocol is wrong."""

    @abstractmethod
    def defects(self, run: Run) -> Iterator[str]:
        """Why `run` cannot be of this protocol.

        Raises: whatever a run of another form leads to (KeyError, TypeError, ValueError, IndexError).
        """


class BackendKind(ABC):
    """One object for each backend, in the `__init__` of its package.

    `open` alone may import what is optional or slow.

    Attributes:
        name: as protocol files have it.
        default_protocol: of the template, for an archive of this backend.
    """

    name: ClassVar[str]
    default_protocol: ClassVar[str]

    @abstractmethod
    def open(self) -> Backend:
        """The backend itself."""

    @abstractmethod
    def estimate_cost(self, protocol: Protocol, file: str) -> CostEstimate:
        """What one run of `protocol`, which was read from `file`, costs. Raises SettingsError for a wrong protocol."""

    @abstractmethod
    def record_of(self, protocol: Protocol) -> RunRecord:
        """What runs of `protocol` look like. Raises SettingsError for a wrong protocol."""

    def obstacles(self, protocol: Protocol, file: str, machine: Equipment, base: Path) -> tuple[str, ...]:
        """Why `protocol` cannot run on `machine`, one line each; its paths are relative to `base`.

        Raises:
            SettingsError: the protocol is wrong.
            UsageError: it needs a package that is not installed.
        """
        self.open().validate(protocol, file)
        return ()

    def files_named(self, protocol: Protocol, file: str) -> tuple[str, ...]:
        """The paths that `protocol` names, as it names them. Raises SettingsError for a wrong protocol."""
        return ()
