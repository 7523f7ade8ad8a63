"""Decide whether an answer is right, as a pure function. `grade` may never return, so a `Grader` should call it.

Kinds of golds:

    integer   the value of an integer in any notation: 025, 25, 25.0 and x = 25 are the same answer; 20 + 5 is not one
    math      equality by our rules of notation, then by math-verify (https://github.com/huggingface/Math-Verify)
    olympiad  as `math`; several answers make one gold, the list of all of them
    minerva   as `math`, but a number may be off by 1% (MINERVA_TOLERANCE); all other kinds are exact

Graders differ on these points. This one takes the strict side:
a percent sign or a unit may be left out but not changed, and it is not a factor: 50% is 50, not 0.5;
a base is part of a number: 11_8 is not 11; tuples and intervals are ordered and keep their brackets, but sets and
lists are unordered; a plain number must be computed: 6 + 1 is not 7; 0.333 is not 1/3; any one of several golds counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from poise_git.pipeline.backends.verl.notation import (
    Collection,
    bases,
    collection,
    is_unevaluated,
    normal_form,
    quantity,
    text_form,
    without_name,
)
from poise_git.pipeline.backends.verl.sources import AnswerKind

MINERVA_TOLERANCE = 0.01
# Far longer than any gold, so a longer text cannot be a right answer.
LONGEST_ANSWER = 2000
_LONGEST_COLLECTION = 64
_UNIT = re.compile(r"(?<=.)\\text\s?\{[^{}]*\}(?:\s?\^\s?\{?[-+]?\d\}?)?$")


def quick_grade(kind: AnswerKind, golds: Sequence[str], answer: str) -> bool | None:
    """Decide from the text alone, in time linear in its length; None if `grade` must decide."""
    if len(answer) > LONGEST_ANSWER:
        return False
    normal = normal_form(answer)
    verdicts = [_quick(kind, normal_form(gold), normal) for gold in golds]
    if True in verdicts:
        return True
    return None if None in verdicts else False


def grade(kind: AnswerKind, golds: Sequence[str], answer: str) -> bool:
    """Whether `answer`, the content of the box, equals one of `golds`.

    Needs math-verify, and switches off its time limits, which work in main threads only. It can hang or take all
    memory, so call it in a process that may be killed.
    """
    verdict = quick_grade(kind, golds, answer)
    if verdict is not None:
        return verdict
    tolerance = MINERVA_TOLERANCE if kind == "minerva" else 0.0
    normal = normal_form(answer)
    return any(_equal(normal_form(gold), normal, tolerance) for gold in golds)


def _quick(kind: AnswerKind, gold: str, answer: str) -> bool | None:
    if kind == "integer":
        return _same_integer(gold, answer)
    if text_form(gold) == text_form(answer):
        return True
    gold_number, number = quantity(gold), quantity(without_name(answer))
    if gold_number and number:
        return gold_number.equals(number, MINERVA_TOLERANCE if kind == "minerva" else 0.0)
    return None


def _same_integer(gold: str, answer: str) -> bool:
    gold_number, number = quantity(gold), quantity(without_name(answer))
    return bool(gold_number and number and gold_number.equals(number, 0.0))


def _equal(gold: str, answer: str, tolerance: float) -> bool:
    """Equality of two normal forms."""
    if text_form(gold) == text_form(answer):
        return True
    if bases(gold) != bases(answer):
        return False
    gold_number, number = quantity(gold), quantity(answer)
    if gold_number and number:
        return gold_number.equals(number, tolerance)
    gold_items, items = (
        None if number else collection(text) for text, number in ((gold, gold_number), (answer, number))
    )
    if gold_items and items:
        return _equal_collections(gold_items, items, tolerance)
    for one, other in ((gold_items, answer), (items, gold)):
        if one and len(one.items) == 1:
            return _equal(one.items[0], other, tolerance)
    sides = _sides(gold, answer)
    if sides is not None:
        return any(all(_equal(a, b, tolerance) for b in sides[1]) for a in sides[0])
    if gold_number and is_unevaluated(answer):
        return False
    return _equal_expressions(gold, answer, tolerance)


def _equal_collections(gold: Collection, answer: Collection, tolerance: float) -> bool:
    kinds = {gold.kind, answer.kind}
    if max(len(gold.items), len(answer.items)) > _LONGEST_COLLECTION or kinds == {"ordered", "set"}:
        return False
    if "ordered" in kinds:
        same_brackets = gold.brackets == answer.brackets or "list" in kinds
        return (
            same_brackets
            and len(gold.items) == len(answer.items)
            and all(_equal(a, b, tolerance) for a, b in zip(gold.items, answer.items, strict=True))
        )
    remaining = list(dict.fromkeys(answer.items))
    for item in dict.fromkeys(gold.items):
        found = next((other for other in remaining if _equal(item, other, tolerance)), None)
        if found is None:
            return False
        remaining.remove(found)
    return not remaining


def _sides(gold: str, answer: str) -> tuple[list[str], list[str]] | None:
    """The sides to compare when only one of the two is an equation; None if there is nothing to take apart.

    An answer may equal any side of a gold such as `0.56 = 56%`. Both sides of an answer such as `6 = 5` must be right.
    """
    if ("=" in gold) == ("=" in answer):
        short = without_name(gold), without_name(answer)
        same_name = gold.removesuffix(short[0]).split() == answer.removesuffix(short[1]).split()
        return ([short[0]], [short[1]]) if same_name and short != (gold, answer) else None
    equation = gold if "=" in gold else answer
    if without_name(equation) != equation:
        return [without_name(gold)], [without_name(answer)]
    if any(sign in equation for sign in ("\\neq", "<=", ">=", "==", "!=")):
        return None
    sides = [side.strip() for side in equation.split("=")]
    if any(any(character.isalpha() for character in side.replace("\\frac", "")) for side in sides) or not all(sides):
        return None
    return (sides, [answer]) if equation is gold else ([gold], sides)


def _equal_expressions(gold: str, answer: str, tolerance: float) -> bool:
    """Ask math-verify; compare sets with relations in both directions, because its default is only one."""
    from math_verify import verify

    parsed_gold, parsed = _parse(gold), _parse(answer)
    if not parsed_gold or not parsed:
        return False
    if verify(parsed_gold, parsed, timeout_seconds=None, allow_set_relation_comp=True):
        return True
    return bool(tolerance) and _close(parsed_gold[0], parsed[0], tolerance)


def _parse(normal: str) -> list[Any]:
    """[expression, its text] of math-verify, or an empty list. The box makes math-verify read exactly this text."""
    from math_verify import LatexExtractionConfig, parse

    without_units = _UNIT.sub("", normal.replace("%", "").replace("\\text{degree}", "")) or normal
    # math-verify reads 2(5) as the mixed number 2 + 5.
    products_written_out = re.sub(r"(?<=\d)\s*\(", r"\\cdot (", without_units)
    # math-verify's own rule for units would remove the t of `1/n t`.
    notation = replace(LatexExtractionConfig().normalization_config, units=False)
    parsed: list[Any] = parse(
        f"\\boxed{{{products_written_out}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0, normalization_config=notation)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return parsed


def _close(gold: Any, value: Any, tolerance: float) -> bool:
    """Whether two expressions are real numbers that are close to each other."""
    try:
        expected, given = float(gold.evalf()), float(value.evalf())
    except (AttributeError, TypeError, ValueError, OverflowError):
        return False
    return abs(expected - given) <= tolerance * abs(expected)
