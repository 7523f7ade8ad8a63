"""One process of a candidate as seen by the trusted side: questions and answers, limited in size and time."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from typing import Protocol as Interface

from torch import Tensor

from poise_git.pipeline.boundary.door import CANDIDATE, Door
from poise_git.pipeline.boundary.failures import CandidateFailed, one_line
from poise_git.pipeline.boundary.frames import ANSWERED, Closed, Frame, FrameRefused, TooLate, receive, send
from poise_git.pipeline.boundary.patience import Patience

LOADING = "loading recipe/algorithm.py"
# Reserve seconds of a run and of checks: see `Patience`.
RUN_SECONDS, CHECK_SECONDS = 60.0, 20.0
# Extra bytes of an answer beyond four times the question; a gradient and its loss are smaller.
_ANSWER_BYTES = 1 << 16
# Bytes of unanswered questions: less than the socket holds, so that both sides never wait to write.
_IN_FLIGHT = 1 << 15

Done = TypeVar("Done")


@dataclass(frozen=True)
class Question:
    """One call of an entry point; `what` names it."""

    what: str
    content: Mapping[str, Any]
    tensors: Sequence[Tensor]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def repeated(self, times: int) -> Question:
        """A number of calls in a row; the last one is answered."""
        return Question(self.what, {**self.content, "times": times}, self.tensors)


class Answering(Interface):
    """An object that answers questions about one recipe. Raises CandidateFailed."""

    def ask(self, what: str, content: Mapping[str, Any], tensors: Sequence[Tensor]) -> Frame:
        """The answer to one question; `what` names the entry point."""
        ...

    def ask_all(self, questions: Sequence[Question]) -> list[Frame]:
        """The answers to questions that do not depend on one another, called in this order."""
        ...

    def close(self) -> None: ...


class CandidateProcess:
    """A separate process that holds one recipe; see `Answering`."""

    def __init__(
        self, connection: socket.socket, door: Door | None = None, number: int = 0, seconds: float = RUN_SECONDS
    ) -> None:
        self._connection, self._door, self._number = connection, door, number
        self._patience = Patience(seconds)
        self._patience.bring(0)
        _answer(self._received(LOADING, 0))

    @classmethod
    def opened(cls, door: Door, recipe: str = CANDIDATE, seconds: float = RUN_SECONDS) -> Self:
        opened = door.open(recipe)
        return cls(opened.connection, door, opened.number, seconds)

    def ask(self, what: str, content: Mapping[str, Any], tensors: Sequence[Tensor]) -> Frame:
        return self.ask_all([Question(what, content, tensors)])[0]

    def ask_all(self, questions: Sequence[Question]) -> list[Frame]:
        """Send the next questions while the first ones are answered, which saves most of the waiting."""
        frames: list[Frame] = []
        waiting: deque[Question] = deque()

        def take() -> None:
            question = waiting.popleft()
            frames.append(self._received(question.what, question.size))

        for question in questions:
            while waiting and sum(asked.size for asked in waiting) + question.size > _IN_FLIGHT:
                take()
            self._put(question)
            waiting.append(question)
        while waiting:
            take()
        # Decode the answers only now, so that none is left in the socket if one of them is a failure.
        return [_answer(frame) for frame in frames]

    def close(self) -> None:
        self._connection.close()
        if self._door is not None:
            with suppress(CandidateFailed):
                self._door.end(self._number)

    def _put(self, question: Question) -> None:
        self._patience.bring(question.size)
        content = {"ask": question.what, **question.content}
        self._wait(question.what, lambda deadline: send(self._connection, content, question.tensors, deadline))

    def _received(self, what: str, size: int) -> Frame:
        limit = 4 * size + _ANSWER_BYTES
        return self._wait(what, lambda deadline: receive(self._connection, limit, deadline, ANSWERED))

    def _wait(self, what: str, act: Callable[[float], Done]) -> Done:
        """Call `act` with its deadline; an error becomes the candidate's failure."""
        began, seconds = time.monotonic(), self._patience.left
        try:
            return act(began + seconds)
        except TooLate as error:
            raise CandidateFailed(f"{what} did not answer within {seconds:.3g} s") from error
        except FrameRefused as error:
            raise CandidateFailed(f"{what} sent {error}") from error
        except Closed as error:
            raise self._gone(what) from error
        finally:
            self._patience.spend(time.monotonic() - began)

    def _gone(self, what: str) -> CandidateFailed:
        ended = ""
        if self._door is not None:
            with suppress(CandidateFailed):
                ended = self._door.how_it_ended(self._number)
        return CandidateFailed(f"{what} ended its process{f': {ended}' if ended else ''}")


def _answer(frame: Frame) -> Frame:
    match frame.content.get("failed"):
        case None:
            return frame
        case str(reason):
            raise CandidateFailed(one_line(reason))
    raise CandidateFailed("the candidate's process sent something that is not a frame")
