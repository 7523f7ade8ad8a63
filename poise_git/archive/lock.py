"""Operating system locks for one writer and one search at a time. A lock ends with its process."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from poise_git.errors import ArchiveError, ArchiveLocked

POLL_SECONDS = 0.01


class Lock(StrEnum):
    """The purpose of a lock file in the git directory, and the default wait in seconds."""

    WRITE = "write"
    SEARCH = "search"

    @property
    def file(self) -> str:
        return "poise.lock" if self is Lock.WRITE else "poise-search.lock"

    @property
    def patience(self) -> float:
        return 30.0 if self is Lock.WRITE else 0.0


@contextmanager
def hold(common_dir: Path, lock: Lock, wait: float | None = None) -> Iterator[None]:
    """Hold `lock`, waiting at most `wait` seconds for it.

    Raises ArchiveLocked if another process still holds it.
    """
    path = common_dir / lock.file
    deadline = time.monotonic() + (lock.patience if wait is None else wait)
    with _opened(path) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ArchiveLocked(_explain(path, lock)) from None
                time.sleep(POLL_SECONDS)
        # The holder's id is only information. On a full disk the lock is valid without it.
        with suppress(OSError):
            os.ftruncate(file, 0)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            os.write(file, json.dumps(holder).encode())
        try:
            yield
        finally:
            os.ftruncate(file, 0)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The lock file, created if missing. A link is refused, because its target would be emptied."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise ArchiveError(
                f"{path}: a symbolic link, not a lock file; remove it: rm {shlex.quote(str(path))}"
            ) from None
        raise ArchiveError(f"{path}: cannot be written: {error.strerror}; work in your own clone") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ArchiveError(
                f"{path}: not a plain file, so it cannot be a lock; remove it: rm {shlex.quote(str(path))}"
            )
        yield handle
    finally:
        os.close(handle)


def _explain(path: Path, lock: Lock) -> str:
    what = "another process is writing" if lock is Lock.WRITE else "another search is running"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(held["since"]).strftime("%Y-%m-%d %H:%M:%S")
        who = f"process {int(held['pid'])} on {held['host']} since {since}"
        advice = f"wait for it, or stop it: kill {int(held['pid'])}"
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        who, advice = "a process that is starting or ending", "try again"
    return f"{path}: {what} in this archive ({who}); {advice}"
