"""The boundary between the loop and whatever trains: a backend runs one candidate, one seed, one protocol.

A run has stages, so that each can have the machine that suits it:

    prepare (once a machine) -> train -> evaluate, shard by shard -> assemble
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from poise_git.archive.entries import Isolation, Run
from poise_git.pipeline.boundary.hosting import STRICT, Containment
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Cancelled as Cancelled
from poise_git.pipeline.sandbox import Sandbox

# A candidate as a backend sees it: the files of its `recipe/` folder, name -> text.
Recipe = Mapping[str, str]


@dataclass(frozen=True)
class Progress:
    """The progress of a running job: `done` of `total` steps, and the newest values of some series."""

    stage: str
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Resources:
    """The resources that one task needs on one machine."""

    cpus: float = 1.0
    gpus: int = 0


@dataclass(frozen=True)
class Demand:
    """The resources of the stages of a protocol's runs; `evaluation` is for one shard."""

    training: Resources
    evaluation: Resources


@dataclass(frozen=True)
class Job:
    """One training run to be done.

    `scratch` is a folder of its own, in which an interrupted attempt at the same job may have left what it had, and
    that is deleted once the job's outcome is archived; `gpus` are the indices of the devices that the
    executor assigns to the task in hand; `containment` is what the user allows for the candidate's code.
    """

    candidate: str
    recipe: Recipe
    protocol: Protocol
    seed: int
    scratch: Path
    gpus: tuple[int, ...] = ()
    containment: Containment = STRICT

    @property
    def key(self) -> str:
        """The key of everything that determines the run's figures: the recipe's tree, the protocol, the seed."""
        return f"{tree_id(self.recipe)[:12]}-{self.protocol.hash}-{self.seed}"


@dataclass(frozen=True)
class Trained:
    """The result of training: a value of every series for each step, and the input of evaluation.

    `weights` is a folder under the job's scratch folder that can be sent to another machine as a whole.
    """

    series: Mapping[str, tuple[float, ...]]
    weights: Path
    cpu_seconds: float
    isolation: Isolation | None = None


@dataclass(frozen=True)
class Evaluated:
    """One shard's figures, as plain JSON data that `assemble` understands."""

    shard: str
    data: Mapping[str, Any]
    cpu_seconds: float


class Backend(Interface):
    """Trains candidates and evaluates them, everything seeded.

    Contract: no stage executes the candidate's code in the calling process; the figures depend on the recipe, the
    protocol and the seed alone; when `cancelled` is set, a stage stops its child processes and raises `Cancelled`;
    stages may be called from several threads at once, and the stages of one job on different machines.
    """

    def validate(self, protocol: Protocol, file: str) -> None:
        """Check `protocol.settings`, `suites` and `estimator`.

        Raises:
            SettingsError: with the field.
        """
        ...

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None:
        """Make what every run shares (base policies, data); cached on this machine, outside the archive.

        Does nothing where it is done already, and may be called by several processes at once.
        """
        ...

    def demand(self, protocol: Protocol) -> Demand:
        """The resources that one training run and one shard of its evaluation need."""
        ...

    def train(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Trained:
        """Train in `job.scratch`, on the devices `job.gpus`.

        Raises:
            RunFailed: the candidate's fault (crash, NaN, limit exceeded), with stage and reason.
            Cancelled: `cancelled` was set.
        """
        ...

    def shards(self, protocol: Protocol) -> tuple[str, ...]:
        """The names of the parts of the evaluation that can run independently."""
        ...

    def evaluate(
        self,
        job: Job,
        trained: Trained,
        shard: str,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> Evaluated:
        """Evaluate what `trained.weights` holds, on the devices `job.gpus`.

        Raises:
            RunFailed: as for `train`.
            Cancelled: `cancelled` was set.
        """
        ...

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        """The run that its stages make; `evaluated` has every shard once, in the order of `shards`. Reads no file:
        the weights may never have been on this machine."""
        ...


def tree_id(recipe: Recipe) -> str:
    """The name that git gives to a tree of these files (none executable), on any machine."""
    folders: dict[str, dict[str, str]] = {}
    entries = []
    for path, text in recipe.items():
        name, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(name, {})[rest] = text
        else:
            entries.append((name, b"100644", _object_id("blob", text.encode())))
    # Git sorts a folder as if its name ended in a slash.
    entries += [(f"{name}/", b"40000", tree_id(inside)) for name, inside in folders.items()]
    content = (
        b"%b %b\0%b" % (mode, name.rstrip("/").encode(), bytes.fromhex(id_))
        for name, mode, id_ in sorted(entries, key=lambda entry: entry[0].encode())
    )
    return _object_id("tree", b"".join(content))


def _object_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(b"%b %d\0%b" % (kind.encode(), len(content), content), usedforsecurity=False).hexdigest()
