"""A grading process. It reads questions from standard input and answers each with one word; see `grader.py`.

    ["math", ["7"], "\\frac{14}{2}"]  ->  correct | wrong | memory

It ends with its input. A question that takes much longer than its limit ends it by SIGALRM. The kernel delivers this
signal even during a long computation and after the parent has died.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys

# The parent kills this process at the limit. This longer limit takes effect only after the parent has died.
_PATIENCE = 3.0


def main(memory_mb: int, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20, memory_mb * 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    # The output of a library must not become an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    from poise_git.pipeline.backends.verl.grading import grade

    grade("math", ["x + 1"], "1 + 2x")
    print("ready", file=answers)
    for line in sys.stdin:
        kind, golds, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE * seconds)
        try:
            word = "correct" if grade(kind, golds, answer) else "wrong"
        except MemoryError:
            word = "memory"
        except (Exception, RecursionError):  # an answer that the parser or sympy rejects is not the gold
            word = "wrong"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(word, file=answers)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
