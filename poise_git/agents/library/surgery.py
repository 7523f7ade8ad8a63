"""Edit the text of an algorithm. The syntax tree gives the places, so that a diff shows only the mechanism.

The text outside the functions that an edit names keeps every byte. Reverting an edit is the exact inverse of
applying it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache

from poise_git.errors import CheckFailed
from poise_git.search.literature import Edit
from poise_git.untrusted import source_text

# How a stage calls an added function: the variable that it passes on, and the expression.
CHAINS: Mapping[str, tuple[str, str]] = {
    "reward_signal": ("signal", "{name}(signal, rollouts)"),
    "shape_advantages": ("advantages", "{name}(advantages, rollouts)"),
    "shape_token_advantages": ("advantages", "{name}(advantages, old_log_prob, response_mask)"),
    "regularizer": ("penalty", "penalty + {name}(old_log_prob, log_prob, response_mask)"),
}
# The names that `rollouts.py` offers; an algorithm imports those that it uses.
HELPERS = ("Rollouts", "aggregate_loss", "masked_mean", "response_mean", "to_tokens")


def apply_edit(text: str, edit: Edit) -> str:
    """The algorithm with one change of a stage function.

    Raises:
        CheckFailed: `implement`: the algorithm lacks the stage, or the stage lacks the form that the edit needs.
    """
    if edit.replace is not None:
        text = replace_function(text, edit.stage, edit.replace)
    elif edit.add is not None:
        text = add_function(text, edit.stage, edit.add)
    else:
        text = set_defaults(text, edit.stage, edit.set or {})
    return repair_imports(text)


def revert_edit(text: str, edit: Edit, root: str) -> str:
    """The algorithm without one change: the stage as in `root`, the root candidate's text."""
    if edit.replace is not None:
        text = replace_function(text, edit.stage, function_text(root, edit.stage))
    elif edit.add is not None:
        text = remove_function(text, edit.stage, added_name(edit))
    else:
        original = defaults(root, edit.stage)
        text = set_defaults(text, edit.stage, {name: original[name] for name in edit.set or {}})
    return repair_imports(text)


def added_name(edit: Edit) -> str:
    """The name of the function that an `add` edit contains."""
    return _only_function(edit.add or "").name


def functions(text: str) -> dict[str, ast.FunctionDef]:
    """The top-level functions by name.

    Raises:
        CheckFailed: `implement`, when the text does not parse.
    """
    return {node.name: node for node in _parse(text).body if isinstance(node, ast.FunctionDef)}


def function_text(text: str, name: str) -> str:
    """The lines of a top-level function."""
    node = _function(text, name)
    return "".join(source_text.lines(text)[node.lineno - 1 : node.end_lineno])


def defaults(text: str, name: str) -> dict[str, float]:
    """The numeric keyword defaults of a function; integers stay integers."""
    return {
        argument: value.value
        for argument, value in _default_nodes(_function(text, name)).items()
        if isinstance(value.value, int | float) and not isinstance(value.value, bool)
    }


def replace_function(text: str, name: str, new: str) -> str:
    """Replace the function `name` by `new`; calls that were chained into the old one are kept."""
    if _only_function(new).name != name:
        raise CheckFailed("implement", f"the new text of {name} defines {_only_function(new).name}")
    added = chained(text, name)
    node = _function(text, name)
    text = _splice(text, node.lineno, node.end_lineno or node.lineno, new.strip("\n") + "\n")
    for call in added:
        text = _chain(text, name, call)
    return text


def add_function(text: str, stage: str, new: str) -> str:
    """Insert a new function above `stage`, and a call of it before the stage's `return`."""
    name = _only_function(new).name
    if stage not in CHAINS:
        raise CheckFailed("implement", f"nothing can be added to {stage}, only to {', '.join(CHAINS)}")
    if name in functions(text):
        raise CheckFailed("implement", f"the parent already has a function {name}")
    node = _function(text, stage)
    text = _splice(text, node.lineno, node.lineno - 1, new.strip("\n") + "\n\n\n")
    return _chain(text, stage, name)


def remove_function(text: str, stage: str, name: str) -> str:
    """Remove an added function and its call."""
    variable, expression = CHAINS[stage]
    call = f"    {variable} = {expression.format(name=name)}\n"
    stage_text = function_text(text, stage)
    if call not in stage_text:
        raise CheckFailed("implement", f"{stage} does not call {name}")
    node = _function(text, stage)
    stage_text = stage_text.replace(call, "")
    if stage == "reward_signal":
        # Only in this stage is the variable neither an argument nor bound by the root's code.
        stage_text = _collapse(stage_text, variable)
    text = _splice(text, node.lineno, node.end_lineno or node.lineno, stage_text)
    node = _function(text, name)
    end, lines = node.end_lineno or node.lineno, source_text.lines(text)
    while end < len(lines) and not lines[end].strip():
        end += 1
    return _splice(text, node.lineno, end, "")


def chained(text: str, stage: str) -> list[str]:
    """The functions that `stage` calls in a chain before it returns, first to last."""
    if stage not in CHAINS:
        return []
    variable, expression = CHAINS[stage]
    names = []
    for statement in _function(text, stage).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == variable:
                calls = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
                names += [
                    call.func.id
                    for call in calls
                    if isinstance(call.func, ast.Name) and ast.unparse(value) == expression.format(name=call.func.id)
                ]
    return names


