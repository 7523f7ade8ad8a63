"""The boundary between the loop and whatever trains: a backend runs one candidate, one seed, one protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

from poise_git.archive.entries import Run
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Cancelled as Cancelled
from poise_git.pipeline.sandbox import Sandbox

# What a candidate is to a backend: the files of its `recipe/` folder, name -> text.
Recipe = Mapping[str, str]


@dataclass(frozen=True)
class Progress:
    """What a running job reports: `done` of `total` steps, and the newest value of some series."""

    stage: str
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One training run to be done. `scratch` is a folder of its own that may be deleted afterwards."""

    candidate: str
    recipe: Recipe
    protocol: Protocol
    seed: int
    scratch: Path


class Backend(Interface):
    """Trains candidates and evaluates them, everything seeded.

    Contract: `run` never executes the candidate's code in the calling process; the numbers it returns depend on
    the recipe, the protocol and the seed alone; when `cancelled` is set it stops its child processes and raises
    `Cancelled`; it may be called from several threads at once.
    """

    def validate(self, protocol: Protocol, file: str) -> None:
        """Check `protocol.settings`, `suites` and `estimator`.

        Raises:
            SettingsError: with the field.
        """
        ...

    def prepare(
        self, protocol: Protocol, sandbox: Sandbox, on_progress: Callable[[Progress], None], workers: int
    ) -> None:
        """Make what every run shares (base policies); cached on this machine, outside the archive."""
        ...

    def run(
        self, job: Job, sandbox: Sandbox, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Run:
        """Train and evaluate.

        Raises:
            RunFailed: the candidate's fault (crash, NaN, limit exceeded), with stage and reason.
            Cancelled: `cancelled` was set.
        """
        ...
