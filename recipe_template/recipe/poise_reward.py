"""The reward in three levels: invalid 0, valid but wrong `VALID_WRONG`, correct 1.

A response is valid if it holds exactly one balanced \\boxed{}. verl's comparison of mathematical texts decides
whether it is correct. Mechanisms read validity and correctness back from these levels.
"""

from __future__ import annotations

from typing import Any

from verl.utils.reward_score.math_reward import is_equiv

VALID_WRONG = 0.1
_OPENING = "\\boxed{"


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **kwargs: Any
) -> dict[str, float]:
    """Return verl's reward `score`, and values to log."""
    answer = boxed_answer(solution_str)
    valid = answer is not None
    correct = answer is not None and is_equiv(answer, ground_truth)
    return {"score": 1.0 if correct else VALID_WRONG * valid, "valid": float(valid), "correct": float(correct)}


def boxed_answer(text: str) -> str | None:
    """The content of the only balanced box in `text`; None if there is no box, more than one, or an open one."""
    if text.count(_OPENING) != 1:
        return None
    begin = text.index(_OPENING) + len(_OPENING)
    depth = 1
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position].strip()
    return None
