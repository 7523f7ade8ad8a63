"""The parent's side: run an entry point in a sandboxed child process, and survive everything it does."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from poise_git.pipeline.sandbox.allowance import Allowance, Limits
from poise_git.pipeline.sandbox.channel import Messages, Output
from poise_git.pipeline.sandbox.confinement import confinement
from poise_git.pipeline.sandbox.failures import Cancelled, ChildFailed, IsolationMissing, NeverBegan, signal_text
from poise_git.pipeline.sandbox.forks import ForkServer
from poise_git.pipeline.sandbox.keeper import send_request
from poise_git.pipeline.sandbox.layers import Layer
from poise_git.pipeline.sandbox.removal import fresh_folder
from poise_git.settings import SandboxSettings

# Modules of entry points. Before the first fork for one, the fork server imports it and the modules listed with it,
# because their imports take time. No candidate's code is among them.
# The first torch optimizer of a process imports torch._dynamo, which takes longer than a short training run.
PRELOADED: Mapping[str, Sequence[str]] = {
    "poise_git.pipeline.boundary.server": (),
    "poise_git.pipeline.checks.child": (),
    "poise_git.pipeline.backends.testbed.warm_start": ("torch._dynamo",),
    "poise_git.pipeline.backends.testbed.trainer": ("torch._dynamo",),
    "poise_git.pipeline.backends.testbed.evaluation": (),
}
_TICK = 0.1
_CHUNK = 1 << 16
# Seconds for a supervisor to end the processes below it.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Completed:
    """A successful run: the value of the entry point, the processor time of all its processes, the tail of the output,
    and the layers of the wall around it."""

    value: Any
    cpu_seconds: float
    output: str
    layers: tuple[Layer, ...]


class Sandbox:
    """Run entry points in sandboxed child processes. Thread-safe; a context manager that ends everything."""

    def __init__(self, settings: SandboxSettings, preloaded: Mapping[str, Sequence[str]] = PRELOADED) -> None:
        self._settings, self._preloaded = settings, preloaded
        self._server = ForkServer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the fork server and with it every child; a later `run` starts a new one."""
        self._server.close()

    @property
    def requires_isolation(self) -> bool:
        """Whether the settings refuse all code if a layer is missing. They can forbid, but never allow."""
        return self._settings.require_isolation

    @property
    def limits(self) -> Limits:
        """The default limits of a run."""
        return Limits.of(self._settings)

    @property
    def check_limits(self) -> Limits:
        """The limits for the checks of one candidate, which take seconds where training takes minutes."""
        own, most = self.limits, self._settings.check_seconds
        return replace(
            own, cpu_seconds=min(own.cpu_seconds or most, most), wall_seconds=min(own.wall_seconds or most, most)
        )

    def run(
        self,
        entry: str,
        arguments: Mapping[str, Any],
        scratch: Path,
        *,
        readable: Sequence[Path] = (),
        allowance: Allowance | None = None,
        limits: Limits | None = None,
        handed: Sequence[int] = (),
        require_isolation: bool = False,
        on_message: Callable[[Mapping[str, Any]], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Completed:
        """Call `entry` ("package.module:function") as `function(arguments, send)` in a child process.

        The child works in the folder `scratch`, the only folder that it can write. As root, its content passes to the
        user nobody. The child can read Python, its packages, this package and `readable`. Each mapping that it passes
        to `send` arrives in `on_message`, on the calling thread. Arguments, messages and the value are plain JSON data.
        The descriptors `handed` to the child get the numbers from FIRST_HANDED; the caller keeps its own copies. With
        `require_isolation`, in the call or in the settings, nothing runs if a layer is missing.

        Raises:
            ChildFailed: an exception, a death or a limit, with the reason in one line.
            IsolationMissing: this machine lacks a required layer of the wall.
            Cancelled: `cancelled` was set; the child is gone.
        """
        bounds = limits or self.limits
        request = {
            "entry": entry,
            "arguments": arguments,
            "scratch": str(scratch.resolve()),
            "allowance": (allowance or Allowance(readable=tuple(readable))).to_data(),
            "limits": bounds.to_data(),
            "require_isolation": self.requires_isolation or require_isolation,
        }
        try:
            return self._run_once(request, bounds, handed, on_message, cancelled)
        except NeverBegan:
            # The fork server had died unnoticed. No code of the run has begun, so nothing runs twice.
            return self._run_once(request, bounds, handed, on_message, cancelled)

    def _run_once(
        self,
        request: Mapping[str, Any],
        limits: Limits,
        handed: Sequence[int],
        on_message: Callable[[Mapping[str, Any]], None] | None,
        cancelled: threading.Event | None,
    ) -> Completed:
        with _Run(
            limits, request["require_isolation"], self.requires_isolation, self._server, on_message, cancelled
        ) as run:
            run.start(request, self._modules_of(request["entry"]), handed)
            return run.follow()

    def _modules_of(self, entry: str) -> tuple[str, ...]:
        module = entry.partition(":")[0]
        return (module, *self._preloaded[module]) if module in self._preloaded else ()


class _Run:
    """One child as the parent sees it: a line to its keeper, a pipe of messages, a pipe of output."""

    def __init__(
        self,
        limits: Limits,
        require_isolation: bool,
        archive_requires: bool,
        server: ForkServer,
        on_message: Callable[[Mapping[str, Any]], None] | None,
        cancelled: threading.Event | None,
    ) -> None:
        self._limits, self._server = limits, server
        self._require_isolation, self._archive_requires = require_isolation, archive_requires
        self._on_message = on_message
        self._cancelled = cancelled
        self._deadline: float | None = None
        self._messages, self._output = Messages(), Output(limits.file_mb)
        self._ending: dict[str, Any] = {}
        self._layers: tuple[Layer, ...] = ()
        self._status = b""
        self._line, self._keeper_line = socket.socketpair()
        self._message_pipe, self._output_pipe = os.pipe(), os.pipe()
        self._selector = selectors.DefaultSelector()
        for source, take in (
            (self._line.fileno(), self._take_status),
            (self._message_pipe[0], self._take_messages),
            (self._output_pipe[0], self._output.feed),
        ):
            os.set_blocking(source, False)
            self._selector.register(source, selectors.EVENT_READ, take)
        os.set_blocking(self._line.fileno(), True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._selector.close()
        self._line.close()
        os.close(self._message_pipe[0])
        os.close(self._output_pipe[0])

    def start(self, request: Mapping[str, Any], modules: Sequence[str], handed: Sequence[int]) -> None:
        given = (self._keeper_line.fileno(), self._message_pipe[1], self._output_pipe[1], *handed)
        try:
            self._server.submit(given, modules)
        finally:
            self._keeper_line.close()
            os.close(self._message_pipe[1])
            os.close(self._output_pipe[1])
        try:
            send_request(self._line, request)
        except OSError as error:
            raise self._never_began() from error

    def follow(self) -> Completed:
        """Pass messages on until the child has ended, and return how it ended."""
        try:
            while self._line.fileno() in self._selector.get_map():
                self._step()
            self._drain()
        except ChildFailed as failure:
            raise ChildFailed(failure.reason, self._output.tail) from None
        return self._verdict()

    def _step(self) -> None:
        for key, _ in self._selector.select(_TICK):
            self._read(key)
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise ChildFailed(f"wall time limit of {self._limits.wall_seconds} s reached")

    def _read(self, key: selectors.SelectorKey) -> int:
        try:
            data = os.read(key.fd, _CHUNK)
        except (BlockingIOError, ConnectionResetError):
            data = b""
        if not data:
            self._selector.unregister(key.fd)
        key.data(data)
        return len(data)

    def _drain(self) -> None:
        """Read what the dead child has left in its pipes."""
        for key in list(self._selector.get_map().values()):
            while self._read(key):
                pass

    def _take_status(self, data: bytes) -> None:
        self._status += data

    def _take_messages(self, data: bytes) -> None:
        for kind, content in self._messages.feed(data):
            if kind == "layers":
                # This message arrives before any untrusted code runs, so a second one is forged.
                if self._layers:
                    raise ChildFailed("sent something that is not a message on the message pipe")
                self._begin(tuple(Layer(**layer) for layer in content))
            elif kind != "message":
                self._ending[kind] = content
            elif self._on_message is not None:
                self._on_message(content)

    def _begin(self, layers: tuple[Layer, ...]) -> None:
        self._layers = layers
        if self._limits.wall_seconds is not None:
            self._deadline = time.monotonic() + self._limits.wall_seconds
        missing = [layer for layer in layers if not layer.up]
        if missing and self._require_isolation:
            raise IsolationMissing.of(missing, archive_requires=self._archive_requires)

    def _verdict(self) -> Completed:
        """The end of a child whose supervisor has reported, or has died without a report."""
        if not self._status:
            if not self._layers:
                raise self._never_began()
            raise ChildFailed("the sandbox's supervisor was killed", self._output.tail)
        status = json.loads(self._status)
        exit_code, cpu_seconds = status["exit"], status["cpu_seconds"]
        if status["limit"]:
            raise ChildFailed(status["limit"], self._output.tail)
        if exit_code == 0 and "value" in self._ending:
            return Completed(self._ending["value"], cpu_seconds, self._output.tail, self._layers)
        raise ChildFailed(self._reason(exit_code, cpu_seconds), self._output.tail)

    def _reason(self, exit_code: int, cpu_seconds: float) -> str:
        limit = self._limits.cpu_seconds
        if exit_code == -signal.SIGXCPU or (
            exit_code == -signal.SIGKILL and limit is not None and cpu_seconds >= limit
        ):
            return f"CPU time limit of {limit} s reached"
        if exit_code < 0:
            return f"killed by signal {signal_text(-exit_code)}"
        return str(self._ending.get("error", f"ended without a result (exit status {exit_code})"))

    def _never_began(self) -> NeverBegan:
        return NeverBegan(f"the sandbox could not start a child: {self._server.last_words() or 'it was killed'}")

    def _stop(self) -> None:
        """Make the supervisor end the child, and wait for it."""
        try:
            self._line.shutdown(socket.SHUT_WR)
            self._line.settimeout(_PATIENCE)
            while self._line.recv(_CHUNK):
                pass
        except OSError:
            return


def probe(arguments: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> list[dict[str, Any]]:
    """An entry point that tries the confinement of a candidate's process; every run tries the other layers."""
    return [layer.to_data() for layer in confinement()]


def isolation() -> tuple[Layer, ...]:
    """The layers between a candidate and this machine, each tried in a child.

    Raises PoiseError if no child can be started.
    """
    with fresh_folder() as scratch, Sandbox(SandboxSettings(), preloaded={}) as sandbox:
        completed = sandbox.run(f"{__name__}:probe", {}, scratch)
    return (*completed.layers, *(Layer(**layer) for layer in completed.value))


def missing_layers() -> tuple[Layer, ...]:
    """The layers that this machine lacks. Raises as `isolation` does."""
    return tuple(layer for layer in isolation() if not layer.up)
