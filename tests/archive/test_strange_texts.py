"""Limits of YAML and entries; hidden characters are made visible."""

from __future__ import annotations

import json
import re
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.archive.documents import load_field, load_yaml
from poise_git.archive.entries import Call, Metrics, Proposal
from poise_git.errors import ArchiveError, SettingsError
from poise_git.settings import PoiseSettings, StrictModel, load_settings
from poise_git.untrusted.data import read_entry
from poise_git.untrusted.display import json_text, one_line, visible
from poise_git.untrusted.yaml_text import BadYaml, Limits, parse
from tests import sentences

from .conftest import make_proposal

ALIASES = "a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: &b [1, *b]", 2, sentences.ALIAS_LOOP),
        ("a: *b", 1, "no such anchor"),
        ("x:\n  a: 1\n  a: 2", 3, sentences.KEY_TWICE.format(key="a")),
        ("x: {a: 1, 'a': 2}", 1, sentences.KEY_TWICE.format(key="a")),
        ("a: {1: 2}", 1, "not text"),
        ("a: {on: 2}", 1, "not text"),
        ("? [a]\n: 1", 1, "a key must be a word"),
        ("a: !!binary aGVsbG8=", 1, f"!!binary {sentences.TAG_NOT_ALLOWED}"),
        ("a: !!set {b}", 1, sentences.TAG_NOT_ALLOWED),
        ("a: !!python/name:os.system x", 1, sentences.TAG_NOT_ALLOWED),
        ("a: " + "9" * 65, 1, "number of more than 64"),
        ("a: !!int " + "1:" * 5000 + "1", 1, "number of more than 64"),
        ("a:\n  b: !!float", 2, "'' is not a valid float"),
        ("a: !!int", 1, "'' is not a valid int"),
        ("a: !!int '-'", 1, "'-' is not a valid int"),
        ("a: !!int 2.5", 1, "'2.5' is not a valid int"),
        ("a: !!bool 1", 1, "'1' is not a valid bool"),
        ("a: !!null x", 1, "'x' is not a valid null"),
        ("a: 1.0e+400", 1, sentences.NUMBER_TOO_LARGE),
        ("a: 1\n--- b", 2, "second document"),
        ("a:\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1, 80)), 65, "64 deep"),
        ("a: \x07", 1, "control characters"),
        ("a: [", 2, "not YAML"),
    ],
)
def test_refused_yaml_is_reported_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(BadYaml, match=re.escape(said)) as caught:
        parse(text)
    assert caught.value.line == line
    with pytest.raises(ArchiveError, match=rf"^a\.yaml:{line}: "):
        load_yaml(text, "a.yaml")
    with pytest.raises(SettingsError, match=rf"^poise\.yaml:{line}: "):
        load_settings(text, PoiseSettings, "poise.yaml")


def test_the_expanded_size_of_aliases_counts() -> None:
    """The document has 16 visible values, and 21 when its aliases are expanded."""
    with pytest.raises(BadYaml, match="more than 20 values"):
        parse(ALIASES, Limits(1000, 20))
    assert parse(ALIASES, Limits(1000, 30)).data["c"] == [[[1, 2], [1, 2]], [[1, 2], [1, 2]]]


def test_merged_fields_count_and_are_overridden() -> None:
    text = "a: &a {b: 1, c: 2}\nd:\n  <<: *a\n  c: 3\n"
    assert parse(text).data["d"] == {"b": 1, "c": 3}
    many = "a: &a {b: 1}\n" + "\n".join(f"c{n}: {{<<: [{', '.join(['*a'] * 3000)}]}}" for n in range(400))
    started = time.process_time()
    with pytest.raises(BadYaml, match="values"):
        parse(many)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", "010"), ("1:30", "1:30"), ("2024-13-45", "2024-13-45"), ("2024-01-01", "2024-01-01"), ("=", "="),
     ("0x10", 16),
     ("1_000", 1000), ("0", 0), ("-7", -7), ("0.5", 0.5), (".inf", float("inf")), ("yes", True), ("~", None)],
)  # fmt: skip
def test_scalars_keep_their_apparent_type(text: str, value: object) -> None:
    assert parse(f"a: {text}").data == {"a": value}


