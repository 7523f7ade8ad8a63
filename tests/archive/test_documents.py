from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from poise_git.archive.documents import _Dumper, dump_reflection, dump_tables, dump_yaml, load_reflection, load_yaml
from poise_git.archive.entries import Claim, Metrics, Proposal, Reflection
from poise_git.archive.facts import ReflectionFacts
from poise_git.errors import ArchiveError
from poise_git.untrusted.display import visible

from .conftest import make_metrics, make_proposal

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200) | st.lists(
    st.sampled_from(["---", "", " indented", "- item", "key: value", "tab\t", "# x", "end "]), max_size=6
).map("\n".join)
NUMBER = st.floats(allow_nan=False) | st.integers()
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, PLAIN, max_size=4))
def test_plain_data_is_read_back(data: dict[str, object]) -> None:
    assert load_yaml(dump_yaml(data), "x.yaml") == data


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200), max_size=4), NUMBER)
def test_both_emitters_write_plain_words_and_numbers_alike(texts: list[str], number: float) -> None:
    data = {"texts": texts, "tables": [{text: number} for text in texts]}
    assert dump_yaml(data) == yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


@given(st.dictionaries(TEXT, PLAIN, max_size=3), TEXT)
@example({"last": "a block\n"}, "")
def test_a_reflection_is_read_back(facts: dict[str, object], prose: str) -> None:
    found = load_reflection(dump_reflection(Reflection(ReflectionFacts.from_data(facts), prose)), "reflection.md")
    # Invisible characters are written visibly.
    assert found == Reflection(ReflectionFacts.from_data(facts), visible(prose))


@given(name=TEXT, hypothesis=TEXT, statement=TEXT, plan=st.dictionaries(TEXT, PLAIN, max_size=2))
def test_a_proposal_is_read_back(name: str, hypothesis: str, statement: str, plan: dict[str, object]) -> None:
    proposal = make_proposal(
        name, hypothesis=hypothesis, plan=plan, claims=(Claim(statement, "sign", {"a": [1, 2]}),), knobs={"k": 0.1},
        priors=("one",), second_parent="y",
    )  # fmt: skip
    assert Proposal.from_data(load_yaml(dump_yaml(proposal.to_data()), "proposal.yaml")) == proposal


def test_metrics_are_read_back_with_their_details() -> None:
    assert Metrics.from_data(load_yaml(dump_yaml(make_metrics().to_data()), "metrics.yaml")) == make_metrics()


def test_prose_of_several_lines_is_a_block_that_diffs_as_text() -> None:
    assert dump_yaml({"hypothesis": "one\ntwo"}) == "hypothesis: |-\n  one\n  two\n"


@pytest.mark.parametrize("text", ["- a list", "a: [", "just text", "", "a: !!python/object:os.system x"])
def test_a_document_that_is_not_a_mapping_is_refused_with_its_file_name(text: str) -> None:
    with pytest.raises(ArchiveError, match=r"^rounds/0001\.yaml:") as caught:
        load_yaml(text, "rounds/0001.yaml")
    assert "\n" not in str(caught.value)


def test_a_reflection_without_front_matter_is_refused() -> None:
    with pytest.raises(ArchiveError, match="front matter"):
        load_reflection("just prose\n", "reflection.md")


def test_a_reflection_has_prose_and_keeps_tables_in_another_file() -> None:
    """The current form in a round trip, and the earlier form with everything in the front matter."""
    table = {"utility": {"value": 0.2, "difference": 0.1, "se": None, "direction": "up"}}
    facts = {"verdict": "better", "against_parent": table, "claims": [], "against_root": {}, "next": ["more"]}
    reflection = Reflection(ReflectionFacts.from_data(facts), "It helped.")
    text, tables = dump_reflection(reflection), dump_tables(reflection)
    assert text.split("---\n")[1].splitlines() == ["verdict: better", "claims: []", "next:", "- more"]
    assert load_reflection(text, "reflection.md", tables, "evidence.yaml") == reflection
    assert load_reflection(f"---\n{dump_yaml(facts)}---\n\nIt helped.\n", "reflection.md") == reflection
    with pytest.raises(ArchiveError, match=r"^evidence.yaml:1: "):
        load_reflection(text, "reflection.md", "[]", "evidence.yaml")


def test_a_reflection_without_tables_has_no_file_for_them() -> None:
    assert dump_tables(Reflection(ReflectionFacts.from_data({"verdict": "root"}), "The root.")) == ""
