"""The parent's side of one run's pipes: JSON lines and output of an untrusted child."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from poise_git.pipeline.sandbox.failures import ChildFailed

MEBIBYTE = 1 << 20
_LINE_LIMIT = 16 * MEBIBYTE
_TAIL = 4096
_KINDS = frozenset(("layers", "message", "value", "error"))


class Messages:
    """Split incoming data into messages, one `{kind: content}` per line."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, Any]]:
        """The messages that `data` completes, as (kind, content).

        Raises:
            ChildFailed: something is not a message, or is too long.
        """
        searched = len(self._rest)
        self._rest += data
        while (end := self._rest.find(b"\n", searched)) >= 0:
            line, searched = bytes(self._rest[:end]), 0
            del self._rest[: end + 1]
            yield _message(line)
        if len(self._rest) > _LINE_LIMIT:
            raise ChildFailed(f"sent a message of more than {_LINE_LIMIT // MEBIBYTE} MB")


def _message(line: bytes) -> tuple[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or len(message) != 1 or not _KINDS.issuperset(message):
        raise ChildFailed("sent something that is not a message on the message pipe")
    ((kind, content),) = message.items()
    if not isinstance(content, {"layers": list, "message": dict, "error": str}.get(kind, object)):
        raise ChildFailed(f"sent a message of kind {kind!r} with the wrong content")
    return kind, content


class Output:
    """The output of a child: counted up to a limit, with its tail kept."""

    def __init__(self, limit_mb: int | None) -> None:
        self._limit_mb = limit_mb
        self._count = 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Raises ChildFailed at the limit."""
        self._count += len(data)
        self._tail = (self._tail + data)[-_TAIL:]
        if self._limit_mb is not None and self._count > self._limit_mb * MEBIBYTE:
            raise ChildFailed(f"wrote more than {self._limit_mb} MB of output")

    @property
    def tail(self) -> str:
        return self._tail.decode(errors="replace")
