"""Untrusted prompt templates: Jinja that cannot run code, and that cannot loop or grow without limit.

A template is parsed, and its parts are compared with an allow list, before it is evaluated. The allowed parts can loop
and print, so the renderer limits both. A template has only the given names, and no calls except `mapping.get`, no
arithmetic, no macros and no other files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from poise_git.errors import UsageError

SOURCE_LENGTH = 64 * 1024
DEPTH = 40
NESTED_LOOPS = 4
# Characters that a template may produce, and seconds that it may take.
OUTPUT_LENGTH = 16 * 1024 * 1024
SECONDS = 20.0
TEMPLATES_REMEMBERED = 64
_COUNTED, _GET, _CLOCK = "_counted", "_get", "_clock"
_ALLOWED = (
    nodes.And, nodes.Assign, nodes.Compare, nodes.CondExpr, nodes.Const, nodes.Dict, nodes.Filter, nodes.For,
    nodes.Getattr, nodes.Getitem, nodes.If, nodes.List, nodes.Name, nodes.Neg, nodes.Not, nodes.Operand, nodes.Or,
    nodes.Output, nodes.Pair, nodes.Template, nodes.TemplateData, nodes.Test, nodes.Tuple,
)  # fmt: skip
_CONTAINERS = (nodes.Dict, nodes.List, nodes.Pair, nodes.Tuple)
_TESTS = frozenset(("defined", "undefined", "none", "string", "number", "mapping", "sequence", "true", "false"))
_FILTERS = frozenset(("count", "first", "join", "last", "length", "lower", "trim", "upper"))

Filter = Callable[[Any], str]


class _Exceeded(Exception):
    """A limit was reached, or a part is not allowed; `line` counts from 1, if known."""

    def __init__(self, what: str, line: int = 0) -> None:
        self.lineno = line
        super().__init__(what)


class _Environment(ImmutableSandboxedEnvironment):
    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow access to fields only, so that a template cannot call, print or compare a method."""
        return not callable(value) and super().is_safe_attribute(obj, attr, value)


def fill_template(source: str, file: str, values: Mapping[str, Any], filters: Mapping[str, Filter]) -> str:
    """The text of a template with these values.

    Args:
        file: the name of the template in errors.
        values: texts, numbers, and mappings, lists and frozen entries of them.
        filters: our own filters by name, in addition to Jinja's harmless ones.

    Raises:
        UsageError: the template is wrong, or exceeds the limits.
    """
    try:
        template = _compiled(source, tuple(sorted(filters.items())))
        return _joined(template.generate(**values, **{_CLOCK: _Clock()}))
    except (_Exceeded, TemplateError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        line = getattr(error, "lineno", None)
        place = f"{file}:{line}" if line else file
        raise UsageError(f"{place}: {' '.join(str(error).split())[:300]}; correct it on main, and commit") from error
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise UsageError(f"{file}: too large or too deeply nested; correct it on main, and commit") from error


class _Clock:
    """Stop a template that takes too long; called at each turn of a loop and for each piece of output."""

    def __init__(self) -> None:
        self.end = time.monotonic() + SECONDS

    def check(self) -> None:
        if time.monotonic() > self.end:
            raise _Exceeded(f"takes more than {SECONDS:g} seconds")


def _turns(found: Iterable[Any], clock: _Clock) -> Iterator[Any]:
    for each in found:
        clock.check()
        yield each


def _get(found: Any, key: Any, default: Any = "") -> Any:
    if not isinstance(found, Mapping):
        raise TypeError("get works only on mappings")
    return found.get(key, default)


def _join(found: Iterable[Any], between: str = "") -> str:
    return _joined(_between(found, str(between)))


def _between(found: Iterable[Any], between: str) -> Iterator[str]:
    for number, each in enumerate(found):
        yield f"{between if number else ''}{each}"


def _joined(pieces: Iterable[str]) -> str:
    made, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > OUTPUT_LENGTH:
            raise _Exceeded(f"makes more than {OUTPUT_LENGTH} characters")
        made.append(piece)
    return "".join(made)


# A context is rendered several times until it fits its budget.
@lru_cache(TEMPLATES_REMEMBERED)
def _compiled(source: str, filters: tuple[tuple[str, Filter], ...]) -> Template:
    if len(source) > SOURCE_LENGTH:
        raise _Exceeded(f"{len(source)} characters; at most {SOURCE_LENGTH} are read")
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False
    )
    own = dict(filters)
    kept = {name: environment.filters[name] for name in _FILTERS}
    environment.filters.clear()
    environment.filters.update({**kept, "join": _join, **own, _COUNTED: _turns, _GET: _get})
    environment.globals.clear()
    tree = environment.parse(source)
    _check(tree, _FILTERS | own.keys())
    _Rewriter().visit(tree)
    return Template.from_code(environment, environment.compile(tree), {}, None)


