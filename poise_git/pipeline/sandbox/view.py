"""The part of the file system that a child may see, and a private root folder that shows exactly that."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import poise_git
from poise_git.pipeline.sandbox import kernel
from poise_git.pipeline.sandbox.allowance import Allowance

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
# Files that the dynamic linker, the clock and the standard library need. The standard library fails if it sees a file
# that it may not read. None of them is about users, hosts or keys.
_SETTINGS = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/mime.types", "/sys/devices/system")
_DEVICES = ("/dev/zero", "/dev/random", "/dev/urandom")
SINK = Path("/dev/null")
PROCESSES = Path("/proc")
# The user "nobody", which root becomes.
NOBODY = 65534
# The description of the machine's parts. Without a private root folder to hide it, a run with services may read it,
# because Ray and Gloo stop if they see such a file but may not read it.
MACHINE = Path("/sys")
# Every run with services has its own files with the names of host and user, and its own folders for communication.
NAME_FILES = (Path("/etc/hosts"), Path("/etc/passwd"))
_TEMPORARY, _SHARED_MEMORY = Path("/tmp"), Path("/dev/shm")
SHARED_FOLDERS = (_TEMPORARY, _SHARED_MEMORY)
# The new root is built on this folder and hides it meanwhile; any folder would work.
_STAGE = "/tmp"


def readable_paths(extra: Iterable[Path]) -> tuple[Path, ...]:
    """Everything a child may read: the libraries, this package, and `extra`."""
    return _under_both_names([*library_paths(), Path(poise_git.__file__).parent, *extra])


@cache
def library_paths() -> tuple[Path, ...]:
    """The system, and this Python with its packages."""
    python = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return _under_both_names(map(Path, (*_SYSTEM, *_SETTINGS, *_DEVICES, *python, *packages)))


def _under_both_names(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The existing paths, both absolute and resolved, because both names may be in use."""
    both = [name for path in paths for name in (path.absolute(), path.resolve())]
    return tuple(path for path in dict.fromkeys(both) if path.exists())


def enter_private_root(scratch: Path, allowance: Allowance) -> None:
    """Replace the root folder with one that holds only `scratch` and the paths that the run is allowed.

    Needs a mount namespace of its own and the right to mount in it.

    Raises: OSError.
    """
    os.umask(0o022)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    shown = _outermost(path for path in allowance.readable if not _is_top_link(path))
    links = {path: os.readlink(path) for path in allowance.readable if _is_top_link(path)}
    writable = (SINK, *allowance.devices, *allowance.writable, scratch)
    sources = {path: os.open(path, os.O_PATH) for path in (*shown, *writable)}
    kernel.mount("tmpfs", _STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    for path, target in links.items():
        os.symlink(target, f"{_STAGE}{path}")
    if allowance.services:
        _make_meeting_places()
    for path, source in sources.items():
        _show(path, source)
        os.close(source)
        if path not in writable:
            kernel.set_read_only(f"{_STAGE}{path}", recursive=True)
    _show_processes()
    kernel.set_read_only(_STAGE, recursive=False)
    kernel.enter_root(_STAGE)
    os.chdir(scratch)


def _make_meeting_places() -> None:
    """Make /tmp, /dev/shm, and the files that name the only host and the only user."""
    for path, text in zip(NAME_FILES, ("127.0.0.1 localhost\n", _password_line()), strict=True):
        file = Path(f"{_STAGE}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path in SHARED_FOLDERS:
        folder = Path(f"{_STAGE}{path}")
        folder.mkdir(parents=True)
        kernel.mount("tmpfs", str(folder), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")


def _password_line() -> str:
    user = os.getuid() or NOBODY
    return f"nobody:x:{user}:{user}::{_TEMPORARY}:/bin/sh\n"


def _show(path: Path, source: int) -> None:
    target = Path(f"{_STAGE}{path}")
    if not target.exists():
        if stat.S_ISDIR(os.fstat(source).st_mode):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    kernel.mount(f"/proc/self/fd/{source}", str(target), None, kernel.MS_BIND | kernel.MS_REC)


def _show_processes() -> None:
    """Mount the namespace's own /proc, if the kernel allows it: it refuses if a container masks parts of its /proc."""
    target = f"{_STAGE}{PROCESSES}"
    os.mkdir(target)
    with contextlib.suppress(OSError):
        kernel.mount("proc", target, "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def _is_top_link(path: Path) -> bool:
    """Whether the path is a link such as /bin -> usr/bin, as in most distributions."""
    return path.parent == Path("/") and path.is_symlink()


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """`paths` without those that are inside another one."""
    kept: list[Path] = []
    for path in sorted(paths, key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(kept)
