"""The one way from a text to a syntax tree: refused texts, and no accepted text exhausts the parser or a walk."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.agents.anthropic.editing import edited
from poise_git.agents.anthropic.replies import CodeAnswer, Replacement
from poise_git.agents.library.mechanisms import install, mechanisms
from poise_git.agents.library.provenance import composed_of_shipped_cards
from poise_git.archive.initialize import root_proposal
from poise_git.archive.messages import parse_candidate
from poise_git.errors import CheckFailed, SettingsError
from poise_git.pipeline.checks import normal_form
from poise_git.pipeline.checks.message import message_problems
from poise_git.pipeline.checks.runner import check_text
from poise_git.search.context.item_text import change_text
from poise_git.search.literature import Edit, load_card
from poise_git.untrusted import source_text
from poise_git.untrusted.source_text import DEPTH_LIMIT, SourceRefused, lines, parse, read
from tests.agents.library.support import card, cards, coded_cards, root_text
from tests.search.test_literature import MINIMAL

# Characters that end a line for some readers but not for Python's parser.
ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
HEAD = "def f(x):\n    return "
# Repeated often enough, each of these exhausts a parser or a walk.
DEEP: dict[str, Callable[[int], str]] = {
    "minus": lambda n: HEAD + "-" * n + "x",
    "minus on lines": lambda n: HEAD + "(" + "-\n" * n + "x)",
    "not": lambda n: HEAD + "not " * n + "x",
    "attributes": lambda n: HEAD + "x" + ".a" * n,
    "attributes on lines": lambda n: HEAD + "(x" + "\n.a" * n + ")",
    "decorator": lambda n: "@torch" + ".a" * n + "\n" + HEAD + "x",
    "calls": lambda n: HEAD + "x" + "()" * n,
    "subscripts": lambda n: HEAD + "x" + "[0]" * n,
    "sum": lambda n: HEAD + "x" + " + x" * n,
    "sum on lines": lambda n: HEAD + "(x" + "\n+ x" * n + ")",
    "power": lambda n: HEAD + "x ** " * n + "x",
    "conditions": lambda n: HEAD + "x if x else " * n + "x",
    "lambdas": lambda n: HEAD + "lambda: " * n + "x",
    "brackets": lambda n: HEAD + "(" * n + "x" + ")" * n,
    "lists": lambda n: HEAD + "[" * n + "]" * n,
    "open brackets": lambda n: HEAD + "(" * n,
    "dictionaries": lambda n: HEAD + "{0:" * n + "x" + "}" * n,
    "walrus": lambda n: HEAD + "(x := " * n + "x" + ")" * n,
    "comprehensions": lambda n: HEAD + "[x for x in " * n + "x" + "]" * n,
    "formatted": lambda n: HEAD + "f'{" + "-" * n + "x}'",
    "formatted brackets": lambda n: HEAD + "f'{" + "(" * n + "x" + ")" * n + "}'",
    "specifications": lambda n: HEAD + "f'{x:" + "{x:" * n + "}" * n + "}'",
    "elif": lambda n: "if x:\n pass\n" + "elif x:\n pass\n" * n,
    "if": lambda n: "".join(" " * i + "if x:\n" for i in range(min(n, 900))) + " " * min(n, 900) + "pass",
    "else": lambda n: (
        "".join(" " * i + "if x: pass\n" + " " * i + "else:\n" for i in range(min(n, 900))) + " " * min(n, 900) + "pass"
    ),
    "functions": lambda n: "".join(" " * i + "def f():\n" for i in range(min(n, 900))) + " " * min(n, 900) + "pass",
    "comparisons": lambda n: HEAD + "x" + " < x" * n,
    "texts": lambda n: HEAD + "'a' " * n,
    "number": lambda n: HEAD + "9" * n,
    "hexadecimal": lambda n: HEAD + "0x" + "f" * n,
    "underscores": lambda n: HEAD + "1" + "_1" * n,
    "targets": lambda n: "x = " * n + "1",
    "arguments": lambda n: "def f(" + "x, " * n + "): pass",
    "default": lambda n: "def f(a=" + "-" * n + "1): pass",
    "annotation": lambda n: "def f(a: " + "x[" * n + "x" + "]" * n + "): pass",
    "statements": lambda n: "x = 1; " * n,
    "quotes": lambda n: HEAD + "\"'" * n,
    "backslashes": lambda n: HEAD + "\\\n" * n + "x",
    "strings": lambda n: "'''" + "a\n" * n,
    "slices": lambda n: HEAD + "x[" + "x[0:" * n + "0" + "]" * n + "]",
    "stars": lambda n: HEAD + "f(" + "*f(" * n + ")" * n + ")",
    "await": lambda n: "async " + HEAD + "await " * n + "x",
    "match": lambda n: "match x:\n case " + "[" * n + "]" * n + ": pass",
}
COUNTS = (3, 8, 20, 28, 45, 60, 90, 199, 330, 900, 3000, 20_000)


def taken(text: str) -> tuple[ast.Module | None, SourceRefused | None]:
    try:
        return parse(text), None
    except SourceRefused as refusal:
        return None, refusal


def walks(text: str) -> Iterator[str]:
    """Every function that walks the tree of a text; yields the message if it refuses."""
    message_problems(parse_candidate("algorithm(x): y\n\nKnobs:\n- f.a = 1\n"), text)
    normal_form(text)
    check_text({"algorithm.py": text}, {})
    root_proposal(text)
    change_text(root_text(), text)
    composed_of_shipped_cards([root_text(), text])
    steps: tuple[Callable[[], Any], ...] = (
        lambda: mechanisms(text, cards()),
        lambda: install(text, card("cispo")),
        lambda: install(root_text(), card("cispo").model_copy(update={"edits": (_edit(text),)})),
        lambda: edited(root_text(), CodeAnswer(functions=[text])),
        lambda: edited(root_text(), CodeAnswer(patch=[Replacement(old="import torch\n", new=text)])),
        lambda: edited(text, CodeAnswer(functions=["def f(x):\n    return 2\n"])),
    )
    for step in steps:
        try:
            step()
        except CheckFailed as failure:
            yield str(failure)


def _edit(text: str) -> Edit:
    return Edit.model_construct(stage="token_objective", replace=text, add=None, set=None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEEP)
def test_nothing_exhausts_the_parser_or_a_walk(kind: str) -> None:
    passed = []
    for count in COUNTS:
        text = DEEP[kind](count)
        tree, refusal = taken(text)
        if refusal is not None:
            assert "\n" not in str(refusal)
            assert str(refusal).startswith("line ") or refusal.check == "size"
        if tree is not None:
            passed.append(count)
            ast.unparse(tree)
            ast.dump(tree)
        assert all("\n" not in said and len(said) < 600 for said in walks(text))
    # A statement without nesting may have any number of lines.
    assert len(passed) < len(COUNTS) or kind == "backslashes"


def test_the_deepest_tree_can_be_walked_from_a_deep_stack() -> None:
    """The caller may use half of Python's stack."""
    texts = [text for make in DEEP.values() for count in range(1, 60, 3) if taken(text := make(count))[0]]

    def at(depth: int, work: Callable[[], Any]) -> Any:
        return at(depth - 1, work) if depth else work()

    assert len(texts) > 100
    for text in texts:
        tree = parse(text)
        for walk in (ast.unparse, ast.dump):
            at(sys.getrecursionlimit() // 2, partial(walk, tree))
        at(sys.getrecursionlimit() // 4, partial(normal_form, text))


def test_shipped_code_is_far_from_every_limit() -> None:
    for each in coded_cards():
        tree, depth = parse(install(root_text(), each)), 0
        level: list[ast.AST] = [tree]
        while level:
            level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
        assert depth * 2 < DEPTH_LIMIT


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("place", ["before", "within", "after", "in a text"])
def test_only_the_line_feed_ends_a_line(end: str, place: str) -> None:
    """Each of these shifted an edit by lines: `str.splitlines` counts them, the parser does not."""
    text = {
        "before": end + root_text(),
        "within": root_text().replace("\n\n\ndef", f"\n{end}#\n\ndef"),
        "after": root_text() + end,
        "in a text": root_text().replace("GRPO:", f"GRPO{end}:"),
    }[place]
    with pytest.raises(SourceRefused, match=rf"U\+{ord(end):04X}") as refusal:
        parse(text)
    assert refusal.value.check == "text"
    assert refusal.value.line == text[: text.index(end)].count("\n") + 1
    with pytest.raises(CheckFailed, match=r"does not parse: line \d+: .*U\+"):
        install(text, card("no-std"))


def test_carriage_returns_before_line_feeds_are_accepted_and_edits_fit() -> None:
    text = root_text().replace("\n", "\r\n")
    changed = install(text, card("no-std"))
    assert ast.dump(parse(changed)) == ast.dump(parse(install(root_text(), card("no-std"))))


@given(st.text(st.sampled_from("ab =()\n\r\x0b\x0c\x1c\x85\u2028\t'\"#\\:")))
def test_lines_match_the_lines_of_the_parser(text: str) -> None:
    assert "".join(lines(text)) == text
    assert len(lines(text)) == text.count("\n") + (not text.endswith("\n") and text != "")


@pytest.mark.parametrize("category", ["Cc", "Cf", "Cs", "Co", "Zl", "Zp"])
def test_characters_of_forbidden_categories_are_refused(category: str) -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) == category and character not in "\n\t":
            with pytest.raises(SourceRefused):
                source_text.require_plain(f"# {character}a\n")


@pytest.mark.parametrize("character", "\xa0\u2007\u202f\u3000\u3164\uffa0\u115f\u2800\ufe0f\U000e0100\ufffd\uffff")
def test_invisible_characters_are_refused(character: str) -> None:
    with pytest.raises(SourceRefused, match="line 2: "):
        parse(f"x = 1\n# {character}\n")


@pytest.mark.parametrize("text", ["σ² = p̃(1-p̃), ∇log π, ±δ, “x”, é, 中文, ½, 🙂\n"])
def test_ordinary_text_passes(text: str) -> None:
    parse(f'"""{text}"""\n# {text}')


@pytest.mark.parametrize(
    "cookie",
    [
        "# coding: latin-1",
        "# -*- coding: utf-8 -*-",
        "#coding=utf-7",
        "   # vim: set fileencoding=raw_unicode_escape :",
        "\t#encoding:x",
        "# decoding: how",
    ],
)
def test_a_declared_encoding_is_refused(cookie: str) -> None:
    for text in (f"{cookie}\nx = 1\n", f"#!/usr/bin/python\n{cookie}\nx = 1\n"):
        with pytest.raises(SourceRefused, match="PEP 263"):
            parse(text)
    parse(f"x = 1\ny = 2\n{cookie.strip()}\n")


@pytest.mark.parametrize(
    ("data", "line"), [(b"x = 1\n\xff\n", 2), (b"\xed\xa0\x80", 1), (b"a\nb\n\xc3", 3), (b"\xef\xbb\xbfx = 1\n", 1)]
)
def test_bytes_that_are_not_utf8_are_refused(data: bytes, line: int) -> None:
    with pytest.raises(SourceRefused) as refusal:
        read(data)
    assert refusal.value.line == line
    assert read("π = 1\n".encode()) == "π = 1\n"


@given(st.text(max_size=300) | st.text(st.sampled_from("()[]{}-.:=,'\"f#\\\n \tab01ifelsedeflambda"), max_size=300))
def test_any_text_is_accepted_or_refused_in_one_line(text: str) -> None:
    tree, refusal = taken(text)
    assert refusal is None or (str(refusal).isprintable() and len(str(refusal)) < 400)
    if tree is not None:
        ast.unparse(tree)


def test_a_card_with_such_code_is_refused_with_its_position() -> None:
    body = MINIMAL.replace("stages: [baseline]\n", "") + "edits:\n  - stage: baseline\n    replace: |\n"
    for code in ("def baseline(a=" + "-" * 300 + "1): pass", "def baseline(:", "def baseline():\n\x85    pass"):
        card_text = body + "".join(f"      {line}\n" for line in code.split("\n"))
        with pytest.raises(SettingsError) as failure:
            load_card(card_text, "literature/mine.yaml")
        assert "\n" not in str(failure.value)
        assert str(failure.value).startswith("literature/mine.yaml:")


def test_no_other_module_parses_source_text() -> None:
    package = Path(source_text.__file__).parents[1]
    ways = re.compile(r"ast\.parse|splitlines\(keepends|\bcompile\(.*exec")
    found = {str(file.relative_to(package)) for file in package.rglob("*.py") if ways.search(file.read_text())}
    # The grader of answers reads logs by lines. A candidate's own process runs the text that was checked.
    assert {name for name in found if "backends/verl" not in name} == {
        "untrusted/source_text.py",
        # Lines of settings files.
        "untrusted/yaml_editor.py",
        "pipeline/boundary/loading.py",
    }


@pytest.mark.parametrize("text", ["x = 1if 2else 3\n", "def f(x):\n    return x is 3\n", "y = '\\d'\n"])
def test_python_prints_no_warning_about_the_text(text: str) -> None:
    code = f"from poise_git.untrusted.source_text import parse, require_compiles; require_compiles(parse({text!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
