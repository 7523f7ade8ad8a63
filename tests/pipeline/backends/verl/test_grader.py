"""Processes that grade: killed when they hang, replaced when they die, and none left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise_git.pipeline.backends.verl.grader import Grader, GraderLimits, Question, Verdict

pytest.importorskip("math_verify", reason="pip install 'poise-git[verl]'")

# Compared with a number, it is evaluated: 10^(369693100) digits.
HANGS = Question("math", ("5",), r"\boxed{9^{9^{9^{9}}}}", finished=True)
RIGHT = Question("math", (r"\frac{1}{2}",), r"It is \boxed{\frac{3}{6}}.", finished=True)
WRONG = Question("math", (r"\frac{1}{2}",), r"It is \boxed{\frac{3}{7}}.", finished=True)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2, limits=GraderLimits(seconds=2.0)) as pool:
        yield pool


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_answer_that_its_text_decides_needs_no_process() -> None:
    with Grader(workers=1) as pool:
        verdicts = pool.grade_all(
            [
                Question("integer", ("7",), r"\boxed{7}", finished=True),
                Question("integer", ("7",), r"\boxed{8}", finished=True),
                Question("integer", ("7",), r"\boxed{7}", finished=False),
                Question("math", ("x+1",), "x+1", finished=True),
                Question("math", ("x+1",), r"\boxed{x + 1}", finished=True),
                Question("integer", ("7",), "7", finished=False, answer_format="plain"),
            ]
        )
        assert pool.process_ids == ()
    assert verdicts == [
        Verdict(valid=True, correct=True),
        Verdict(valid=True, correct=False),
        Verdict(valid=False, correct=False),
        Verdict(valid=False, correct=False),
        Verdict(valid=True, correct=True),
        Verdict(valid=True, correct=True),
    ]


@pytest.mark.slow
def test_a_hanging_answer_is_wrong_and_delays_no_other(grader: Grader) -> None:
    verdicts = grader.grade_all([HANGS, RIGHT, WRONG, HANGS, RIGHT])
    assert [verdict.timed_out for verdict in verdicts] == [True, False, False, True, False]
    assert [verdict.correct for verdict in verdicts] == [False, True, False, False, True]
    assert all(verdict.valid for verdict in verdicts)


@pytest.mark.slow
def test_a_killed_process_is_replaced(grader: Grader) -> None:
    assert grader.grade_all([RIGHT]) == [Verdict(valid=True, correct=True)]
    before = grader.process_ids
    for process in before:
        os.kill(process, signal.SIGKILL)
    assert grader.grade_all([RIGHT, WRONG]) == [Verdict(valid=True, correct=True), Verdict(valid=True, correct=False)]
    assert set(grader.process_ids).isdisjoint(before)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="no /proc here")
def test_memory_is_limited() -> None:
    with Grader(workers=1, limits=GraderLimits(memory_mb=900)) as pool:
        pool.grade_all([RIGHT])
        [process] = pool.process_ids
        limits = Path(f"/proc/{process}/limits").read_text()
    assert re.search(rf"^Max address space +{900 * 2**20} +{900 * 2**20} ", limits, re.MULTILINE)


@pytest.mark.slow
def test_processes_are_recycled() -> None:
    with Grader(workers=1, limits=GraderLimits(answers=2)) as pool:
        seen = set()
        for _ in range(3):
            assert pool.grade_all([RIGHT])[0].correct
            seen.update(pool.process_ids)
        assert len(seen) == 2


@pytest.mark.slow
def test_threads_and_asyncio_share_a_grader(grader: Grader) -> None:
    found: list[list[Verdict]] = []
    threads = [threading.Thread(target=lambda: found.append(grader.grade_all([RIGHT, WRONG]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[verdict.correct for verdict in verdicts] for verdicts in found] == [[True, False]] * 4

    async def together() -> list[Verdict]:
        return await asyncio.gather(*(asyncio.wrap_future(grader.submit(one)) for one in (RIGHT, WRONG, RIGHT)))

    assert [verdict.correct for verdict in asyncio.run(together())] == [True, False, True]


@pytest.mark.slow
def test_the_grader_leaves_no_process() -> None:
    """Closing kills a process that hangs, and does not wait for its limit."""
    pool = Grader(workers=2)
    pool.grade_all([RIGHT])
    waiting = pool.submit(HANGS)
    while not waiting.running():
        time.sleep(0.01)
    processes = pool.process_ids
    pool.close()
    assert processes
    assert not any(map(is_alive, processes))


@pytest.mark.slow
def test_a_process_ends_with_its_parent() -> None:
    script = (
        "import os, sys, time\n"
        "from poise_git.pipeline.backends.verl.grader import Grader, Question\n"
        "pool = Grader(workers=1)\n"
        f"pool.grade_all([{RIGHT!r}])\n"
        "print(*pool.process_ids, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    [process] = map(int, done.stdout.split())
    deadline = time.monotonic() + 30
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(process)
