"""The confinement of a candidate's process beyond the sandbox of its host, so that it can only compute.

It cannot write files, start processes, open sockets, or signal other processes. It can read Python's own files, because
torch imports some of its parts at their first use.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from poise_git.pipeline.sandbox import landlock, policies, seccomp, view
from poise_git.pipeline.sandbox.layers import Layer


def confinement() -> tuple[Layer, ...]:
    """Try the layers in a separate process on this machine."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.write(writing, "\n".join(f"{name}\t{reason}" for name, reason in confine().items()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(process, 0)
    found = dict(line.split("\t", 1) for line in lines)
    return tuple(
        Layer(name, name in found and not found[name], found.get(name, "its process ended")) for name, _ in _STEPS
    )


def confine() -> dict[str, str]:
    """Put up every layer for good. Return by layer the reason why it is not up, or an empty text if it is."""
    failures = {}
    for name, step in _STEPS:
        try:
            step()
            failures[name] = ""
        except (OSError, ValueError) as error:
            failures[name] = " ".join(str(error).split())
    return failures


def _compute_only() -> None:
    seccomp.install(policies.candidate_policy(os.getpid()))


def _write_nothing() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _open_nothing_but_libraries() -> None:
    landlock.restrict(view.library_paths(), (), loopback=False)


_STEPS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("candidate write limit", _write_nothing),
    ("candidate landlock", _open_nothing_but_libraries),
    # Last, because it refuses calls that the others need.
    ("candidate system call filter", _compute_only),
)