class Example(StrictModel):
    count: int = 0
    counts: tuple[int, ...] = ()
    shares: dict[str, float] = {}
    flag: bool = False


@pytest.mark.parametrize(
    "text",
    [
        *("count: true", "count: 010", "count: 1.5", "count: [1]", "counts: [1, 1:30]", "counts: [1, true]"),
        *("shares: {a: true}", "shares: {a: .nan}", "shares: {a: .inf}"),
    ],
)
def test_a_number_is_not_guessed(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^a\.yaml:1: (count|shares)"):
        load_settings(text, Example, "a.yaml")


def test_ordinary_numbers_are_read() -> None:
    found = load_settings(
        "count: 12\ncounts: [-1, 0x10, 1_000]\nshares: {a: 1e-3, b: 1}\nflag: yes\n", Example, "a.yaml"
    )
    assert found == Example(count=12, counts=(-1, 16, 1000), shares={"a": 0.001, "b": 1.0}, flag=True)


def test_a_single_field_is_read() -> None:
    assert load_field("a: 1\nslots:\n- b\nc: 2\n", "slots", "x") == ["b"]
    assert load_field("slots : 1\n", "slots", "x") is None


@pytest.mark.parametrize(
    "change",
    [{"knobs": {"a": "b"}}, {"knobs": [1]}, {"claims": 5}, {"claims": [{}]}, {"claims": [[1]]}, {"name": [1]},
     {"plan": "x"},
     {"second_parent": {}}, {"direction": [1]}, {"priors": "x"}, {"priors": {"a": 1}}, {"mechanism": None}],
)  # fmt: skip
def test_a_proposal_with_wrong_types_is_an_error_of_one_line(change: dict[str, object]) -> None:
    with pytest.raises(ArchiveError, match=r"^evidence/x/proposal\.yaml: ") as caught:
        read_entry(Proposal.from_data, make_proposal("x").to_data() | change, "evidence/x/proposal.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "x", 5, {}, {"status": "x", "protocol": "p"}, {"status": "failed"},
                                  {"status": "evaluated", "protocol": "p", "utility": {"value": "a", "se": 1, "n": 1}},
                                  {"status": "evaluated", "protocol": "p", "usd": -5.0}])  # fmt: skip
def test_metrics_with_wrong_types_are_an_error_of_one_line(data: object) -> None:
    with pytest.raises(ArchiveError, match=r"^metrics\.yaml: "):
        read_entry(Metrics.from_data, data, "metrics.yaml")


def test_a_call_with_negative_cost_is_refused() -> None:
    call = Call("k", "o", "s", "m", "p", 1, 2, 3, 4, 0.5, 1.5, "ok")
    assert Call.from_data(call.to_data()) == call
    for field, value in (("usd", -1.0), ("usd", float("nan")), ("input_tokens", -1)):
        with pytest.raises(ValueError, match=field):
            Call.from_data(call.to_data() | {field: value})


def test_empty_fields_have_their_defaults() -> None:
    found = Proposal.from_data(make_proposal("x").to_data() | {"knobs": None, "claims": None, "priors": None})
    assert (found.knobs, found.claims, found.priors) == ({}, (), ())


@given(st.text())
def test_visible_text_contains_no_hidden_characters(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert not {unicodedata.category(each) for each in shown if each not in "\n\t"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert json.loads(json_text(text)) == text
    assert visible(json_text(text)) == json_text(text)
    assert len(one_line(text).splitlines()) <= 1


def test_every_invisible_character_is_made_visible() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\n\t":
            assert visible(character).isascii(), hex(code)
    for character in "\u3164\u115f\ufe0f\U000e0100\u034f\u2800":
        assert visible(character).startswith("\\")
    assert visible("Grüße, 漢字, κ = ½ ± → 🙂\t\n") == "Grüße, 漢字, κ = ½ ± → 🙂\t\n"
    assert visible("a\r\nb\x1b[0m\u202e\U000e0041") == "a\nb\\x1b[0m\\u202e\\U000e0041"
