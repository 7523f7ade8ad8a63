"""The limits of a run's processes together: memory, disk, files and processes.

The kernel enforces limits per process, and those of a control group if this user may create one. The supervisor watches
the rest: every half second it adds up the memory of the run's processes and the content of its folders.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from poise_git.pipeline.sandbox.allowance import Limits
from poise_git.pipeline.sandbox.cgroup import Group, make_group

_MEBIBYTE = 1 << 20
_KIBIBYTE = 1 << 10
_BLOCK = 512
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Shortest and longest seconds between two looks. An honest run never makes a look take long. After a long look, the
# pause is this many times its processor time.
_SHORTEST, _LONGEST, _PAUSE = 0.5, 2.0, 100.0
# Limits that no honest run reaches, because each folder costs a descriptor to count.
_DEEPEST = 64
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LimitReached(Exception):
    """All processes of a run together have reached a limit; the message names it."""


class Quota:
    """The limits of one run. Create it before the run enters its namespaces; its keeper then queries it."""

    def __init__(self, limits: Limits, folders: Iterable[Path], shared: Iterable[Path]) -> None:
        """
        Args:
            folders: folders on the disk in which the run may write.
            shared: file systems in memory in which it may write.
        """
        self._limits, self._folders, self._shared = limits, tuple(folders), tuple(shared)
        self._processes: int | None = None
        with suppress(OSError):
            self._processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._group: Group | None = None
        with suppress(OSError):
            self._group = make_group(limits)

    def watch(self) -> str:
        """Begin to watch the run, in its keeper. Return a description of the means.

        Raises:
            OSError: its processes cannot be listed.
        """
        if os.getpid() == 1 and os.path.exists("/proc/1/statm"):
            # All processes of this namespace belong to the run.
            self._processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self._processes is None:
            raise OSError("no /proc")
        os.stat("self/statm", dir_fd=self._processes)
        return "cgroup v2, and a watch" if self._group else "a watch"

    def enter(self) -> None:
        """Apply the limits in the process that will run the code, while it is alone."""
        if self._group is not None:
            self._group.enter()

    def remove(self) -> None:
        """Clean up, once all processes of the run are gone."""
        if self._group is not None:
            self._group.remove()

    def pauses(self) -> Iterator[float]:
        """Look whenever the caller asks for the next pause; yield the seconds to wait before the next look.

        Raises:
            LimitReached: a limit is reached.
        """
        yield _SHORTEST
        while True:
            began = time.process_time()
            try:
                self.look()
            except OSError as error:
                raise LimitReached(f"cannot count the files of the run: {error.strerror}") from error
            yield min(_LONGEST, max(_SHORTEST, _PAUSE * (time.process_time() - began)))

    def look(self) -> None:
        """Check all limits once. Raises LimitReached."""
        processes = tuple(self._all_processes())
        limit = self._limits.processes
        if limit is not None and len(processes) > limit:
            raise LimitReached(f"limit of {limit} processes reached")
        nameless = dict(self._nameless(processes))
        self._look_at_memory(processes, sum(size for size, in_memory in nameless.values() if in_memory))
        self._look_at_disk([size for size, in_memory in nameless.values() if not in_memory])

    def look_after(self) -> None:
        """Count the files after all processes have ended. Raises LimitReached."""
        if self._group is not None and self._group.out_of_memory:
            raise self._out_of_memory()
        self._look_at_disk([])

    def _look_at_memory(self, processes: tuple[int, ...], nameless: int) -> None:
        if self._limits.memory_mb is None:
            return
        limit = self._limits.memory_mb * _MEBIBYTE
        others = nameless + sum(size for size, _ in self._use_of_shared())
        # Every process counts its shared pages, so a small sum is conclusive.
        if others + sum(map(self._resident, processes)) <= limit:
            return
        # A process that holds too much memory is slow to measure, so stop as soon as the sum exceeds the limit.
        if any(held > limit for held in accumulate(map(self._proportional, processes), initial=others)):
            raise self._out_of_memory()

    def _out_of_memory(self) -> LimitReached:
        return LimitReached(f"memory limit of {self._limits.memory_mb} MB reached by all its processes together")

    def _look_at_disk(self, nameless: list[int]) -> None:
        if self._limits.disk_mb is None and self._limits.files is None:
            return
        size, files = sum(nameless), len(nameless) + sum(files for _, files in self._use_of_shared())
        self._require_within(size, files)
        # Stop as soon as the limit is exceeded, so that every look ends.
        for used in (used for folder in self._folders for used in _files(folder)):
            size, files = size + used, files + 1
            self._require_within(size, files)

    def _require_within(self, size: int, files: int) -> None:
        if self._limits.disk_mb is not None and size > self._limits.disk_mb * _MEBIBYTE:
            raise LimitReached(f"disk limit of {self._limits.disk_mb} MB reached")
        if self._limits.files is not None and files > self._limits.files:
            raise LimitReached(f"limit of {self._limits.files} files reached")

    def _use_of_shared(self) -> Iterator[tuple[int, int]]:
        """The bytes and files of every file system in memory."""
        for folder in self._shared:
            with suppress(OSError):
                found = os.statvfs(folder)
                yield (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree

    def _all_processes(self) -> Iterator[int]:
        """The run's processes except the supervisor, by their numbers in the watched /proc."""
        assert self._processes is not None
        own = int(os.readlink("self", dir_fd=self._processes))
        if own == 1:
            yield from (int(name) for name in os.listdir(self._processes) if name.isdigit() and name != "1")
            return
        waiting = [own]
        while waiting:
            parent = waiting.pop()
            with suppress(OSError):
                for task in self._listed(f"{parent}/task"):
                    children = map(int, self._read(f"{parent}/task/{task}/children").split())
                    for child in children:
                        waiting.append(child)
                        yield child

    def _resident(self, process: int) -> int:
        """The resident bytes of a process; 0 if it is gone."""
        try:
            return int(self._read(f"{process}/statm").split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0

    def _proportional(self, process: int) -> int:
        """The bytes of a process, where a page that n processes share counts 1/n in each."""
        try:
            lines = self._read(f"{process}/smaps_rollup").splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith((b"Pss:", b"SwapPss:"))) * _KIBIBYTE
        except (OSError, IndexError):
            return self._resident(process)

    def _nameless(self, processes: Iterable[int]) -> Iterator[tuple[tuple[int, int], tuple[int, bool]]]:
        """The open files without a name: identity, bytes, and whether the bytes are in memory."""
        for process in processes:
            with suppress(OSError):
                for descriptor in self._listed(f"{process}/fd"):
                    with suppress(OSError):
                        path = f"{process}/fd/{descriptor}"
                        found = os.stat(path, dir_fd=self._processes)
                        if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                            in_memory = os.readlink(path, dir_fd=self._processes).startswith("/memfd:")
                            yield (found.st_dev, found.st_ino), (found.st_blocks * _BLOCK, in_memory)

    def _read(self, path: str) -> bytes:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._processes)
        with open(opened, "rb", buffering=0) as file:
            return file.read()

    def _listed(self, path: str) -> list[str]:
        folder = os.open(path, _FOLDER, dir_fd=self._processes)
        try:
            return os.listdir(folder)
        finally:
            os.close(folder)


