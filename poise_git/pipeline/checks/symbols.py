"""Parts of symbolic evaluation: digests as values, scopes, frames, and queries on a syntax tree."""

from __future__ import annotations

import ast
import hashlib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

COMMUTATIVE = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor)
SYMMETRIC = (ast.Eq, ast.NotEq)
MIRRORED: Mapping[type[ast.cmpop], str] = {ast.Gt: "Lt", ast.GtE: "LtE"}
SEQUENCES = (ast.List, ast.Tuple, ast.JoinedStr)
_FOLDED: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# Up to this limit a whole number equals its float.
_EXACT = 2.0**53


class NotUnderstood(Exception):
    """The text contains something that symbolic evaluation does not follow."""


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the text, with the meaning of its free names at the call."""

    node: ast.FunctionDef | ast.Lambda
    scope: Scope


@dataclass(frozen=True)
class Items:
    """A tuple that is known part by part."""

    parts: tuple[str, ...]

    @property
    def whole(self) -> str:
        return digest("Tuple", *(each for part in self.parts for each in ("elts", part)))


# A digest, a tuple of digests, or a function that can be followed.
Value = str | Items | Function
Scope = dict[str, Value]


@dataclass
class Frame:
    """The state inside one function: the values of names, the effects in order, and whether one changes anything."""

    scope: Scope
    effects: list[str] = field(default_factory=list)
    acted: bool = False

    def act(self, effect: str, names: Iterable[str]) -> None:
        """Record an effect on the objects of these names."""
        self.acted = True
        self.effects.append(effect)
        self.change(names, digest(str(len(self.effects)), effect))

    def change(self, names: Iterable[str], effect: str) -> None:
        """Give new values to the names that an effect may have changed."""
        for name in names:
            if isinstance(value := self.scope.get(name), str | Items):
                self.scope[name] = digest("after", effect, value.whole if isinstance(value, Items) else value)


def digest(*parts: str) -> str:
    whole = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(whole.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def number(node: ast.AST) -> float | None:
    """The value of a number, or of a sum, difference, product or quotient of numbers; 2 and 2.0 are the same."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) < _EXACT:
            return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand) if (positive := number(operand)) is not None:
            return -positive
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _FOLDED:
            one, other = number(left), number(right)
            if one is None or other is None or (isinstance(op, ast.Div) and other == 0):
                return None
            return float(_FOLDED[type(op)](one, other))
        case _:
            return None


def chain(node: ast.expr, op: type[ast.operator]) -> Iterator[ast.expr]:
    """The operands of a + b + c, with any brackets; a part that is a number stays whole."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, op) and number(node) is None:
        yield from chain(node.left, op)
        yield from chain(node.right, op)
    else:
        yield node


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def names_in(node: ast.AST) -> list[str]:
    return [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]


def base_of(target: ast.expr) -> list[str]:
    """The name whose object a store into it changes: `x` for `x[i].a`; none if it has no name."""
    while isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        target = target.value
    return [target.id] if isinstance(target, ast.Name) else []


def bound_by(statement: ast.stmt) -> list[str]:
    """The names that a statement binds, each once, in order, without those of inner functions and comprehensions."""
    found: dict[str, None] = {}

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(statement)
    return list(found)
