"""The texts of a recipe become modules, unchanged and without files."""

from __future__ import annotations

import sys

import pytest
import torch

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.answering import load_candidate
from poise_git.pipeline.boundary.in_process import InProcess
from poise_git.pipeline.boundary.loading import load
from poise_git.pipeline.boundary.opening import trusted_algorithm
from tests.pipeline.boundary.conftest import RECIPE, with_text


def recipe(algorithm: str, rollouts: str = "") -> dict[str, str]:
    return {"algorithm.py": algorithm, "rollouts.py": rollouts}


def test_the_other_module_is_imported_relatively() -> None:
    module = load(recipe("from .rollouts import VALUE\nfrom . import rollouts\n", "VALUE = [7]\n"))
    assert module.VALUE is module.rollouts.VALUE
    assert module.VALUE == [7]


def test_two_loads_share_nothing() -> None:
    text = recipe("from .rollouts import SEEN\n", "SEEN = []\n")
    first = load(text)
    first.SEEN.append(1)
    second = load(text)
    assert second.SEEN == []
    assert first.SEEN == [1]


def test_a_loaded_recipe_has_no_files() -> None:
    module = load(recipe("", ""))
    assert module.__file__ == "algorithm.py"
    with pytest.raises(ImportError, match="cannot import name 'settings'"):
        load(recipe("from . import settings\n"))
    with pytest.raises(ModuleNotFoundError):
        load(recipe("from .backends import anything\n"))


@pytest.mark.parametrize("cookie", ["raw_unicode_escape", "utf-7", "latin-1", "no-such-codec"])
def test_a_coding_cookie_has_no_effect(cookie: str) -> None:
    """The checked text is the executed text: in another encoding these comments would end in a line of code."""
    text = f"# coding: {cookie}\nX = 1  # ä \\u000aX = 2\nY = '\\u00e4ä'  # +AAo-X = 3\n"
    module = load(recipe(text))
    assert (module.X, module.Y) == (1, "ää")


def test_the_loader_passes_no_future_import_to_the_recipe() -> None:
    module = load(recipe("def f(x: 1 + 1): ...\n"))
    assert module.f.__annotations__ == {"x": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere\n", "importing recipe/algorithm.py raised ModuleNotFoundError: No module named 'nowhere'"),
        ("\n\nx = 1 / 0\n", "raised ZeroDivisionError: division by zero (algorithm.py line 3, in <module>: x = 1 / 0)"),
        ("raise SystemExit('now')\n", "importing recipe/algorithm.py raised SystemExit: now"),
        ("raise BaseException\n", "importing recipe/algorithm.py raised BaseException: "),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E\n", "E: an error that cannot be printed"),
        ("x = (\n", "importing recipe/algorithm.py raised SyntaxError: '(' was never closed"),
        ("x = '\0'\n", "importing recipe/algorithm.py raised"),
        ("x = '\ud800'\n", "importing recipe/algorithm.py raised UnicodeEncodeError"),
        (f"x = {'-' * 20_000}1\n", "importing recipe/algorithm.py raised"),
        (f"x = {'(' * 500}1{')' * 500}\n", "importing recipe/algorithm.py raised SyntaxError: too many nested paren"),
        ("compute_advantages = print\n", "recipe/algorithm.py defines no function policy_loss"),
        ("compute_advantages = policy_loss = 3\n", "recipe/algorithm.py defines no function compute_advantages"),
        ("raise ValueError('a\\nb\\x1b[2J\\u202e\\ud800')\n", "ValueError: a b\N{REPLACEMENT CHARACTER}[2J"),
    ],
)
def test_an_invalid_text_is_reported_in_one_line(text: str, said: str) -> None:
    with pytest.raises(CandidateFailed) as caught:
        load_candidate(recipe(text))
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_failure_quotes_the_line_of_its_own_recipe() -> None:
    rewards = torch.ones(2, 3)
    for name in ("first", "second"):
        text = f"def compute_advantages(*arguments, config):\n    return {name}\n"
        with pytest.raises(CandidateFailed) as caught:
            trusted_algorithm(with_text(text)).advantages(rewards, rewards, [0, 0])
        assert f"in compute_advantages: return {name})" in str(caught.value)


def test_the_template_loads() -> None:
    InProcess(RECIPE)
    assert sys.modules["poise_candidate.algorithm"].__package__ == "poise_candidate"


def test_a_trusted_candidate_ignores_another_default_device() -> None:
    text = "def compute_advantages(*given, config):\n    return torch.zeros(2, 3) + given[0], 0\n"
    rewards = torch.ones(2, 3)
    trusted = trusted_algorithm(with_text(text))
    torch.set_default_device("meta")
    try:
        assert torch.equal(trusted.advantages(rewards, rewards, [0, 0]), rewards)
    finally:
        torch.set_default_device(None)
