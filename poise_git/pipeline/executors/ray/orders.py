"""The values that driver, board and workers exchange, as plain data."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise_git import __version__
from poise_git.archive.entries import Isolation
from poise_git.errors import PoiseError
from poise_git.pipeline.boundary.hosting import STRICT, Containment
from poise_git.pipeline.interface import Demand, Evaluated, Job, Progress
from poise_git.pipeline.protocol import Protocol
from poise_git.settings import SandboxSettings

_LINE = 300
# Ray ends the youngest processes of a machine that is short of memory. The first time, another one may be the cause.
OUT_OF_MEMORY_LIMIT = 2


@dataclass(frozen=True)
class Order:
    """A job by its content, with everything needed to carry it out without the repository.

    `shared` is the job's own folder that every machine sees, or None.
    """

    key: str
    candidate: str
    recipe: Mapping[str, str]
    protocol: Mapping[str, Any]
    seed: int
    demand: Demand
    shards: tuple[str, ...]
    sandbox: Mapping[str, Any]
    shared: str | None
    containment: Containment = STRICT
    version: str = __version__

    @classmethod
    def of(
        cls, job: Job, demand: Demand, shards: tuple[str, ...], sandbox: SandboxSettings, shared: Path | None
    ) -> Order:
        return cls(
            key=job.key,
            candidate=job.candidate,
            recipe=dict(job.recipe),
            protocol=job.protocol.model_dump(mode="json"),
            seed=job.seed,
            demand=demand,
            shards=shards,
            sandbox=sandbox.model_dump(mode="json"),
            shared=str(shared / job.key) if shared else None,
            containment=job.containment,
        )

    def job(self, scratch: Path, gpus: tuple[int, ...]) -> Job:
        """Make the job in this scratch folder.

        Raises:
            PoiseError: another version wrote the order, or the content does not match the key.
        """
        if self.version != __version__:
            raise PoiseError(
                f"a worker has poise-git {__version__} and the driver {self.version}; install the same on every machine"
            )
        protocol = Protocol.model_validate(self.protocol)
        job = Job(self.candidate, self.recipe, protocol, self.seed, scratch, gpus, self.containment)
        if job.key != self.key:
            raise PoiseError(f"the order {self.key} arrived with the content of {job.key}; nothing was run")
        return job


@dataclass(frozen=True)
class Figures:
    """The result of training without the weights; `weights` is their folder, relative to the scratch folder."""

    series: Mapping[str, tuple[float, ...]]
    weights: str
    cpu_seconds: float
    isolation: Isolation | None = None


@dataclass(frozen=True)
class Failed:
    """The candidate failed."""

    stage: str
    reason: str

    @classmethod
    def out_of_memory(cls, stage: str, reason: str) -> Failed:
        return cls(stage, f"out of memory on a worker: {reason}")


@dataclass(frozen=True)
class Done:
    figures: Figures
    evaluated: tuple[Evaluated, ...]


@dataclass(frozen=True)
class Broken:
    """The cluster failed, in one line."""

    reason: str


Ended = Done | Failed | Broken


@dataclass(frozen=True)
class News:
    """The news that a driver has not seen yet."""

    ended: Mapping[str, Ended]
    progress: tuple[tuple[str, Progress], ...]


def in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LINE] or type(error).__name__


def pack(folder: Path) -> bytes:
    """The folder's files as one object. Links are left out, because they could lead anywhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".", filter=lambda member: member if member.isfile() or member.isdir() else None)
    return buffer.getvalue()


def unpack(parcel: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(parcel)) as archive:
        archive.extractall(folder, filter="data")
