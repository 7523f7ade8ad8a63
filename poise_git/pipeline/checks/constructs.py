"""Find constructs, names and attributes of a syntax tree that an algorithm does not need."""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from poise_git.pipeline.checks.allowed import BUILTINS, MEMBERS, MODULES

# The document with the list of allowed names.
_LISTED = "docs/human.md lists what is allowed"
# Functions that take the name of an attribute as text.
_BY_NAME = frozenset(("getattr", "hasattr"))
_NO_GRADIENT = "torch.no_grad"
# Packages that may not be imported themselves, but lead to a module that may.
_STEPS: Mapping[str, frozenset[str]] = {"collections": frozenset(("abc",))}
_ALLOWED = (
    *(ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign),
    *(ast.For, ast.While, ast.If, ast.With, ast.withitem, ast.Raise, ast.Assert, ast.Expr, ast.Pass, ast.Break),
    *(ast.Continue, ast.Import, ast.ImportFrom, ast.alias, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.NamedExpr),
    *(ast.IfExp, ast.Lambda, ast.Dict, ast.Set, ast.List, ast.Tuple, ast.ListComp, ast.SetComp, ast.DictComp),
    *(ast.GeneratorExp, ast.comprehension, ast.Compare, ast.Call, ast.keyword, ast.JoinedStr, ast.FormattedValue),
    *(ast.Constant, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred, ast.Name, ast.expr_context),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
_ANNOTATION = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.List, ast.Constant, ast.BinOp, ast.BitOr),
    ast.expr_context,
)
_INSTEAD: Mapping[str, str] = {
    "ClassDef": "write functions that take and return tensors",
    "Global": "an algorithm has no memory: pass and return values",
    "Nonlocal": "an algorithm has no memory: pass and return values",
    "Delete": "names end with the function",
    "Try": "an algorithm must not hide errors: test the value with `if` or torch.where",
    "TryStar": "an algorithm must not hide errors: test the value with `if` or torch.where",
    "Match": "use `if` and `elif`",
    "Yield": "return a list",
    "YieldFrom": "return a list",
}
_WORDS: Mapping[str, str] = {
    "ClassDef": "class",
    "Delete": "del",
    "TryStar": "try",
    "YieldFrom": "yield",
    "AsyncFunctionDef": "async def",
    "AsyncFor": "async for",
    "AsyncWith": "async with",
}


@dataclass(frozen=True)
class Binding:
    name: str
    line: int