def _files(top: Path) -> Iterator[int]:
    """The bytes on the disk of every file and folder below `top`, which processes may be changing.

    Raises:
        LimitReached: the folder holds something that cannot be counted.
    """
    seen: set[tuple[int, int]] = set()
    # Each folder from `top` down to the current one, with the names of its folders that are not read yet.
    open_folders: list[tuple[int, list[str]]] = []
    try:
        with suppress(FileNotFoundError):
            open_folders.append((os.open(top, _FOLDER), []))
            yield from _files_in(*open_folders[-1], seen)
        while open_folders:
            folder, unread = open_folders[-1]
            if not unread:
                os.close(folder)
                open_folders.pop()
                continue
            if len(open_folders) > _DEEPEST:
                raise LimitReached(f"limit of {_DEEPEST} nested folders reached")
            # The folder may have disappeared or changed since it was listed.
            with suppress(FileNotFoundError, NotADirectoryError):
                open_folders.append((os.open(unread.pop(), _FOLDER, dir_fd=folder), []))
                yield from _files_in(*open_folders[-1], seen)
    except PermissionError:
        raise LimitReached("created a folder whose files cannot be counted") from None
    finally:
        for folder, _ in open_folders:
            os.close(folder)


def _files_in(folder: int, folders: list[str], seen: set[tuple[int, int]]) -> Iterator[int]:
    """The bytes of everything directly in `folder`; adds the names of its folders to `folders`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            identity = (found.st_dev, found.st_ino)
            if stat.S_ISDIR(found.st_mode):
                folders.append(entry.name)
            # A file with several names counts its bytes once, but each name counts as a file.
            yield 0 if identity in seen else found.st_blocks * _BLOCK
            if found.st_nlink > 1:
                seen.add(identity)
