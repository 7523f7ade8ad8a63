"""One process of a candidate, as the trusted side talks to it: questions and answers, each bounded in size and time."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Self
from typing import Protocol as Interface

from torch import Tensor

from poise_git.pipeline.boundary.door import CANDIDATE, Door
from poise_git.pipeline.boundary.failures import CandidateFailed, one_line
from poise_git.pipeline.boundary.frames import ANSWERED, Closed, Frame, FrameRefused, TooLate, receive, send
from poise_git.pipeline.boundary.patience import Patience

# Seconds beyond those that calls bring, of a run and of checks: see `Patience`.
RUN_SECONDS, CHECK_SECONDS = 20.0, 5.0
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

    def __init__(
        self, connection: socket.socket, door: Door | None = None, number: int = 0, seconds: float = RUN_SECONDS
    ) -> None:
        self._connection, self._door, self._number = connection, door, number
        self._patience = Patience(seconds)
        self._exchange("loading recipe/algorithm.py", None, ())

    @classmethod
    def opened(cls, door: Door, recipe: str = CANDIDATE, seconds: float = RUN_SECONDS) -> Self:
        opened = door.open(recipe)
        return cls(opened.connection, door, opened.number, seconds)

    def ask(self, what: str, content: Mapping[str, Any], tensors: Sequence[Tensor]) -> Frame:
        return self._exchange(what, {"ask": what, **content}, tensors)

    def close(self) -> None:
        self._connection.close()
        if self._door is not None:
            with suppress(CandidateFailed):
                self._door.end(self._number)

    def _exchange(self, what: str, content: Mapping[str, Any] | None, tensors: Sequence[Tensor]) -> Frame:
        """Send a question, if there is one, and read the answer."""
        size = sum(tensor.nbytes for tensor in tensors)
        began, seconds = time.monotonic(), self._patience.of_call(size)
        try:
            if content is not None:
                send(self._connection, content, tensors, began + seconds)
            frame = receive(self._connection, 4 * size + _ANSWER_BYTES, began + seconds, ANSWERED)
        except TooLate as error:
            raise CandidateFailed(f"{what} did not answer within {seconds:.3g} s") from error
        except FrameRefused as error:
            raise CandidateFailed(f"{what} sent {error}") from error
        except Closed as error:
            raise self._gone(what) from error
        self._patience.spend(time.monotonic() - began)
        match frame.content.get("failed"):
            case None:
                return frame
            case str(reason):
                raise CandidateFailed(one_line(reason))
        raise CandidateFailed(f"{what} sent something that is not a frame")

    def _gone(self, what: str) -> CandidateFailed:
        ended = ""
        if self._door is not None:
            with suppress(CandidateFailed):
                ended = self._door.how_it_ended(self._number)
        return CandidateFailed(f"{what} ended its process{f': {ended}' if ended else ''}")
