"""The door to a host of candidates: the trusted side opens and ends processes through it."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass
from typing import TypeVar

from poise_git.pipeline.boundary.failures import CandidateFailed

# The names of a host's recipes.
CANDIDATE, PARENT = "candidate", "parent"
# The argument that gives the recipe to a trusted child itself, if it runs without the boundary.
TRUSTED_RECIPE = "trusted_recipe"
_REPLY = 1 << 12
# A host forks at once; wait no longer than this for it.
_PATIENCE = 20.0


T = TypeVar("T", int, str)


@dataclass(frozen=True)
class Opened:
    """One process of a candidate: its socket, and its number at the host."""

    connection: socket.socket
    number: int


class Door:
    """The trusted side's end of a host's door. Thread-safe."""

    def __init__(self, descriptor: int) -> None:
        self._line = socket.socket(fileno=descriptor)
        self._line.settimeout(_PATIENCE)
        self._lock = threading.Lock()

    def open(self, recipe: str = CANDIDATE) -> Opened:
        """Open a fresh process of the named recipe. Raises CandidateFailed if the host is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            return Opened(ours, self.hand_over(recipe, theirs))

    def hand_over(self, recipe: str, connection: socket.socket) -> int:
        """Open a fresh process that serves `connection`, of which the caller keeps its own copy; return its number."""
        return self._ask({"open": recipe}, "number", int, connection)

    def end(self, number: int) -> None:
        """End a process."""
        self._ask({"end": number}, "ended", str)

    def how_it_ended(self, number: int) -> str:
        """How a process that has closed its connection ended; empty if unknown."""
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
            # A late reply must not be taken for the reply to another question.
            self._line.close()
        raise CandidateFailed("the host of the candidate's processes is gone")
