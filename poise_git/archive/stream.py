"""Commits as one `git fast-import` stream: it writes objects and moves no refs.

Format: git-fast-import(1). Every commit is on a branch that exists only inside the stream. A final `reset` empties the
branch, and fast-import does not write empty branches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

from poise_git.errors import ArchiveError

_BRANCH = b"refs/poise/import"


class _Clock:
    """Seconds since the epoch, each used once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next_second(self) -> int:
        with self._lock:
            self._last = max(int(time.time()), self._last + 1)
            return self._last


_clock = _Clock()


class CommitStream:
    """Collect commits; `commits` are their names in the stream, in order."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._signature = f"{identity} {int(time.time())} +0000".encode()
        self._parts: list[bytes] = []
        self.commits: list[str] = []

    def commit(
        self,
        message: str,
        parents: Iterable[str],
        files: Mapping[str, str | bytes],
        removed: Iterable[str] = (),
    ) -> str:
        """Add a commit on top of `parents` (names of commits, or what this method returned for earlier ones).

        Its tree is the first parent's, without the `removed` paths, with `files` (path -> content).
        Returns the name that later commits of this stream use to name it as a parent.

        Raises:
            ArchiveError: a text cannot be stored, because it contains NUL or a lone surrogate.
        """
        mark = b":%d" % (len(self.commits) + 1)
        parts = [b"reset %s\n" % _BRANCH, b"commit %s\nmark %s\n" % (_BRANCH, mark)]
        parts += [b"author %s\ncommitter %s\n" % (self._signature, self._signature), _data(encode(message, "message"))]
        parts += [
            b"%s %s\n" % (b"merge" if place else b"from", parent.encode()) for place, parent in enumerate(parents)
        ]
        parts += [b"D %s\n" % path.encode() for path in removed]
        for path, content in files.items():
            parts.append(b"M 100644 inline %s\n" % path.encode())
            parts.append(_data(content if isinstance(content, bytes) else encode(content, path)))
        self._parts += [*parts, b"\n"]
        self.commits.append(mark.decode())
        return self.commits[-1]

    def date_apart(self) -> None:
        """Give the next commits a date, in whole seconds, that this process has not used before.

        Git orders commits by their dates in whole seconds. Candidates with equal dates would have an arbitrary order,
        and a draw from their list with the same seed would differ between searches.
        """
        self._signature = f"{self._identity} {_clock.next_second()} +0000".encode()

    def to_bytes(self) -> bytes:
        marks = [b"get-mark %s\n" % commit.encode() for commit in self.commits]
        return b"".join([*self._parts, b"reset %s\n" % _BRANCH, *marks, b"done\n"])


def encode(text: str, what: str) -> bytes:
    """The text as UTF-8.

    Raises ArchiveError if git cannot store it in a message or would show it as binary: NUL, or not Unicode.
    """
    if "\0" in text:
        raise ArchiveError(f"{what}: holds a NUL character (at {text.index(chr(0))}); remove it")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArchiveError(f"{what}: not valid Unicode at {error.start} ({error.reason}); remove it") from error


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
