"""Templates of an archive: the constructs that prompts need work; all others are refused in one line, soon."""

from __future__ import annotations

import time

import pytest

from poise_git.errors import UsageError
from poise_git.untrusted import template
from poise_git.untrusted.template import fill_template
from tests import sentences

TEXT = "x" * 100_000
VALUES = {"parent": "grpo", "items": [("a", "b")] * 300, "table": {"a": 1}, "text": TEXT}


def fill(source: str) -> str:
    return fill_template(source, "prompts/a.md.j2", VALUES, {"quoted": lambda text: f"<{text}>"})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ parent }}{# why #}", "grpo"),
        ("{% set names = {'a': 'A'} %}{{ names.get('a', 'b') }}{{ names.get('x', 'b') }}", "Ab"),
        ("{% for one, two in items %}{% if loop.first %}{{ one }}{{ two|quoted }}{% endif %}{% endfor %}", "a<b>"),
        ("{{ table.get('a') }} {{ table.b is defined }} {{ items|length }}", "1 False 300"),
        ("{{ 'many' if items else 'none' }} {{ [1, 2]|join(', ') }}", "many 1, 2"),
    ],
)
def test_the_template_language_covers_the_needs_of_prompts(source: str, text: str) -> None:
    assert fill(source) == text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\n{{ 9**9**9 }}", r"a\.md\.j2:2: Pow"),
        ("{{ 'x' * 10**9 }}", "Mul"),
        ("{{ '%1000000000d' % 1 }}", "Mod"),
        ("{{ text ~ text }}", "Concat"),
        ("{{ text|center(1000000000) }}", "no filter center"),
        ("{{ '%9d'|format(1) }}", "no filter format"),
        ("{{ lipsum(n=100000) }}", sentences.PROMPT_CALLS),
        ("{{ text.format(1) }}", sentences.PROMPT_CALLS),
        ("{{ range(10) }}", sentences.PROMPT_CALLS),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", sentences.PROMPT_CALLS),
        ("{% include 'poise.yaml' %}", "Include"),
        ("{% set a %}x{% endset %}", "AssignBlock"),
        ("{% set a = [items, items] %}{{ a }}", sentences.PROMPT_CONSTANTS),
        ("{% for a in items recursive %}{% endfor %}", "recursive"),
        ("{% for a in items %}" * 5 + "{% endfor %}" * 5, "loops may be"),
        ("{{ parent.__class__ }}", "unsafe"),
        ("{{ table['items'] }}", "unsafe"),
        ("{{ loop }}", "undefined"),
        ("{{ _clock.end }}", sentences.NOT_A_VARIABLE),
        ("{% set _clock = 1 %}", sentences.NOT_A_VARIABLE),
        ("{{ text|quoted(1) }}", "argument"),
        ("{{ nothing }}", "undefined"),
        ("{% for", "line|expected|end of template"),
        ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", "deeply nested"),
        ("{{ parent" + ".a" * 2000 + " }}", "40 deep"),
        ("{{ " + " or ".join(["a"] * 4000) + " }}", "deep"),
        ("x" * 100_000, "characters"),
        ("{% for a in text %}{{ text }}{% endfor %}", "characters"),
        ("{{ text|join(text) }}", "characters"),
    ],
)
def test_everything_else_is_an_error_of_one_line(source: str, said: str) -> None:
    started = time.process_time()
    with pytest.raises(UsageError, match=said) as caught:
        fill(source)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("prompts/a.md.j2:")
    assert time.process_time() - started < 5


def test_loops_end_at_their_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "SECONDS", 0.2)
    with pytest.raises(UsageError, match=r"more than 0\.2 seconds"):
        fill("{% for a in text %}{% for b in text %}{% endfor %}{% endfor %}")
