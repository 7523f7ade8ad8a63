"""The editor of settings files changes the given fields, and no byte of any other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise_git.package_data import template_files
from poise_git.settings import PoiseSettings, load_settings
from poise_git.untrusted.yaml_editor import with_fields
from poise_git.untrusted.yaml_text import SETTINGS, BadYaml, parse

TEMPLATE = template_files()["poise.yaml"]
PROTOCOLS = {path: text for path, text in template_files().items() if path.startswith("protocols/")}


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ("protocol: testbed\n", "protocol: short\n", {("protocol",): "short"}),
        ('directive: ""\n', 'directive: "short: # please"\n', {("directive",): "short: # please"}),
        ("workers: null\n", "workers: 2\n", {("workers",): 2}),
        ("  metrics: {}\n", "  metrics: {overall: 1.0, mean_length: {weight: 0.3, scale: 1.0e-06}}\n",
         {("objective", "metrics"): {"overall": 1.0, "mean_length": {"weight": 0.3, "scale": 1e-6}}}),
        ("  constraints: []\n", "  constraints: [{metric: 'yes', at_least: root}]\n",
         {("objective", "constraints"): [{"metric": "yes", "at_least": "root"}]}),
        ("  exploration_share: null\n", "  exploration_share: 0.5\n", {("search", "exploration_share"): 0.5}),
        ("novelty: 0.2,", "novelty: 0.9,", {("search", "screening", "novelty"): 0.9}),
        ("  replay: null\n", "  replay: {folder: recordings, mode: record}\n",
         {("anthropic", "replay"): {"folder": "recordings", "mode": "record"}}),
    ],
)  # fmt: skip
def test_an_edit_keeps_the_rest_of_the_template(old: str, new: str, fields: dict[tuple[str, ...], Any]) -> None:
    assert TEMPLATE.count(old) == 1
    assert with_fields(TEMPLATE, fields) == TEMPLATE.replace(old, new)


@pytest.mark.parametrize("text", [TEMPLATE, *PROTOCOLS.values()], ids=["poise.yaml", *PROTOCOLS])
def test_setting_a_field_to_its_value_changes_nothing(text: str) -> None:
    data = parse(text, SETTINGS).data
    data.pop("description", None)
    own = {(name,): value for name, value in data.items() if not isinstance(value, dict | list)}
    nested = {(name, key): data[name][key] for name in data if isinstance(data[name], dict) for key in data[name]}
    plain = {path: value for path, value in nested.items() if not isinstance(value, dict | list)}
    assert with_fields(text, own | plain) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1 # one\nb: {c: 2, d: 3} # two\n", "a: 7 # one\nb: {c: [x, y], d: 3} # two\n"),
        ("b:\n  # about c\n  c:\n    - 1\n    - 2\n  # about d\n  d: 3\na: 1\n",
         "b:\n  # about c\n  c: [x, y]\n  # about d\n  d: 3\na: 7\n"),
        ("d: 3\n", "d: 3\na: 7\nb: {c: [x, y]}\n"),
        ("d:    3 # no end of line", "d:    3 # no end of line\na: 7\nb: {c: [x, y]}\n"),
        ("", "a: 7\nb: {c: [x, y]}\n"),
        ("# nothing but a comment\n", "# nothing but a comment\na: 7\nb: {c: [x, y]}\n"),
        ("b: {}\n\n# at the end\n", "b: {c: [x, y]}\n\n# at the end\na: 7\n"),
        ("a: 1\nb:\n  d: 3\n\n# about e\ne: 4\n", "a: 7\nb:\n  d: 3\n  c: [x, y]\n\n# about e\ne: 4\n"),
        ("a: 1\nb:\ne: ~\n", "a: 7\nb: {c: [x, y]}\ne: ~\n"),
        ("a: 1\r\nb:\r\n  c: 2 # two\r\n\r\n# end\r\n", "a: 7\r\nb:\r\n  c: [x, y] # two\r\n\r\n# end\r\n"),
        ("---\na:   1\nb: {c: 1}\ne:   [1,2]\n...\n", "---\na: 7\nb: {c: [x, y]}\ne:   [1,2]\n...\n"),
        ("---\ne:   [1,2]\n...\n", "---\ne:   [1,2]\na: 7\nb: {c: [x, y]}\n...\n"),
        ("{a: 1, b: {c: 2}} # flow\n", "{a: 7, b: {c: [x, y]}} # flow\n"),
        ("a: 1\nb:\n    d:\n      - 1\n      - e: 2\n    c: 1\n",
         "a: 7\nb:\n    d:\n      - 1\n      - e: 2\n    c: [x, y]\n"),
        ("a: 1\nb:\n  d: &x [1]\n  e: *x\n", "a: 7\nb:\n  d: &x [1]\n  e: *x\n  c: [x, y]\n"),
        ("a: '1'\nb:\n  c: 1 #\ttabs\t\n", "a: 7\nb:\n  c: [x, y] #\ttabs\t\n"),
    ],
)  # fmt: skip
def test_odd_texts_keep_their_form(text: str, expected: str) -> None:
    assert with_fields(text, {("a",): 7, ("b", "c"): ["x", "y"]}) == expected


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\na: 2\n", 2, "the key a occurs twice"),
        ("- 1\n", 1, "expected `field: value` lines"),
        ("a: [1\n", 2, "not YAML"),
        ("x: &x [1]\na: 1\nb: {c: *x}\n", 0, "edit the file by hand"),
        ("x: &x {c: 1}\nb: *x\na: 1\n", 0, "edit the file by hand"),
        ("b: &x {c: 1}\nx: *x\na: 1\n", 0, "edit the file by hand"),
        ("b:\tz\na:\t1\n", 0, "edit the file by hand"),
        ("x: " + "[" * 100 + "]" * 100 + "\n", 1, "not YAML"),
        ("x: 1\n" * 60_000, 0, "characters"),
        ("a0: &a0 []\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 20)), None, "not YAML"),
    ],
)  # fmt: skip
def test_an_impossible_edit_is_refused(text: str, line: int | None, what: str) -> None:
    with pytest.raises(BadYaml, match=what) as refused:
        with_fields(text, {("a",): 7, ("b", "c"): ["x", "y"]})
    assert line is None or refused.value.line == line
    assert "\n" not in refused.value.what


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | st.sampled_from(["yes", "1e3", "~", "="])
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:1 #", max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(plain, st.sampled_from([("a",), ("b", "c"), ("b", "new"), ("new", "new")]))
def test_any_plain_data_is_read_back(value: Any, path: tuple[str, ...]) -> None:
    found = parse(with_fields("a: 1 # one\nb:\n  # two\n  c: 2\n", {path: value}), SETTINGS).data
    for key in path:
        found = found[key]
    assert found == value


def test_edits_work_for_settings_of_any_shape() -> None:
    changed = with_fields(
        "protocol: tiny\n", {("directive",): 'say "short": # please', ("objective", "constraints"): []}
    )
    assert load_settings(changed, PoiseSettings, "poise.yaml").directive == 'say "short": # please'


@pytest.mark.parametrize(
    "text", ["{protocol: tiny, # the tiny one\n seed: 3}\n", "metrics: {a: 1, # mine\n b: 2}\nseed: [1, # one\n 2]\n"]
)
def test_an_edit_that_would_lose_a_comment_is_refused(text: str) -> None:
    with pytest.raises(BadYaml, match="cannot be set alone; edit the file by hand"):
        with_fields(text, {("seed",): 5})