@dataclass(frozen=True)
class Names:
    """The meaning of the names in a text, without scopes: `bound` are all that it binds, `imported` name -> dotted
    path."""

    bindings: tuple[Binding, ...]
    bound: frozenset[str]
    imported: Mapping[str, str]

    @classmethod
    def of(cls, tree: ast.Module) -> Names:
        bindings = tuple(binding for node in ast.walk(tree) for binding in _bound_by(node))
        imported = {name: path for node in ast.walk(tree) for name, path in _imported_by(node)}
        return cls(bindings, frozenset(binding.name for binding in bindings), imported)

    def path(self, node: ast.AST) -> str | None:
        """The dotted path of a chain of attributes, such as `torch.nn.functional`; None for other values."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.imported:
            return None
        return ".".join([self.imported[node.id], *reversed(parts)])


def syntax_problem(tree: ast.Module, names: Names) -> str | None:
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            kind = type(node).__name__
            word = _WORDS.get(kind, kind.lower())
            return f"{line_of(node)}: `{word}` is not allowed; {_INSTEAD.get(kind, _LISTED)}"
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes | complex):
            return f"{line_of(node)}: {node.value!r:.40} is not allowed; constants are numbers, texts, None and ..."
        if isinstance(node, ast.FunctionDef) and (problem := decorator_problem(node, names)):
            return problem
        for annotation in _annotations(node):
            if computed := next((part for part in ast.walk(annotation) if not isinstance(part, _ANNOTATION)), None):
                return f"{line_of(annotation)}: an annotation names a type; this one is computed ({_kind(computed)})"
    return None


def names_problem(tree: ast.Module, names: Names) -> str | None:
    for binding in names.bindings:
        if _is_reserved(binding.name):
            return f"line {binding.line}: {binding.name} is a built-in name of Python; choose another"
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for name in (node for node in ast.walk(tree) if isinstance(node, ast.Name)):
        if name.id in names.bound:
            continue
        if name.id in _BY_NAME:
            if not _is_literal_access(calls.get(id(name))):
                return (
                    f"{line_of(name)}: {name.id} is allowed only as a call with a literal, public attribute name "
                    f"that is allowed after a dot; {_LISTED}"
                )
        elif name.id not in BUILTINS:
            if _is_reserved(name.id):
                return f"{line_of(name)}: uses {name.id}, which is not allowed; {_LISTED}"
            return f"{line_of(name)}: {name.id} is not defined{_like(name.id, names.bound | BUILTINS)}"
    return None


def attributes_problem(tree: ast.Module, names: Names) -> str | None:
    owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        path = names.path(node)
        if path is not None and path in MODULES and id(node) not in owners:
            return f"{line_of(node)}: {path} is a module; use one of its functions, such as {path}.{min(MODULES[path])}"
        if isinstance(node, ast.Name):
            continue
        if not isinstance(node.ctx, ast.Load):
            return f"{line_of(node)}: sets the attribute .{node.attr}; an algorithm has no memory: return the value"
        owner = names.path(node.value) or ""
        allowed = MODULES.get(owner) or _STEPS.get(owner) or MEMBERS
        if node.attr not in allowed:
            what = f"{owner}.{node.attr}" if owner in MODULES else f"the attribute .{node.attr}"
            return f"{line_of(node)}: uses {what}, which is not allowed{_like(node.attr, allowed)}"
    return None


def imports_problem(tree: ast.Module) -> str | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [_module(node)]
        else:
            continue
        for module in modules:
            if module not in MODULES or (isinstance(node, ast.Import) and module.startswith(("_", "."))):
                return f"{line_of(node)}: imports {module}; allowed are {', '.join(sorted(MODULES))}"
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if alias.name not in MODULES[modules[0]]:
                unlike = _like(alias.name, MODULES[modules[0]])
                return f"{line_of(node)}: imports {alias.name!r} from {modules[0]}, which is not allowed{unlike}"
    return None


def constant_problem(node: ast.expr) -> str | None:
    """The reason why a value is not constant; None for a number, a text, a tuple of them, or their arithmetic."""
    for part in ast.walk(node):
        if isinstance(part, ast.List | ast.Dict | ast.Set):
            kind = type(part).__name__.lower()
            return f"and a {kind} can change between calls: use a tuple, or create it inside the function"
        if isinstance(part, ast.Lambda):
            return "not a lambda: write a function"
        if not isinstance(
            part,
            ast.Constant
            | ast.Tuple
            | ast.UnaryOp
            | ast.BinOp
            | ast.Name
            | ast.Attribute
            | ast.expr_context
            | ast.operator
            | ast.unaryop,
        ):
            return f"this one is computed ({_kind(part)})"
    return None


def decorator_problem(function: ast.FunctionDef, names: Names) -> str | None:
    other = next((each for each in function.decorator_list if not _is_no_gradient(each, names)), None)
    return f"{line_of(other)}: {function.name} may have no decorator except @{_NO_GRADIENT}()" if other else None


def line_of(node: ast.AST) -> str:
    return f"line {getattr(node, 'lineno', 0)}"


def _bound_by(node: ast.AST) -> Iterator[Binding]:
    match node:
        case ast.FunctionDef(name=name) | ast.arg(arg=name):
            yield Binding(name, node.lineno)
        case ast.Name(id=name, ctx=ast.Store()):
            yield Binding(name, node.lineno)
        case ast.Import() | ast.ImportFrom():
            yield from (Binding(name, node.lineno) for name, _ in _imported_by(node))
        case _:
            pass


def _imported_by(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, f"{_module(node)}.{alias.name}"


def _module(node: ast.ImportFrom) -> str:
    return "." * node.level + (node.module or "")


def _is_no_gradient(decorator: ast.expr, names: Names) -> bool:
    match decorator:
        case ast.Call(func=function, args=[], keywords=[]):
            return names.path(function) == _NO_GRADIENT
        case _:
            return False


def _annotations(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.arg(annotation=ast.expr() as annotation) | ast.AnnAssign(annotation=annotation):
            return [annotation]
        case ast.FunctionDef(returns=ast.expr() as annotation):
            return [annotation]
        case _:
            return []


def _is_literal_access(call: ast.Call | None) -> bool:
    """Whether it is a call such as getattr(config, "clip_ratio", None)."""
    match call:
        case ast.Call(args=[owner, ast.Constant(value=str() as name), *rest], keywords=[]):
            return name in MEMBERS and not any(isinstance(each, ast.Starred) for each in (owner, *rest))
        case _:
            return False


def _is_reserved(name: str) -> bool:
    """A builtin that is not allowed must not be bound either, because elsewhere in the text it is the builtin."""
    return name.startswith("__") or (hasattr(builtins, name) and name != "_" and name not in BUILTINS)


def _like(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name[:40], sorted(allowed), n=1, cutoff=0.8)
    return f"; is {close[0]} meant?" if close else f"; {_LISTED}"


def _kind(node: ast.AST) -> str:
    return type(node).__name__.lower()
