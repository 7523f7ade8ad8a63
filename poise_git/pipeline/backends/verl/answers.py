"""Find the answer of a response and decide whether the response is valid. This module does not judge correctness.

boxed   valid: finished, and exactly one `\\boxed{}` (or `\\fbox{}`), balanced and not empty
plain   valid: exactly one integer in any other text, finished or not; for models too small to learn the box,
        which would by chance produce neither a box nor the end of a response
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from poise_git.pipeline.backends.verl.sources import AnswerFormat

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Boxes:
    """The boxes of a text in the order in which they open, nested ones too; `unbalanced` ones never close."""

    contents: tuple[str, ...]
    unbalanced: int


def boxed_contents(text: str) -> Boxes:
    """The content of each box. Escaped braces, as in a set, neither open nor close a box."""
    contents, unbalanced = [], 0
    ends = _closing_braces(text)
    for box in _BOX.finditer(text):
        end = ends.get(box.end()) if text[box.end() : box.end() + 1] == "{" else None
        if end is None:
            unbalanced += 1
        else:
            contents.append(text[box.end() + 1 : end])
    return Boxes(tuple(contents), unbalanced)


def extract_answer(response: str, *, finished: bool, answer_format: AnswerFormat = "boxed") -> str | None:
    """The one answer of a valid response; None for an invalid one. `finished`: the model stopped by itself."""
    if answer_format == "plain":
        integers = _INTEGER.findall(response)
        return integers[0] if len(integers) == 1 else None
    if not finished:
        return None
    boxes = boxed_contents(response)
    if boxes.unbalanced or len(boxes.contents) != 1:
        return None
    return boxes.contents[0].strip() or None


def is_valid(response: str, *, finished: bool, answer_format: AnswerFormat = "boxed") -> bool:
    """Whether the response has the required form, right or wrong."""
    return extract_answer(response, finished=finished, answer_format=answer_format) is not None


def _closing_braces(text: str) -> dict[int, int]:
    """Map the position of each opening brace to that of its closing brace, in one pass at any depth of nesting."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            ends[opened.pop()] = match.start()
    return ends
