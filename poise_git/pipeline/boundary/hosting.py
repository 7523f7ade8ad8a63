"""Start a host of candidates from the calling process, beside the sandboxed process that talks to it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from poise_git.archive.entries import Isolation
from poise_git.pipeline.boundary.door import CANDIDATE, TRUSTED_RECIPE
from poise_git.pipeline.recipe import runnable
from poise_git.pipeline.sandbox import ChildFailed, IsolationMissing, Layer, Limits, Sandbox
from poise_git.pipeline.sandbox.removal import fresh_folder

# Seconds for a host to end: it kills its processes, and exits.
_PATIENCE = 10.0
_SERVE = "poise_git.pipeline.boundary.server:serve"


@dataclass(frozen=True)
class Containment:
    """What the user allows for a candidate's code.

    Attributes:
        trusted: the code runs in the trainer's own process, without the boundary.
        may_lack_layers: the code runs even if the machine lacks a layer of the sandbox.
    """

    trusted: bool = False
    may_lack_layers: bool = False


STRICT = Containment()


@dataclass(frozen=True)
class Contained:
    """A candidate that a trusted child can open, with the arguments for that child."""

    arguments: Mapping[str, Any]
    handed: tuple[int, ...]
    host: Host | None

    @property
    def isolation(self) -> Isolation:
        return Isolation(trusted=True) if self.host is None else Isolation(self.host.missing)

    @property
    def cpu_seconds(self) -> float:
        """The CPU seconds of the candidate's processes, once they have ended."""
        return 0.0 if self.host is None else self.host.cpu_seconds

    @property
    def failure(self) -> str | None:
        """The reason why the candidate's processes ended early, if they did."""
        return None if self.host is None else self.host.reason


@contextmanager
def contain(
    sandbox: Sandbox, recipe: Mapping[str, str], containment: Containment, limits: Limits | None = None
) -> Iterator[Contained]:
    """The candidate of this recipe, ready to be opened by a trusted child. Raises as `host` does."""
    if containment.trusted:
        yield Contained({TRUSTED_RECIPE: runnable(recipe)}, (), None)
        return
    with host(sandbox, {CANDIDATE: recipe}, may_lack_layers=containment.may_lack_layers, limits=limits) as running:
        yield Contained({}, (running.door,), running)


@dataclass
class Host:
    """A running host; `door` is the descriptor to hand to the trusted side.

    `layers` are those of the sandbox around it and of each candidate's own confinement. `cpu_seconds`, the sum over its
    processes, and `failure` are known once it has ended.
    """

    door: int
    layers: tuple[Layer, ...] = ()
    cpu_seconds: float = 0.0
    failure: BaseException | None = None
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.layers if not layer.up)

    @property
    def reason(self) -> str | None:
        """The reason why the host ended early, if it did."""
        return self.failure.reason if isinstance(self.failure, ChildFailed) else None


@contextmanager
def host(
    sandbox: Sandbox,
    recipes: Mapping[str, Mapping[str, str]],
    *,
    may_lack_layers: bool,
    limits: Limits | None = None,
) -> Iterator[Host]:
    """Start a host of these recipes (name -> file name -> text); it always ends with the block.

    If `limits` is None, the sandbox's own limits hold. Only a recipe's algorithm runs, beside our copy of its
    rollouts.py.

    Raises:
        IsolationMissing: this machine lacks a layer, and `may_lack_layers` is false or the sandbox's settings require
            every layer; no candidate has run.
        ChildFailed: the host could not begin.
        CheckFailed: `files`: a recipe cannot run.
    """
    required = sandbox.requires_isolation or not may_lack_layers
    texts = {name: runnable(recipe) for name, recipe in recipes.items()}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    running, cancelled = Host(ours.fileno()), threading.Event()

    def on_message(message: Mapping[str, Any]) -> None:
        running.layers += tuple(Layer(**layer) for layer in message["layers"])
        running.ready.set()

    def run() -> None:
        try:
            with theirs, _sealed(texts) as (file, places), fresh_folder() as scratch:
                completed = sandbox.run(
                    _SERVE, {"recipes": places}, scratch, handed=(theirs.fileno(), file),
                    limits=limits, require_isolation=required, on_message=on_message, cancelled=cancelled,
                )  # fmt: skip
            running.cpu_seconds = completed.cpu_seconds
            running.layers = (*completed.layers, *running.layers)
        except BaseException as error:
            running.failure = error
        finally:
            running.ready.set()

    thread = threading.Thread(target=run, name="candidate-host")
    thread.start()
    try:
        running.ready.wait()
        if running.failure is not None:
            raise running.failure
        if required and (missing := [layer for layer in running.layers if not layer.up]):
            raise IsolationMissing.of(missing, archive_requires=sandbox.requires_isolation)
        yield running
    finally:
        # Shut down as well as close: other copies must not keep the host alive.
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        thread.join(_PATIENCE)
        # A stopped host does not notice the shutdown.
        cancelled.set()
        thread.join()
        ours.close()


@contextmanager
def _sealed(texts: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[int, dict[str, tuple[int, int]]]]:
    """A file in memory that holds the recipes and that nobody can change, and the offset and length of each.

    A host passes it on and never reads it, so that no candidate finds another one's text in memory of the host.
    """
    file = os.memfd_create("recipes", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        places, end = {}, 0
        for name, recipe in texts.items():
            content = json.dumps(recipe).encode()
            places[name] = (end, len(content))
            while content:
                content = content[os.write(file, content) :]
            end = sum(places[name])
        fcntl.fcntl(
            file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        )
        yield file, places
    finally:
        os.close(file)