def set_defaults(text: str, name: str, values: Mapping[str, float]) -> str:
    """Set new defaults of keyword arguments; an integer default stays an integer."""
    for argument, value in values.items():
        node = _default_nodes(_function(text, name)).get(argument)
        if node is None:
            raise CheckFailed("implement", f"{name} has no keyword argument {argument}")
        if not math.isfinite(value):
            raise CheckFailed("implement", f"{name}.{argument} cannot be {value}")
        # repr writes 3 for an int and 3.0 for a float.
        new = repr(round(value) if isinstance(node.value, int) else float(value))
        lines = source_text.lines(text)
        line = lines[node.lineno - 1].encode()
        lines[node.lineno - 1] = (line[: node.start] + new.encode() + line[node.end :]).decode()
        text = "".join(lines)
    return text


def default_places(text: str, of: Container[tuple[str, str]]) -> list[tuple[int, int, int]]:
    """The places of the finite numbers that are defaults of these (function, argument) pairs.

    Each place is a line (from 1) and the begin and end of the number in the line, in bytes.

    Raises:
        CheckFailed: `implement`, when the text does not parse.
    """
    return [
        (value.lineno, value.start, value.end)
        for name, function in functions(text).items()
        for argument, value in _default_nodes(function).items()
        if (name, argument) in of and value.is_number
    ]


def repair_imports(text: str) -> str:
    """Import from `.rollouts` exactly the names that the algorithm uses."""
    tree = _parse(text)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    wanted = [name for name in HELPERS if name in used]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "rollouts" and node.level == 1:
            if {alias.name for alias in node.names} == set(wanted):
                return text
            line = f"from .rollouts import {', '.join(wanted)}\n"
            return _splice(text, node.lineno, node.end_lineno or node.lineno, line)
    return text


class _Default:
    """A constant default and its position in the line, in bytes; a minus sign belongs to it."""

    def __init__(self, value: object, node: ast.expr) -> None:
        self.value, self.lineno = value, node.lineno
        self.start, self.end = node.col_offset, node.end_col_offset or node.col_offset
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        self.is_number = is_number and node.end_lineno == node.lineno


def _default_nodes(function: ast.FunctionDef) -> dict[str, _Default]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs: Sequence[tuple[ast.arg, ast.expr | None]] = [
        *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    found = {}
    for argument, default in pairs:
        match default:
            case ast.Constant(value=value):
                found[argument.arg] = _Default(value, default)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                found[argument.arg] = _Default(-value, default)
    return found


def _chain(text: str, stage: str, name: str) -> str:
    """Insert a call of `name` before the single, last `return` of `stage`."""
    variable, expression = CHAINS[stage]
    node = _function(text, stage)
    last = node.body[-1]
    returns = [inner for inner in ast.walk(node) if isinstance(inner, ast.Return)]
    if not isinstance(last, ast.Return) or last.value is None or len(returns) != 1:
        raise CheckFailed("implement", f"{stage} does not end in its only return")
    call = f"    {variable} = {expression.format(name=name)}\n"
    if isinstance(last.value, ast.Name) and last.value.id == variable:
        return _splice(text, last.lineno, last.lineno - 1, call)
    value = ast.get_source_segment(text, last.value) or ""
    bound = f"    {variable} = {value}\n{call}    return {variable}\n"
    return _splice(text, last.lineno, last.end_lineno or last.lineno, bound)


def _collapse(stage_text: str, variable: str) -> str:
    """Undo the assignment that `_chain` makes from a returned expression, if no call remains in between."""
    match _only_function(stage_text).body[-2:]:
        case [ast.Assign(targets=[ast.Name(id=target)], value=value) as bound, ast.Return(value=ast.Name(id=returned))]:
            if target == returned == variable and not _mentions(value, variable):
                expression = ast.get_source_segment(stage_text, value) or ""
                return _splice(
                    stage_text, bound.lineno, len(source_text.lines(stage_text)), f"    return {expression}\n"
                )
    return stage_text


def _mentions(value: ast.expr, variable: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == variable for node in ast.walk(value))


def _splice(text: str, first: int, last: int, new: str) -> str:
    """Replace lines `first` to `last` (from 1, inclusive; last = first - 1 inserts) with `new`."""
    lines = source_text.lines(text)
    return "".join([*lines[: first - 1], new, *lines[last:]])


def _function(text: str, name: str) -> ast.FunctionDef:
    node = functions(text).get(name)
    if node is None:
        raise CheckFailed("implement", f"the algorithm has no function {name}")
    return node


def _only_function(text: str) -> ast.FunctionDef:
    match _parse(text).body:
        case [ast.FunctionDef() as node]:
            return node
    raise CheckFailed("implement", "an edit must hold exactly one function")


# A proposal compares dozens of cards with the same few texts. Callers never change the trees.
@lru_cache(maxsize=256)
def _parse(text: str) -> ast.Module:
    try:
        return source_text.parse(text)
    except source_text.SourceRefused as refusal:
        raise CheckFailed("implement", f"does not parse: {refusal}") from refusal
