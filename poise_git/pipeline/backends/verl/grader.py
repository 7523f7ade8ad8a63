"""Grade in separate processes with hard limits of time and memory, so that an answer can hang or kill only those.

sympy hangs on some answers (`9^{9^{9^{9}}}`), and math-verify's own time limits work in main threads only, so the pool
kills a worker from outside. `quick_grade` decides what the text alone can decide, without a worker.
"""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from poise_git.errors import RunFailed, UsageError
from poise_git.pipeline.backends.verl.answers import extract_answer
from poise_git.pipeline.backends.verl.grading import quick_grade
from poise_git.pipeline.backends.verl.sources import AnswerFormat, AnswerKind

_WORKER = "poise_git.pipeline.backends.verl.grading_worker"


@dataclass(frozen=True)
class Question:
    """A response to be graded; each of `golds` is a right answer. `finished`: the model stopped by itself."""

    kind: AnswerKind
    golds: tuple[str, ...]
    response: str
    finished: bool
    answer_format: AnswerFormat = "boxed"


@dataclass(frozen=True)
class Verdict:
    """Correct implies valid. `timed_out`: grading hit its limit of time or memory; the answer counts as wrong."""

    valid: bool
    correct: bool
    timed_out: bool = False


@dataclass(frozen=True)
class GraderLimits:
    """The limits of one worker process.

    Attributes:
        seconds: wall time for one answer.
        start_seconds: wall time to start and import math-verify.
        memory_mb: address space.
        answers: number of answers after which a fresh process takes over, because caches grow.
    """

    seconds: float = 10.0
    start_seconds: float = 120.0
    memory_mb: int = 2048
    answers: int = 2000


class Grader:
    """A pool of grading processes, started when first needed; a context manager.

    Several threads may call it at once. From asyncio, use `asyncio.wrap_future(grader.submit(question))`.
    """

    def __init__(self, workers: int = 2, limits: GraderLimits | None = None) -> None:
        """Raises UsageError without math-verify."""
        if importlib.util.find_spec("math_verify") is None:
            raise UsageError("math-verify is not installed: pip install 'poise-git[verl]'")
        self._limits = limits or GraderLimits()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grader")
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The process ids of the live workers."""
        with self._lock:
            return tuple(worker.process.pid for worker in self._all)

    def submit(self, question: Question) -> Future[Verdict]:
        """Return a future of the verdict. It raises RunFailed if no worker can be started."""
        answer = extract_answer(question.response, finished=question.finished, answer_format=question.answer_format)
        quick = False if answer is None else quick_grade(question.kind, question.golds, answer)
        if answer is None or quick is not None:
            known: Future[Verdict] = Future()
            known.set_result(Verdict(valid=answer is not None, correct=bool(quick)))
            return known
        return self._threads.submit(self._grade, question.kind, question.golds, answer)

    def grade_all(self, questions: Sequence[Question]) -> list[Verdict]:
        """Return one verdict for each question, in order."""
        return [future.result() for future in [self.submit(question) for question in questions]]

    def close(self) -> None:
        """Kill all workers and cancel the waiting questions."""
        with self._lock:
            self._closed = True
            workers = tuple(self._all)
        for worker in workers:
            worker.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in workers:
            worker.stop()

    def _grade(self, kind: AnswerKind, golds: Sequence[str], answer: str) -> Verdict:
        """Grade one question. If the worker dies, try once more; if it hangs, the answer counts as wrong."""
        request = json.dumps([kind, list(golds), answer])
        for _ in range(2):
            worker = self._take()
            try:
                reply = worker.ask(request, self._limits.seconds)
            except _TookTooLong:
                self._discard(worker)
                return Verdict(valid=True, correct=False, timed_out=True)
            except _Died:
                self._discard(worker)
                continue
            if worker.answered < self._limits.answers and reply != "memory":
                self._put_back(worker)
            else:
                self._discard(worker)
            return Verdict(valid=True, correct=reply == "correct", timed_out=reply == "memory")
        return Verdict(valid=True, correct=False, timed_out=True)

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise RunFailed("grading", "the grader is closed")
            if self._idle:
                return self._idle.pop()
            worker = _Worker(self._limits)
            self._all.add(worker)
        try:
            worker.wait_until_ready(self._limits.start_seconds)
        except (_Died, _TookTooLong) as error:
            self._discard(worker)
            raise RunFailed("grading", f"a grading process did not start: {error}") from error
        return worker

    def _put_back(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def _discard(self, worker: _Worker) -> None:
        worker.stop()
        with self._lock:
            self._all.discard(worker)


class _Died(Exception):
    """The worker ended. The message is its last line of output."""


class _TookTooLong(Exception):
    """The worker did not answer in time."""


class _Worker:
    """One process. It is started by name, because multiprocessing would import the caller's main module."""

    def __init__(self, limits: GraderLimits) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", _WORKER, str(limits.memory_mb), str(limits.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.answered = 0
        self._received = b""

    def wait_until_ready(self, seconds: float) -> None:
        line = self._read_line(seconds)
        if line != "ready":
            raise _Died(line)

    def ask(self, request: str, seconds: float) -> str:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(request.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise _Died(str(error)) from error
        self.answered += 1
        return self._read_line(seconds)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue

    def _read_line(self, seconds: float) -> str:
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _TookTooLong(f"no answer within {seconds:g} s")
                part = os.read(self.process.stdout.fileno(), 65536)
                if not part:
                    raise _Died(self._received.decode(errors="replace").strip() or "it ended without a message")
                self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace").strip()
