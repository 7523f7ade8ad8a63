"""A cache folder of this user outside git, with locks on entries in progress."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """`$XDG_CACHE_HOME/poise-git/<kind>`, or `~/.cache/poise-git/<kind>`; on a cluster it may be shared.

    A relative $XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification requires, because a child process
    would resolve it to another folder.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else Path.home() / ".cache") / "poise-git" / kind


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold `file` locked; another process or thread that wants the same entry waits for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
