from __future__ import annotations

import ast
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.agents.anthropic.editing import edited
from poise_git.agents.anthropic.replies import CodeAnswer, Replacement
from poise_git.errors import CheckFailed
from poise_git.package_data import template_files
from tests import sentences

ROOT = template_files()["recipe/algorithm.py"]
SCALE = """def scale(signal: Tensor, rollouts: Rollouts, power: float = 1.0) -> Tensor:
    return _spread(signal, rollouts) ** power
"""
SPREAD = """def _spread(signal, rollouts):
    return rollouts.group_std(signal) + 1e-6
"""


def test_a_stage_is_replaced_and_a_helper_added() -> None:
    text = edited(ROOT, CodeAnswer(functions=[SCALE, SPREAD]))
    tree = ast.parse(text)
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    before = [node.name for node in ast.parse(ROOT).body if isinstance(node, ast.FunctionDef)]
    assert names == ["_spread", *before]
    assert "power: float = 1.0" in text
    assert text.count("def scale") == 1
    untouched = [name for name in before if name != "scale"]
    for name in untouched:
        assert _function(text, name) == _function(ROOT, name)


def test_a_passage_is_replaced_in_place() -> None:
    text = edited(ROOT, CodeAnswer(patch=[Replacement(old="clip_high: float = 0.2", new="clip_high: float = 0.28")]))
    assert text == ROOT.replace("clip_high: float = 0.2", "clip_high: float = 0.28")


def test_names_from_rollouts_are_imported() -> None:
    body = (
        "def regularizer(old_log_prob, log_prob, response_mask):\n    return response_mean(log_prob, response_mask)\n"
    )
    assert "response_mean" in edited(ROOT, CodeAnswer(functions=[body])).split("import Rollouts")[1].split("\n")[0]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (CodeAnswer(), sentences.EMPTY_EDIT),
        (CodeAnswer(functions=["x = 1\n"]), "exactly one top-level function"),
        (CodeAnswer(functions=[SCALE + SPREAD]), "exactly one top-level function"),
        (CodeAnswer(functions=["def scale(:\n"]), "does not parse"),
        (CodeAnswer(functions=["def policy_loss():\n    return 0\n"]), "policy_loss is the contract"),
        (CodeAnswer(patch=[Replacement(old="return advantages", new="return 0")]), "times in the text, not once"),
        (CodeAnswer(patch=[Replacement(old="nowhere", new="")]), "occurs 0 times"),
        (
            CodeAnswer(patch=[Replacement(old="import torch\n", new="import torch\n")]),
            "times in the text|the text is unchanged",
        ),
        (CodeAnswer(patch=[Replacement(old="def policy_loss(", new="def loss(")]), "policy_loss is the contract"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_the_reason(answer: CodeAnswer, reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason) as caught:
        edited(ROOT, answer)
    assert caught.value.check == "implement"


@given(st.lists(st.text(max_size=60), max_size=3), st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text())))
def test_any_answer_is_applied_or_fails_the_check(functions: list[str], patch: list[tuple[str, str]]) -> None:
    answer = CodeAnswer(functions=functions, patch=[Replacement(old=old, new=new) for old, new in patch])
    with suppress(CheckFailed):
        assert edited(ROOT, answer) != ROOT


def _function(text: str, name: str) -> str:
    return next(
        ast.dump(node) for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name
    )


@pytest.mark.parametrize("unseen", ["\u202e", "\x0c", "\x1b[2J"])
def test_an_invisible_character_can_be_repaired(unseen: str) -> None:
    source = ROOT.replace("# Loss: computed", f"# Loss: {unseen}computed")
    with pytest.raises(CheckFailed, match=r"does not parse: line \d+: "):
        edited(source, CodeAnswer(functions=[SCALE, SPREAD]))
    patch = [Replacement(old=f"# Loss: {unseen}computed", new="# Loss: computed")]
    assert edited(source, CodeAnswer(patch=patch)) == ROOT
