"""Apply a model's answer to a text of algorithm.py: replacements first, then whole functions."""

from __future__ import annotations

import ast

from poise_git.agents.anthropic.replies import CodeAnswer, Replacement
from poise_git.agents.library.surgery import functions, repair_imports
from poise_git.errors import CheckFailed
from poise_git.untrusted import source_text

CHECK = "implement"
# verl's contract, the same in every candidate.
ENTRY_POINTS = ("compute_advantages", "policy_loss")


def edited(source: str, answer: CodeAnswer) -> str:
    """`source` with the answer's changes made.

    Raises:
        CheckFailed: `implement`: the answer does not fit the source; its reason addresses the model.
    """
    if not answer.patch and not answer.functions:
        raise CheckFailed(CHECK, "give at least one function or replacement")
    text = source
    for replacement in answer.patch:
        text = _replaced(text, replacement)
    for function in answer.functions:
        text = _with_function(text, function)
    text = repair_imports(text)
    if text == source:
        raise CheckFailed(CHECK, "the text is unchanged")
    for name in ENTRY_POINTS:
        # A refused source, which is repaired here, has no structure to preserve.
        if _shape(source, name) not in (None, _shape(text, name)):
            raise CheckFailed(CHECK, f"{name} is the contract with the backends; change the stage functions instead")
    return text


def _replaced(text: str, replacement: Replacement) -> str:
    found = text.count(replacement.old)
    if found != 1:
        first = replacement.old.strip().split("\n")[0][:80]
        raise CheckFailed(CHECK, f"the passage that begins with `{first}` occurs {found} times in the text, not once")
    return text.replace(replacement.old, replacement.new)


def _with_function(text: str, function: str) -> str:
    try:
        body = source_text.parse(function).body
    except source_text.SourceRefused as refusal:
        raise CheckFailed(CHECK, f"a function does not parse: {refusal}") from refusal
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
        raise CheckFailed(CHECK, "each entry of `functions` must be exactly one top-level function")
    new, lines = function.strip("\n") + "\n", source_text.lines(text)
    existing = functions(text).get(body[0].name)
    if existing:
        first = min(existing.lineno, *(mark.lineno for mark in existing.decorator_list), existing.lineno)
        return "".join([*lines[: first - 1], new, *lines[existing.end_lineno or first :]])
    # Insert above the first function, so that definitions precede their callers.
    place = min((node.lineno for node in functions(text).values()), default=len(lines) + 1) - 1
    return "".join([*lines[:place], new, "\n\n", *lines[place:]])


def _shape(text: str, name: str) -> str | None:
    try:
        found = functions(text).get(name)
    except CheckFailed:
        return None
    return ast.dump(found) if found else ""
