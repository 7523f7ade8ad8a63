from __future__ import annotations

import json
from typing import Any

import pytest

from poise_git.archive.documents import dump_reflection, dump_tables, dump_yaml, load_reflection
from poise_git.archive.entries import Reflection
from poise_git.archive.facts import ReflectionFacts

# As an earlier version wrote it, with a row of the table as it stood then.
EARLIER: dict[str, Any] = {
    "verdict": "better",
    "parent": "grpo",
    "seeds": 4,
    "against_parent": {"utility": {"value": 0.23, "difference": 0.03, "se": None, "direction": "up"}},
    "against_root": {},
    "claims": [{"statement": "Utility rises.", "verdict": "held", "because": "utility +0.03"}],
    "violations": [],
    "warnings": [],
    "focus": ["entropy"],
    "next": ["Keep it."],
}
ANYTHING = (None, True, float("nan"), -3, 2**80, "words", "5", [], [None, "a"], [[1]], {}, {"a": 1}, {"a": {"b": []}})


def test_facts_of_earlier_versions_are_printed_unchanged() -> None:
    for data in (EARLIER, {"verdict": "root"}, {}, {**EARLIER, "reviewed": {"by": "me"}, "diagnosis": "by rules: x"}):
        assert json.loads(json.dumps(ReflectionFacts.from_data(data).to_data())) == data


def test_every_field_is_an_attribute() -> None:
    facts = ReflectionFacts.from_data(EARLIER)
    assert facts.utility_change is facts.against_parent["utility"]
    assert (facts.utility_change.difference, facts.utility_change.se) == (0.03, None)
    assert (facts.seeds, facts.focus, facts.next) == (4, ("entropy",), ("Keep it.",))
    assert [(claim.statement, claim.verdict) for claim in facts.claims] == [("Utility rises.", "held")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verdict", ["better"]),
        ("seeds", "many"),
        ("seeds", 2.5),
        ("against_parent", [1]),
        ("against_parent", {"utility": {"difference": "much"}}),
        ("against_parent", {"utility": None}),
        ("claims", "held"),
        ("claims", [1]),
        ("focus", "entropy"),
        ("next", None),
    ],
)
def test_a_field_of_another_form_counts_as_missing(name: str, value: object) -> None:
    facts = ReflectionFacts.from_data({**EARLIER, name: value})
    assert getattr(facts, name) == ReflectionFacts.model_fields[name].default
    assert facts.parent == "grpo"
    assert Reflection(facts, "").facts.utility_change is None or name != "against_parent"


def test_one_broken_row_does_not_affect_the_others() -> None:
    table = {"utility": {"difference": 0.1}, "entropy": {"direction": "up"}, "length": 3}
    facts = ReflectionFacts.from_data({"against_parent": table, "next": ["Wait.", 4, True]})
    assert list(facts.against_parent) == ["utility"]
    assert facts.next == ("Wait.", "4", "True")


@pytest.mark.parametrize("name", [*EARLIER, "of mine"])
@pytest.mark.parametrize("value", ANYTHING, ids=repr)
def test_any_value_is_read_and_written_back(name: str, value: object) -> None:
    facts = ReflectionFacts.from_data({**EARLIER, name: value})
    reflection = Reflection(facts, "")
    read = load_reflection(dump_reflection(reflection), "r.md", dump_tables(reflection) or None, "e.yaml")
    assert dump_yaml(read.facts.to_data()) == dump_yaml(facts.to_data())


def test_names_and_texts_with_lone_surrogates_are_read() -> None:
    half = "a\ud800"
    row = {"difference": 0.1, half: 1}
    data = {half: half, "verdict": half, "against_parent": {half: {"difference": 0.1}, "b": row}, "claims": [{half: 1}]}
    reflection = Reflection(ReflectionFacts.from_data(data), "")
    assert reflection.facts.to_data()["a\\ud800"] == half
    read = load_reflection(dump_reflection(reflection), "r.md", dump_tables(reflection), "e.yaml")
    assert read.facts.verdict == "a\\ud800"


def test_an_agent_adds_text_and_changes_no_figure() -> None:
    facts = ReflectionFacts.from_data({name: EARLIER[name] for name in ("verdict", "seeds", "against_parent")})
    said = facts.advising(["entropy"], ["Keep it."]).doubting(["0.5"]).by_rules("refusal")
    words = {"focus": ("entropy",), "next": ("Keep it.",), "unsupported_numbers": ("0.5",)}
    assert said.to_data() == {**facts.to_data(), **words, "diagnosis": "by rules: refusal"}
