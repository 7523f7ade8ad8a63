"""Disguised copies and real changes of algorithms, for tests of the normal form: edits of the syntax tree.

A disguise renames everything except names that callers use, moves statements, functions and operands, and moves
expressions into new variables or helpers. A change of one node makes another algorithm.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from itertools import count

FIXED = ("compute_advantages", "policy_loss")


def parse(text: str) -> ast.Module:
    return ast.parse(text)


def render(tree: ast.Module) -> str:
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def renamed(text: str, rng: random.Random) -> str:
    """Other names for helper functions, their parameters (knobs too), and all locals."""
    tree, numbers = parse(text), count(rng.randrange(1000))
    helpers = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name not in FIXED]
    functions = {node.name: f"helper_{next(numbers)}" for node in helpers}
    parameters = {
        node.name: {argument.arg: f"given_{next(numbers)}" for argument in (*node.args.args, *node.args.kwonlyargs)}
        for node in helpers
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in parameters:
            for keyword in node.keywords:
                keyword.arg = parameters[node.func.id].get(keyword.arg or "", keyword.arg)
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        names = dict(parameters.get(function.name, {}))
        stored = (
            part.id for part in ast.walk(function) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        )
        own = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        names |= {name: f"local_{next(numbers)}" for name in sorted(set(stored) - own)}
        for part in ast.walk(function):
            if isinstance(part, ast.Name):
                part.id = names.get(part.id, functions.get(part.id, part.id))
            elif isinstance(part, ast.arg) and function.name in parameters:
                part.arg = names.get(part.arg, part.arg)
        function.name = functions.get(function.name, function.name)
    return render(tree)


def reordered(text: str, rng: random.Random) -> str:
    """Top-level functions, keyword arguments, operands of + and *, and comparisons the other way round."""
    tree = parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            rng.shuffle(node.keywords)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult) and rng.random() < 0.5:
            node.left, node.right = node.right, node.left
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.Gt) and rng.random() < 0.5:
            node.left, node.comparators = node.comparators[0], [node.left]
            node.ops = [ast.Gt() if isinstance(node.ops[0], ast.Lt) else ast.Lt()]
    places = [place for place, node in enumerate(tree.body) if isinstance(node, ast.FunctionDef)]
    moved = [tree.body[place] for place in places]
    rng.shuffle(moved)
    for place, function in zip(places, moved, strict=True):
        tree.body[place] = function
    return render(tree)


def spelled_out(text: str, rng: random.Random) -> str:
    """Assign the return value of a function, and the arguments of some of its calls, to new variables."""
    tree, numbers = parse(text), count()
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        last = function.body[-1]
        if isinstance(last, ast.Return) and last.value is not None and rng.random() < 0.7:
            name = f"step_{next(numbers)}"
            first = ast.Assign([ast.Name(name, ast.Store())], last.value)
            function.body[-1:] = [first, ast.Return(ast.Name(name, ast.Load()))]
    return render(tree)


def extracted(text: str, rng: random.Random) -> str:
    """Replace the value of an assignment by a call of a new helper."""
    tree = parse(text)
    assignments = [
        (function, node)
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in function.body
        if isinstance(node, ast.Assign) and not any(isinstance(part, ast.Lambda) for part in ast.walk(node.value))
    ]
    if not assignments:
        return text
    function, assignment = rng.choice(assignments)
    top = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {"torch", "math"}
    names = sorted(
        {part.id for part in ast.walk(assignment.value) if isinstance(part, ast.Name)}
        & {
            *(argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)),
            *(part.id for part in ast.walk(function) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)),
        }
        - top
    )
    helper = ast.FunctionDef(
        "extracted", ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, []),
        [ast.Return(assignment.value)], [],
    )  # fmt: skip
    assignment.value = ast.Call(ast.Name("extracted", ast.Load()), [ast.Name(name, ast.Load()) for name in names], [])
    tree.body.append(helper)
    return render(tree)


def dressed_up(text: str, rng: random.Random) -> str:
    """Comments, doc strings, hints and dead ends."""
    tree = parse(text)
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        if ast.get_docstring(function) is not None and len(function.body) > 1:
            del function.body[0]
        function.returns = None
        dead = ast.Assign([ast.Name("nobody_reads_this", ast.Store())], ast.Constant(rng.randrange(100)))
        function.body.insert(rng.randrange(len(function.body)), dead)
    return "# another file altogether\n" + render(tree)


DISGUISES: tuple[Callable[[str, random.Random], str], ...] = (
    renamed, reordered, spelled_out, extracted, dressed_up,
)  # fmt: skip


def changes(text: str) -> Iterator[tuple[str, str]]:
    """Every text in which one number, operator, default of a knob or called method of a function differs."""
    others = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
    comparisons = {ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.LtE: ast.Lt, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}
    nodes = len(list(ast.walk(parse(text))))
    for place in range(nodes):
        tree = parse(text)
        node = list(ast.walk(tree))[place]
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                node.value = value * 1.5 + 0.125
                what = f"line {node.lineno}: {value} is {node.value}"
            case ast.BinOp(op=op) if type(op) in others:
                node.op = others[type(op)]()
                what = f"line {node.lineno}: {type(op).__name__}"
            case ast.Compare(ops=[op]) if type(op) in comparisons:
                node.ops = [comparisons[type(op)]()]
                what = f"line {node.lineno}: {type(op).__name__}"
            case ast.Attribute(attr="minimum" | "maximum" | "exp" | "group_mean" | "group_std" as attribute):
                node.attr = f"{attribute}_of_another_kind"
                what = f"line {node.lineno}: {attribute}"
            case _:
                continue
        yield what, render(tree)
