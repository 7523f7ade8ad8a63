"""The host of a candidate's processes, and the work of each of them. Runs in the sandbox.

The host forks one process for every connection that arrives through its door. It never loads a candidate itself. A
process confines itself further, loads its recipe, and answers questions until the connection closes.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

# NumPy imports this module at first use. Import it once here, not in every process.
import numpy.random
import torch

from poise_git.pipeline.boundary import frames
from poise_git.pipeline.boundary.answering import answer, load_candidate
from poise_git.pipeline.boundary.failures import CandidateFailed, one_line
from poise_git.pipeline.sandbox import kernel
from poise_git.pipeline.sandbox.child import FIRST_HANDED
from poise_git.pipeline.sandbox.confinement import confine, confinement
from poise_git.pipeline.sandbox.failures import signal_text

_QUESTION = 1 << 12
# The descriptor of the connection; a candidate's process closes all above it.
_CONNECTION = 3
# A process that has closed its connection may take this long to exit.
_DYING_SECONDS = 2.0
_TICK = 0.01

Send = Callable[[Mapping[str, Any]], None]


def serve(arguments: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """Entry point of a host. Its door and a file with the recipes are the handed descriptors.

    `recipes` maps names to offset and length of their recipe (file name -> text, as JSON) in that file.
    Sends {"layers": [...]}, the layers of a candidate's confinement beyond the sandbox's, once it is ready.
    Returns when the door's other side closes; no process is left.
    """
    torch.set_num_threads(1)
    # Torch detects the processor at its first computation. A candidate's process may not read /proc, so it would detect
    # no special instructions, compute more slowly, and round differently from the trainer.
    torch.backends.cpu.get_cpu_capability()
    _leave_memory_for_another()
    door = socket.socket(fileno=FIRST_HANDED)
    send({"layers": [layer.to_data() for layer in confinement()]})
    host = _Host(arguments["recipes"], FIRST_HANDED + 1, door)
    try:
        while host.answer():
            pass
    finally:
        host.end_all()
    return {}


def _leave_memory_for_another() -> None:
    """Give each process half of the run's memory, so that a process at its limit fails alone."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    with suppress(OSError):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        if mapped < limit != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (mapped + (limit - mapped) // 2,) * 2)


class _Host:
    """The open processes by their numbers."""

    def __init__(self, recipes: Mapping[str, tuple[int, int]], file: int, door: socket.socket) -> None:
        self._recipes, self._file, self._door = recipes, file, door
        self._processes: dict[int, int] = {}
        self._opened = 0

    def answer(self) -> bool:
        """Answer one question of the trusted side; return whether there was one."""
        data, descriptors, _, _ = socket.recv_fds(self._door, _QUESTION, 1)
        if not data:
            return False
        question = json.loads(data)
        if "open" in question:
            reply: dict[str, Any] = {"number": self._open(question["open"], descriptors[0])}
        elif "ended" in question:
            reply = {"ended": self._end(int(question["ended"]), _DYING_SECONDS)}
        else:
            reply = {"ended": self._end(int(question["end"]))}
        self._door.sendall(json.dumps(reply).encode())
        return True

    def end_all(self) -> None:
        for number in list(self._processes):
            self._end(number)

    def _open(self, recipe: str, connection: int) -> int:
        """Fork a process and return its number. If the run is at its limit of processes, the connection just closes."""
        self._opened += 1
        with suppress(OSError):
            process = os.fork()
            if process == 0:
                _be_candidate(self._file, self._recipes[recipe], connection)
            self._processes[self._opened] = process
        os.close(connection)
        return self._opened

    def _end(self, number: int, patience: float = 0.0) -> str:
        """Kill a process unless it ends within `patience` seconds; return how it ended by itself."""
        process = self._processes.pop(number, None)
        if process is None:
            return ""
        deadline = time.monotonic() + patience
        ended, status = os.waitpid(process, os.WNOHANG)
        while not ended and time.monotonic() < deadline:
            time.sleep(_TICK)
            ended, status = os.waitpid(process, os.WNOHANG)
        if not ended:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return ""
        return _in_words(os.waitstatus_to_exitcode(status))


def _in_words(exit_code: int) -> str:
    if exit_code == -signal.SIGXCPU:
        return f"CPU time limit of {resource.getrlimit(resource.RLIMIT_CPU)[0]} s reached"
    if exit_code < 0:
        return f"killed by signal {signal_text(-exit_code)}"
    return f"exit status {exit_code}"


def _be_candidate(file: int, place: tuple[int, int], descriptor: int) -> NoReturn:
    """The candidate's own process: it ends with the connection, and no code of the host runs after it."""
    status = 1
    try:
        offset, length = place
        # Only here, so that the memory that processes inherit holds no recipe.
        recipe = json.loads(os.pread(file, length, offset))
        _take_descriptors(descriptor)
        connection = socket.socket(fileno=_CONNECTION)
        _draw_random_states()
        # Without a process namespace only this signal ends the process. The process cannot undo it after `confine`.
        kernel.process_control(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        confine()
        _converse(recipe, connection)
        status = 0
    except (frames.Closed, frames.FrameRefused):
        status = 0
    finally:
        os._exit(status)


def _take_descriptors(connection: int) -> None:
    """Keep only the connection, and standard streams that lead nowhere.

    A pipe shared by two processes of a candidate would act as memory, because its content and its flags outlast a call.
    """
    os.dup2(connection, _CONNECTION)
    os.closerange(_CONNECTION + 1, os.sysconf("SC_OPEN_MAX"))
    sink = os.open(os.devnull, os.O_RDWR)
    for stream in range(_CONNECTION):
        os.dup2(sink, stream)
    os.close(sink)


def _draw_random_states() -> None:
    """Seed its own random numbers: a state inherited from the host would look like part of the algorithm."""
    random.seed()
    np.random.seed()


def _converse(recipe: Mapping[str, str], connection: socket.socket) -> None:
    try:
        module = load_candidate(recipe)
    except CandidateFailed as failure:
        frames.send(connection, {"failed": str(failure)})
        return
    frames.send(connection, {"loaded": True})
    while True:
        frame = frames.receive(connection)
        try:
            content, tensors = answer(module, frame)
        except CandidateFailed as failure:
            content, tensors = {"failed": str(failure)}, ()
        try:
            frames.send(connection, content, tensors)
        except (ValueError, TypeError, RuntimeError) as error:
            # Such an error is raised before anything is written.
            frames.send(connection, {"failed": one_line(f"its answer cannot be sent: {error}")})
