"""The boundary between the loop and training: a backend runs one candidate with one seed under one protocol.

A run has stages, so that each can have a suitable machine:

    prepare (once per machine) -> train -> evaluate, shard by shard -> assemble
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
    """One training run to carry out.

    `scratch` is the job's own folder. An interrupted attempt at the same job may have left files in it. It is deleted
    once the job's outcome is archived. `gpus` are the indices of the devices that the executor assigns to the current
    task. `containment` is what the user allows for the candidate's code.
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
    """Train candidates and evaluate them, with all randomness seeded.

    Contract: no stage executes the candidate's code in the calling process. The figures depend on the recipe, the
    protocol and the seed alone. When `cancelled` is set, a stage stops its child processes and raises `Cancelled`.
    Several threads may call stages at once, and the stages of one job may run on different machines.
    """

    def validate(self, protocol: Protocol, file: str) -> None:
        """Check `protocol.settings`, `suites` and `estimator`.

        Raises:
            SettingsError: a setting is wrong; the error names its field.
        """
        ...

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None:
        """Make the data that all runs share (base policies, data sets), and cache them on this machine.

        The cache is outside the archive. Data that exist already are kept. Several processes may call this at once.
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
        """Evaluate the weights in `trained.weights` on the devices `job.gpus`.

        Raises:
            RunFailed: as for `train`.
            Cancelled: `cancelled` was set.
        """
        ...

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        """Assemble the run from its stages; `evaluated` has every shard once, in the order of `shards`.

        It reads no file, because the weights may never have been on this machine.
        """
        ...


def tree_id(recipe: Recipe) -> str:
    """Git's name for a tree of these files (none executable), the same on every machine."""
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
