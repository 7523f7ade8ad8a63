"""The door to a host of candidates: the trusted side opens processes through it, and ends them."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass
from typing import TypeVar

from poise_git.pipeline.boundary.failures import CandidateFailed

# The names of the recipes that a host holds.
CANDIDATE, PARENT = "candidate", "parent"
# The argument of a trusted child that holds the recipe itself, where it runs without the wall.
TRUSTED_RECIPE = "trusted_recipe"
_REPLY = 1 << 12
# A host forks at once; it is waited for no longer than this.
_PATIENCE = 20.0


T = TypeVar("T", int, str)


@dataclass(frozen=True)
class Opened:
    """One process of a candidate: the socket to it, and its number at the host."""

    connection: socket.socket
    number: int


class Door:
    """The trusted side's end of a host's door. Thread-safe."""

    def __init__(self, descriptor: int) -> None:
        self._line = socket.socket(fileno=descriptor)
        self._line.settimeout(_PATIENCE)
        self._lock = threading.Lock()

    def open(self, recipe: str = CANDIDATE) -> Opened:
        """A fresh process of the recipe of that name. Raises CandidateFailed: the host is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            return Opened(ours, self.hand_over(recipe, theirs))

    def hand_over(self, recipe: str, connection: socket.socket) -> int:
        """A fresh process that serves `connection`, of which the caller keeps its own copy; its number."""
        return self._ask({"open": recipe}, "number", int, connection)

    def end(self, number: int) -> None:
        """End a process."""
        self._ask({"end": number}, "ended", str)

    def how_it_ended(self, number: int) -> str:
        """In what way a process that has closed its connection ended; empty where that is not known."""
        return self._ask({"ended": number}, "ended", str)

    def _ask(self, question: dict[str, object], wanted: str, of: type[T], connection: socket.socket | None = None) -> T:
        descriptors = [] if connection is None else [connection.fileno()]
        with self._lock:
            try:
                socket.send_fds(self._line, [json.dumps(question).encode()], descriptors)
                answer = json.loads(self._line.recv(_REPLY))
                if isinstance(answer, dict) and isinstance(answer.get(wanted), of):
                    return answer[wanted]  # type: ignore[no-any-return]
            except (OSError, ValueError):
                pass
            # A reply that comes later must not be taken for that to another question.
            self._line.close()
        raise CandidateFailed("the host of the candidate's processes is gone")
