"""Validity: exactly one balanced box in a response that ended by itself; and the format for models too small for it."""

from __future__ import annotations

import pytest

from poise_git.pipeline.backends.verl.answers import Boxes, boxed_contents, extract_answer, is_valid


@pytest.mark.parametrize(
    ("text", "contents", "unbalanced"),
    [
        (r"so \boxed{7}.", ("7",), 0),
        (r"\boxed{\frac{1}{2}}", (r"\frac{1}{2}",), 0),
        (r"\boxed{\{1, 2\}}", (r"\{1, 2\}",), 0),
        (r"\boxed{\left\{ x : x > 0 \right\}}", (r"\left\{ x : x > 0 \right\}",), 0),
        (r"\fbox{7} and \boxed {8}", ("7", "8"), 0),
        (r"\boxed{1 \boxed{2}}", (r"1 \boxed{2}", "2"), 0),
        (r"\boxed{7", (), 1),
        (r"\boxed{\frac{1}{2}", (), 1),
        (r"\boxed{7\}", (), 1),
        (r"\boxed 7", (), 1),
        (r"\boxedx{7} boxed{7}", (), 0),
        ("} { \\boxed{7}", ("7",), 0),
        (r"\\boxed{7}", ("7",), 0),
        ("", (), 0),
    ],
)
def test_boxes_are_found(text: str, contents: tuple[str, ...], unbalanced: int) -> None:
    assert boxed_contents(text) == Boxes(contents, unbalanced)


@pytest.mark.parametrize(
    ("response", "finished", "valid"),
    [
        (r"The answer is \boxed{7}.", True, True),
        (r"The answer is \boxed{7}.", False, False),
        (r"\boxed{7} or \boxed{7}", True, False),
        (r"\boxed{\boxed{7}}", True, False),
        (r"\boxed{7} and \boxed{8", True, False),
        (r"\boxed{}", True, False),
        (r"\boxed{ }", True, False),
        ("The answer is 7.", True, False),
        ("", True, False),
    ],
)
def test_one_balanced_and_complete_box_is_valid(response: str, finished: bool, valid: bool) -> None:
    assert is_valid(response, finished=finished) is valid


@pytest.mark.parametrize(
    ("response", "answer"),
    [("7", "7"), (" -12\n", "-12"), ("x7y", "7"), ("7 8", None), ("", None), ("seven", None), ("3+4", None)],
)
@pytest.mark.parametrize("finished", [True, False])
def test_plain_format_is_one_integer(response: str, answer: str | None, finished: bool) -> None:
    assert extract_answer(response, finished=finished, answer_format="plain") == answer


def test_a_response_of_braces_takes_little_time() -> None:
    """Quadratic scanning would take hours on the responses of a collapsed policy."""
    for text in ("\\boxed{" * 100_000, "{" * 1_000_000, "\\boxed{}" * 100_000):
        assert not is_valid(text, finished=True)


def test_the_content_is_stripped() -> None:
    assert extract_answer("\\boxed{ 7\n}", finished=True) == "7"
