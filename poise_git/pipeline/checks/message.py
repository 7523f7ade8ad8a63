"""Check the knobs and claims of a candidate's message against its code. Nothing is executed."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from poise_git.archive.entries import Claim
from poise_git.archive.messages import Description
from poise_git.pipeline.checks.claims import CLAIM_KINDS, WrongArguments, kind_named
from poise_git.untrusted.source_text import SourceRefused, parse


def message_problems(said: Description, algorithm: str | None) -> tuple[str, ...]:
    """The problems, one per line; `algorithm` is the candidate's `recipe/algorithm.py`, None if it has none."""
    found = (
        []
        if said.mechanism
        else ["the first line states no mechanism; write algorithm(NAME): the mechanism in one line"]
    )
    found += [f"not a knob: {entry!r}; write `- function.argument = number`" for entry in said.unreadable]
    found += _knob_problems(said.knobs, algorithm)
    for claim in said.claims:
        found += _claim_problems(claim)
    return tuple(found)


def _knob_problems(knobs: dict[str, float], algorithm: str | None) -> Iterator[str]:
    try:
        defaults = knob_defaults(algorithm or "")
    except SourceRefused:
        # The checks of the code report text that is not Python.
        return
    for name, value in knobs.items():
        if not math.isfinite(value):
            yield f"knob {name}: {value} is not a finite number"
        elif algorithm is not None:
            known = {default for knob, default in defaults.items() if name in (knob, knob.partition(".")[2])}
            if not known:
                yield f"knob {name}: no function of the code has this keyword with a numeric default"
            elif value not in known:
                yield f"knob {name} = {value:g}: its default in the code is {min(known):g}"


def knob_defaults(algorithm: str) -> dict[str, float]:
    """Every keyword default of the module's functions that is a number, as `function.argument`.

    Raises:
        SourceRefused: the text is not Python.
    """
    found = {}
    for function in parse(algorithm).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        pairs = [
            *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        for argument, default in pairs:
            value = _number(default)
            if value is not None:
                found[f"{function.name}.{argument.arg}"] = value
    return found


def _number(node: ast.expr | None) -> float | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    return None


def _claim_problems(claim: Claim) -> Iterator[str]:
    what = f"claim {claim.statement!r}"
    kind = kind_named(claim.check)
    if kind is None:
        yield f"{what}: unknown check {claim.check!r}; known: {', '.join(known.name for known in CLAIM_KINDS)}"
        return
    try:
        kind.of(claim.arguments)
    except WrongArguments as wrong:
        yield f"{what}: {wrong}"
    if unknown := sorted(claim.arguments.keys() - kind.model_fields.keys()):
        yield f"{what}: {kind.name} takes no {unknown[0]}="
