"""One process of a candidate, as the trusted side talks to it: questions and answers, each bounded in size and time."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self
from typing import Protocol as Interface

from torch import Tensor

from poise_git.pipeline.boundary.door import CANDIDATE, Door
from poise_git.pipeline.boundary.failures import CandidateFailed, one_line
from poise_git.pipeline.boundary.frames import (
    ANSWERED,
    Closed,
    Frame,
    FrameRefused,
    TooLate,
    receive,
    send,
    wait_at_most,
)

# Seconds for one answer. An honest call takes milliseconds.
ANSWER_SECONDS = 60.0
# Of an answer, beyond four times the bytes of the question: a gradient and its loss are less.
_ANSWER_BYTES = 1 << 16


class Answering(Interface):
    """What answers questions about one recipe; both methods raise CandidateFailed."""

    def ask(self, what: str, content: Mapping[str, Any], tensors: Sequence[Tensor]) -> Frame:
        """The answer to one question; `what` names the entry point."""
        ...

    def close(self) -> None: ...


class CandidateProcess:
    """A process of its own that holds one recipe; see `Answering`."""

    def __init__(self, connection: socket.socket, door: Door | None = None, number: int = 0) -> None:
        self._connection, self._door, self._number = connection, door, number
        wait_at_most(connection, ANSWER_SECONDS)
        self._said("loading recipe/algorithm.py", 0)

    @classmethod
    def opened(cls, door: Door, recipe: str = CANDIDATE) -> Self:
        opened = door.open(recipe)
        return cls(opened.connection, door, opened.number)

    def ask(self, what: str, content: Mapping[str, Any], tensors: Sequence[Tensor]) -> Frame:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        try:
            send(self._connection, {"ask": what, **content}, tensors)
        except TooLate as error:
            raise CandidateFailed(f"{what} did not read its inputs within {ANSWER_SECONDS:g} s") from error
        except Closed as error:
            raise self._gone(what) from error
        return self._said(what, size)

    def close(self) -> None:
        self._connection.close()
        if self._door is not None:
            with suppress(CandidateFailed):
                self._door.end(self._number)

    def _said(self, what: str, size: int) -> Frame:
        try:
            frame = receive(self._connection, 4 * size + _ANSWER_BYTES, ANSWERED)
        except TooLate as error:
            raise CandidateFailed(f"{what} did not answer within {ANSWER_SECONDS:g} s") from error
        except FrameRefused as error:
            raise CandidateFailed(f"{what} sent {error}") from error
        except Closed as error:
            raise self._gone(what) from error
        if "failed" in frame.content:
            raise CandidateFailed(one_line(str(frame.content["failed"])))
        return frame

    def _gone(self, what: str) -> CandidateFailed:
        ended = ""
        if self._door is not None:
            with suppress(CandidateFailed):
                ended = self._door.how_it_ended(self._number)
        return CandidateFailed(f"{what} ended its process{f': {ended}' if ended else ''}")
