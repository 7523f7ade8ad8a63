"""A control group for the processes of one run (cgroup v2), where this user may make one.

https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from poise_git.pipeline.sandbox.allowance import Limits

_CONTROLLERS = frozenset(("memory", "pids"))
_PREFIX = "poise-run-"


class Group:
    """One control group. It holds only open descriptors, so that it works after a change of the root folder."""

    def __init__(self, parent: Path, settings: Mapping[str, str]) -> None:
        """Raises OSError if `parent` cannot have one, or lacks a controller that `settings` need."""
        self._name = f"{_PREFIX}{os.getpid()}"
        (parent / self._name).mkdir()
        self._parent = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for file, text in settings.items():
                (parent / self._name / file).write_text(text)
            self._processes = os.open(parent / self._name / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            self._events: int | None = None
            with suppress(FileNotFoundError):
                self._events = os.open(parent / self._name / "memory.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.remove()
            raise

    def enter(self) -> None:
        """Put the calling process and all its later children into the group."""
        os.write(self._processes, b"0")

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel ended processes of the group at its memory limit."""
        if self._events is None:
            return False
        lines = os.pread(self._events, 4096, 0).decode().splitlines()
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)

    def remove(self) -> None:
        """Remove the group, once its processes are gone."""
        with suppress(OSError):
            os.rmdir(self._name, dir_fd=self._parent)


def make_group(limits: Limits) -> Group:
    """A group with these limits of memory and processes, below this process's group or beside it.

    Raises:
        OSError: this machine, or this user, has none.
    """
    reason = OSError("no cgroup v2 with memory and pids is delegated to this user")
    for parent in _parents():
        try:
            given = set((parent / "cgroup.subtree_control").read_text().split())
            if not given >= _CONTROLLERS:
                continue
            _remove_left(parent)
            return Group(parent, _settings(limits))
        except OSError as error:
            reason = error
    raise reason


def _settings(limits: Limits) -> dict[str, str]:
    settings: dict[str, str] = {}
    if limits.memory_mb is not None:
        # At the memory limit, all processes of the group die together, and none of their memory is swapped to the disk.
        settings |= {"memory.max": f"{limits.memory_mb}M", "memory.oom.group": "1"}
    if limits.processes is not None:
        settings["pids.max"] = str(limits.processes)
    return settings


def _parents() -> Iterator[Path]:
    """This process's own group and its parent, if they are mounted here."""
    own = next(
        (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), None
    )
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if own is None or not kind.startswith("cgroup2 "):
            continue
        root, mounted = Path(fields.split()[3]), Path(fields.split()[4])
        if Path(own).is_relative_to(root):
            folder = mounted / Path(own).relative_to(root)
            yield folder
            if folder != mounted:
                yield folder.parent


def _remove_left(parent: Path) -> None:
    """Remove the empty groups of runs whose supervisors were killed. The kernel keeps groups with processes."""
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            left.rmdir()
