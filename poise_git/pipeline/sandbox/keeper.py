"""The keeper of one run: a trusted process, the first of its process namespace, that ends everything below it.

    fork server ── forks ── entrance (enters the namespaces) ── keeper ── child (runs the code)

The keeper reports how the child ended. It stops the child when the fork server dies or the line to the parent closes,
because the parent is dead or wants the child to stop. When the keeper itself dies, the kernel kills its whole
namespace.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import signal
import socket
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from poise_git.pipeline.sandbox import child, kernel, view
from poise_git.pipeline.sandbox.allowance import Allowance, Limits
from poise_git.pipeline.sandbox.layers import Wall
from poise_git.pipeline.sandbox.quota import LimitReached, Quota

_HEADER = 8


def send_request(line: socket.socket, request: object) -> None:
    body = json.dumps(request).encode()
    line.sendall(len(body).to_bytes(_HEADER, "big") + body)


def keep(line: socket.socket, messages: int, output: int, handed: Sequence[int], server: int) -> NoReturn:
    """Serve the one request that arrives on `line`, in a process that the process `server` has just forked."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with_parent(server)
        with line.makefile("rb") as stream:
            request = json.loads(stream.read(int.from_bytes(stream.read(_HEADER), "big")))
        scratch = Path(request["scratch"])
        asked = Allowance.from_data(request["allowance"])
        allowance = replace(asked, readable=view.readable_paths(asked.readable))
        wall = Wall(Limits(**request["limits"]), scratch, allowance, request["require_isolation"])
        quota = Quota(wall.limits, (scratch, *allowance.writable), view.SHARED_FOLDERS if allowance.services else ())
        wall.enter_namespaces()
        # A change of credentials may have cleared this setting.
        _die_with_parent(server)
        entrance = os.getpid()
        if keeper := os.fork():
            for descriptor in (line.fileno(), messages, output, *handed):
                os.close(descriptor)
            os.waitpid(keeper, 0)
            quota.remove()
            os._exit(0)
        wall.become_nobody()
        wall.add("quota", quota.watch)
        stops = [line.fileno()]
        if os.getpid() == 1:
            _die_with_parent(0)
        else:
            # The supervisor outlives its parent, because nothing else ends the processes of the run.
            stops.append(os.pidfd_open(entrance))
        kernel.process_control(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.process_control(kernel.PR_SET_DUMPABLE, 0)
        keeper = os.getpid()
        if (pid := os.fork()) == 0:
            # The kernel does this for the first process of a process namespace; it must also work without one.
            _die_with_parent(keeper)
            with contextlib.suppress(OSError):
                quota.enter()
            child.run(wall, request["entry"], request["arguments"], messages, output, handed)
        for descriptor in (messages, output, *handed):
            os.close(descriptor)
        with contextlib.suppress(OSError):
            kernel.drop_capabilities()
        status = _watch(pid, stops, quota if wall.up("quota") else None)
        line.sendall(json.dumps(status).encode() + b"\n")
    except BaseException:
        # Print to the fork server's standard error, where the parent finds it.
        traceback.print_exc()
    finally:
        os._exit(0)


def _watch(pid: int, stops: Sequence[int], quota: Quota | None) -> dict[str, Any]:
    """Wait for the child, a limit of all processes or something to read in `stops`, and leave no process behind."""
    ended = os.pidfd_open(pid)
    limit = ""
    try:
        for pause in quota.pauses() if quota else itertools.repeat(None):
            if any(select.select([ended, *stops], [], [], pause)):
                break
    except LimitReached as reached:
        limit = str(reached)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(ended, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    _end_descendants()
    if quota and not limit:
        try:
            quota.look_after()
        except LimitReached as reached:
            limit = str(reached)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "limit": limit,
    }


def _end_descendants() -> None:
    """Adopt orphans, with or without a process namespace."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> Iterable[int]:
    if os.getpid() == 1:
        # In a process namespace, -1 means every process except the supervisor.
        return (-1,)
    return map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def _die_with_parent(parent: int) -> None:
    """Die when `parent` dies; it may be dead already."""
    kernel.process_control(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
