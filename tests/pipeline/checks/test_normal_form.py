"""Invariants of the normal form:

N1  No disguise changes it: names, order, layout, intermediate variables, helpers, dead code.
N2  Every change of a used number, operator, call or default of a knob changes it.
N3  It is a pure function of the text and never raises.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.agents.library.mechanisms import install
from poise_git.pipeline.checks.normal_form import normal_form, same_algorithm
from tests.agents.library.support import coded_cards, root_text
from tests.pipeline.checks.disguise import DISGUISES, changes

POINTS = """
def policy_loss(a, b, c=2.0):
    return a * b * c
"""


@cache
def algorithms() -> dict[str, str]:
    return {"grpo": root_text(), **{card.name: install(root_text(), card) for card in coded_cards()}}


def entry(parameters: str, *body: str) -> str:
    """A function `compute_advantages`."""
    return "\n    ".join([f"def compute_advantages({parameters}):", *body])


def form(body: str) -> str:
    """The form of an algorithm whose one entry point is `body`."""
    return normal_form(body + POINTS)


@pytest.mark.slow
@given(name=st.sampled_from(sorted(algorithms())), seed=st.integers(0, 2**32), data=st.data())
def test_no_disguise_changes_the_normal_form(name: str, seed: int, data: st.DataObject) -> None:
    text, rng = algorithms()[name], random.Random(seed)
    for disguise in data.draw(st.permutations(DISGUISES)):
        disguised = disguise(text, rng)
        assert normal_form(disguised) == normal_form(text), disguise.__name__
        text = disguised
    assert text != algorithms()[name]


def test_shipped_algorithms_are_all_different() -> None:
    assert len({normal_form(text) for text in algorithms().values()}) == len(algorithms())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "length-gate", "analytic-variance", "decoupled-streams", "soft-gate"])
def test_every_real_change_changes_the_normal_form(name: str) -> None:
    text = algorithms()[name]
    own = normal_form(text)
    same = [what for what, changed in changes(text) if normal_form(changed) == own]
    assert same == []


@pytest.mark.slow
@pytest.mark.parametrize("disguise", DISGUISES)
def test_every_shipped_algorithm_is_recognized_in_every_disguise(disguise: Callable[[str, random.Random], str]) -> None:
    """So they are evaluated, not only compared by their trees."""
    for name, text in algorithms().items():
        for seed in range(3):
            assert normal_form(disguise(text, random.Random(seed))) == normal_form(text), (name, seed)


POWER = "def f(x, k={}):\n    return x ** k\n"
TORCH, FUNCTIONAL = "import torch\n", "import torch.nn.functional as F\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (entry("a, b", "c = a + b", "return c * 2"), entry("x, y", "return 2.0 * (y + x)")),
        (entry("a", "return a > 1 - 0.5"), entry("a", "return 0.5 < a")),
        (
            FUNCTIONAL + entry("a", "return F.softplus(a, beta=2, threshold=3)"),
            TORCH + entry("z", "return torch.nn.functional.softplus(z, threshold=3, beta=2)"),
        ),
        (
            entry("a", "if a > 1:", "    b = a", "else:", "    b = 2", "return b"),
            entry("q", "if q > 1:", "    z = q", "else:", "    z = 2", "return z"),
        ),
        (
            entry("a", "s = 0", "for i in a:", "    s = s + i", "return s"),
            entry("b", "total = 0", "for each in b:", "    total = each + total", "return total"),
        ),
        (
            "LIMIT = 3\n" + entry("a", "return [x for x in a if x < LIMIT]"),
            entry("a", "return [y for y in a if y < 3]"),
        ),
        (entry("a, b", "a, b = b, a", "return a - b"), entry("a, b", "return b - a")),
        (POWER.format(2) + entry("a", "return f(a)"), entry("a", "return a ** 2")),
        (
            "def f(x):\n    return x + 1, x - 1\n" + entry("a", "b, c = f(a)", "return b * c"),
            entry("a", "pair = a + 1, a - 1", "up, down = pair", "return down * up"),
        ),
        (POWER.format(3) + entry("a", "return f(k=2, x=a)"), entry("a", "return a ** 2")),
    ],
)
def test_equivalent_code_has_the_same_normal_form(one: str, other: str) -> None:
    assert form(one) == form(other)


LOOPS = ("i = 0", "j = 0", "for x in a:", "    i = i + 1", "    for y in x:")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (entry("a, b", "return a - b"), entry("a, b", "return b - a")),
        (entry("a", "a += 1", "return a"), entry("a", "a = a + 1", "return a")),
        (entry("a", "b = a * 2", "a.add_(1)", "return b"), entry("a", "a.add_(1)", "b = a * 2", "return b")),
        (entry("a", "a[0] = 1", "return a"), entry("a", "return a")),
        (POWER.format(2) + entry("a", "return f(a)"), POWER.format(3) + entry("a", "return f(a)")),
        (
            entry("a", "if a > 1:", "    return 1", "return 2"),
            entry("a", "if a > 1:", "    return 2", "return 1"),
        ),
        (entry("a", "return [[x * y for y in a] for x in a]"), entry("a", "return [[y * y for y in a] for x in a]")),
        (entry("a", *LOOPS, "        j = j + i", "return j"), entry("a", *LOOPS, "        j = j + j", "return j")),
        (
            TORCH + entry("a", "with torch.no_grad():", "    b = a + 1", "return b"),
            TORCH + entry("a", "b = a + 1", "return b"),
        ),
        (entry("a", "return [1] + [a]"), entry("a", "return [a] + [1]")),
        (entry("a, b=1", "return a"), entry("a, b=2", "return a")),
    ],
)
def test_different_computations_have_different_normal_forms(one: str, other: str) -> None:
    assert form(one) != form(other)


@pytest.mark.parametrize(
    "text",
    [
        "def broken(:",
        "",
        "x = 1",
        entry("a", "return compute_advantages(a)") + POINTS,
        "class A:\n    pass\n" + entry("a", "return A()") + POINTS,
        entry("a", "try:", "    return a", "except ValueError:", "    return 0") + POINTS,
        entry("a", "return " + "(" * 150 + "a" + ")" * 150) + POINTS,
        entry("a", "return a" + " + a" * 3000) + POINTS,
        entry("a", "return a - " + "9" * 400) + POINTS,
        entry("a", "return 1e308 * 10 - 1 / 0") + POINTS,
        "\0",
        "x = '\ud800'",
    ],
)
def test_normal_form_never_raises(text: str) -> None:
    assert normal_form(text) == normal_form(text)
    assert not same_algorithm(text, root_text())


def test_growth_is_bounded() -> None:
    """Each helper calls the previous one twice, which would be 2^38 steps in a full evaluation."""
    helpers = "def f0(x):\n    return x\n"
    helpers += "".join(f"def f{n}(x):\n    return f{n - 1}(x) + f{n - 1}(x)\n" for n in range(1, 39))
    assert form(helpers + "def compute_advantages(a):\n    return f38(a)")


@given(st.text(max_size=200))
def test_any_text_has_a_normal_form(text: str) -> None:
    assert len(normal_form(text)) == 32