class _Rewriter(NodeTransformer):
    """Make loops check the clock at every turn, and replace `mapping.get` by a filter, so that no call remains."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        clock = nodes.Name(_CLOCK, "load")
        node.iter = nodes.Filter(node.iter, _COUNTED, [clock], [], None, None).set_lineno(node.lineno)
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        assert isinstance(node.node, nodes.Getattr)
        return nodes.Filter(node.node.node, _GET, node.args, [], None, None).set_lineno(node.lineno)


def _check(tree: nodes.Template, filters: frozenset[str]) -> None:
    """Raise _Exceeded at the first part of a template that is not allowed."""
    waiting: list[tuple[nodes.Node, int, int]] = [(tree, 0, 0)]
    while waiting:
        node, depth, loops = waiting.pop()
        line = node.lineno
        children = list(node.iter_child_nodes())
        if depth > DEPTH:
            raise _Exceeded(f"nested more than {DEPTH} deep", line)
        if isinstance(node, nodes.Call):
            children = _parts_of_get(node)
        elif not isinstance(node, _ALLOWED):
            raise _Exceeded(f"{type(node).__name__} is not allowed in a prompt", line)
        if isinstance(node, nodes.For):
            loops += 1
            if loops > NESTED_LOOPS or node.recursive or node.test:
                raise _Exceeded(f"loops may be {NESTED_LOOPS} deep, without `recursive` and `if`", line)
        elif isinstance(node, nodes.Filter):
            _refuse_name("filter", node, filters)
        elif isinstance(node, nodes.Test):
            _refuse_name("test", node, _TESTS)
        elif isinstance(node, nodes.Name) and node.name.startswith("_"):
            raise _Exceeded(f"{node.name[:40]} is not a variable of this prompt", line)
        elif isinstance(node, _CONTAINERS) and not _is_constant(node, children):
            raise _Exceeded("lists and mappings may hold only constants", line)
        waiting += [(child, depth + 1, loops) for child in children]


def _is_constant(node: nodes.Node, children: Iterable[nodes.Node]) -> bool:
    """Whether a node is a constant. A nested list that repeats its elements at every level would print forever."""
    targets = getattr(node, "ctx", "load") != "load"
    return targets or all(isinstance(child, (nodes.Const, *_CONTAINERS)) for child in children)


def _parts_of_get(call: nodes.Call) -> list[nodes.Node]:
    """The parts of a call `mapping.get(key, default)` that are still to be checked."""
    of = call.node
    plain = not (call.kwargs or call.dyn_args or call.dyn_kwargs) and 1 <= len(call.args) <= 2
    if not (plain and isinstance(of, nodes.Getattr) and of.attr == "get"):
        raise _Exceeded("the only call allowed in a prompt is mapping.get(key, default)", call.lineno)
    return [of.node, *call.args]


def _refuse_name(kind: str, node: nodes.Filter | nodes.Test, known: Iterable[str]) -> None:
    if node.name not in known:
        raise _Exceeded(f"no {kind} {node.name[:40]}; known: {', '.join(sorted(known))}", node.lineno)
    if node.dyn_args or node.dyn_kwargs or node.kwargs:
        raise _Exceeded(f"the {kind} {node.name} does not take these arguments", node.lineno)
