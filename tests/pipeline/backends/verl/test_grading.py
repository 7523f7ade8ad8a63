"""Every difficulty of grading, as a pair that is graded wrong without special handling."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from poise_git.pipeline.backends.verl.grading import LONGEST_ANSWER, grade, quick_grade
from poise_git.pipeline.backends.verl.sources import AnswerKind

pytest.importorskip("math_verify", reason="pip install 'poise-git[verl]'")

DATA = Path(__file__).parents[5] / "shared/data"

SAME = {
    "text": [(r"\text{Evelyn}", "Evelyn"), (r"\text{(A)}", "(A)"), (r"\dfrac{9}{7}", r"\tfrac{9}{7}"), ("C", "c")],
    "spacing": [("(3,2)", r"\left( 3,\, 2 \right)"), ("7", "7."), ("7", "$7$"), ("1000", "1{,}000")],
    "numbers": [("025", "25"), ("10,000", "10000"), ("0.5", "1/2"), ("1024", "2^{10}"), (r"9\frac{1}{2}", "9.5")],
    "scientific": [("3.83e35", r"3.83 \times 10^{35}"), ("1e-5", "10^{-5}"), ("4e3", r"4 \cdot 10^3")],
    "percent": [(r"50\%", "50"), ("50", r"50\%"), (r"0.56 = 56\%", r"56\%")],
    "units": [
        ("336", r"336^\circ"),
        ("336", r"336 \text{ cm}"),
        (r"5 \text{ cm}", r"5\mathrm{~cm}"),
        (r"\frac{7}{2}", r"\frac{14}{4} \text{ cm}^2"),
        (r"\$36", "36"),
    ],
    "algebra": [("x^2+2x+1", "(x+1)^2"), ("p - q", "-q + p"), (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}")],
    "variables": [
        (r"\frac{1}{m} t", r"\frac{t}{m}"),
        ("E_{1}, E_{2}", "E_1, E_2"),
        (r"\frac{1}{\sqrt{2}}c", r"\frac{c}{\sqrt{2}}"),
    ],
    "names": [("7", "x = 7"), ("x=7", "7"), ("2x", "f(x) = 2x"), ("y=2x+1", "y=1+2x"), ("5", "m + n = 5")],
    "sets": [(r"\{1,2\}", r"\{2,1\}"), ("1,2", "2, 1"), ("1,2", r"\{1,2\}"), ("1,2", r"x=1 \text{ or } x=2")],
    "tuples": [("(1,2)", "(1, 2)"), ("(1,2)", "1,2"), ("(1,8),(2,7)", "(2,7), (1,8)"), (r"(\frac12,3)", "(0.5,3)")],
    "plus-minus": [(r"1 \pm \sqrt{2}", r"1 - \sqrt{2}, 1 + \sqrt{2}")],
    "relations": [(r"x \le 3", r"(-\infty, 3]"), (r"(-\infty, 3]", r"x \le 3"), ("[0,1)", r"0 \le x < 1")],
    "bases": [("11_{8}", "11_8"), ("11", "11_{10}")],
    "matrices": [(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}")],
}
DIFFERENT = {
    "numbers": [("9.6", "9.59"), ("0.0000001", "0.0000003"), ("7", "2(5)"), ("5", "1e99999")],
    "variables": [(r"\frac{1}{n} t", r"\frac{1}{n}"), (r"3 \sqrt{2} m", r"3 \sqrt{2}")],
    "thirds": [(r"\frac{1}{3}", "0.333")],
    "percent": [("0.5", r"50\%"), (r"50\%", "0.5")],
    "units": [(r"5 \text{ cm}", r"5 \text{ m}"), (r"5 \text{ cm}^2", r"5 \text{ cm}"), (r"90^\circ", r"\frac{\pi}{2}")],
    "unevaluated": [("7", "6+1"), ("12", r"3 \times 4"), ("1023", "2^{10}-1")],
    "equations": [("5", "6=5"), ("5", "5=6"), ("7", "x=8")],
    "sets": [("69", "69, 84"), ("69, 84", "69"), ("5", r"5 \text{ or } 6")],
    "tuples": [("(1,2)", "(2,1)"), ("(1,2)", r"\{1,2\}"), ("(1,2)", "2,1"), ("(1,8),(2,7)", "(8,1),(2,7)")],
    "intervals": [("[0,1)", "(0,1)"), ("[0,1)", "[0,1]"), ("(0,1)", r"0 \le x < 1")],
    "bases": [("11_8", "11"), ("11", "11_8"), ("12_3", "12_4")],
    "text": [(r"\text{even}", r"\text{odd}"), ("A", "B")],
    "matrices": [(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}")],
}


def _pairs(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    return [pair for pairs in table.values() for pair in pairs]


@pytest.mark.parametrize(("gold", "answer"), _pairs(SAME))
def test_an_equivalent_answer_is_right(gold: str, answer: str) -> None:
    assert grade("math", [gold], answer)


@pytest.mark.parametrize(("gold", "answer"), _pairs(DIFFERENT))
def test_a_different_answer_is_wrong(gold: str, answer: str) -> None:
    assert not grade("math", [gold], answer)


@pytest.mark.parametrize("answer", ["25", "025", "25.0", "x = 25", r"\text{25}", "25.", r"25^\circ", "+25", "m+n=25"])
def test_integers_are_compared_by_value(answer: str) -> None:
    assert quick_grade("integer", ["025"], answer) is True


@pytest.mark.parametrize("answer", ["25.5", "-25", "2 5", "20+5", r"\frac{50}{2}", "25, 26", "", "9" * 1999, "1e99999"])
def test_text_that_is_no_integer_is_wrong_at_once(answer: str) -> None:
    assert quick_grade("integer", ["025"], answer) is False


@pytest.mark.parametrize(
    ("kind", "right"),
    [("minerva", True), ("math", False), ("olympiad", False), ("integer", False)],
)
def test_only_minerva_has_a_tolerance(kind: AnswerKind, right: bool) -> None:
    assert grade(kind, ["41.8"], "41.5") is right
    assert not grade(kind, ["41.8"], "41.3")


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("4.5e33", r"4.52 \times 10^{33}", True),
        ("0.3333", r"\frac{1}{3}", True),
        ("-1./3", r"-\frac{1}{3}", True),
        ("np.arcsin(10/13)", r"\arcsin(10/13)", True),
        ("0", "0.001", False),
        ("4.5e33", r"4.52 \times 10^{32}", False),
    ],
)
def test_minerva_numbers_are_compared_with_tolerance(gold: str, answer: str, right: bool) -> None:
    assert grade("minerva", [gold], answer) is right


def test_any_reference_answer_suffices() -> None:
    assert grade("minerva", ["0.003", r"0.003^{\prime \prime}"], r"0.003^{\prime\prime}")
    assert not grade("math", ["1", "2"], "3")


def test_an_extremely_long_answer_is_wrong_at_once() -> None:
    assert quick_grade("math", ["7"], "+".join(["1"] * LONGEST_ANSWER)) is False


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("aime24", "integer"),
        ("aime25", "integer"),
        ("amc83", "integer"),
        ("gsm8k_test", "integer"),
        ("math500", "math"),
        ("math_train_l3to5", "math"),
        ("minerva", "minerva"),
        ("olympiadbench", "olympiad"),
    ],
)
def test_every_reference_answer_is_right(file: str, kind: AnswerKind) -> None:
    golds = [json.loads(line)["answer"] for line in (DATA / f"{file}.jsonl").read_text().splitlines()]
    assert [gold for gold in golds if not grade(kind, [gold], gold)] == []


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_every_math_reference_answer_is_right_without_text_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """By math-verify and the rules of notation alone, each reference answer equals itself and not the next one."""
    from poise_git.pipeline.backends.verl import grading

    golds = [json.loads(line)["answer"] for line in (DATA / "math500.jsonl").read_text().splitlines()]
    texts = iter(range(1_000_000))
    monkeypatch.setattr(grading, "text_form", lambda _: next(texts))
    assert [gold for gold in golds if not grade("math", [gold], gold)] == []
    # Adjacent problems have the same answer by chance: a few small numbers.
    chance = sum(grade("math", [gold], other) for gold, other in pairwise(golds))
    assert chance <= 5
