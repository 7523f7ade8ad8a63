"""The normal form of an algorithm: the results of its two entry points, as expressions of their arguments.

Two texts that compute the same by the same steps have the same form. Names, layout, comments, hints, helper functions,
intermediate variables, and the order of independent statements, of keyword arguments and of the operands of +, *, &, |,
^, == and < do not affect it. A different constant, operator, called function or default of a used knob changes it.

Symbolic evaluation computes it: every value is the digest of its operation and of that operation's operands, so names
do not occur in it, and a helper's body replaces its call. An effect is anything that a statement does besides binding a
name (a change in place, a call whose value is dropped, a return from a branch), and effects keep their order. Nothing
is executed. If evaluation cannot follow a text (recursion, classes, `try`), the form is its syntax tree.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from poise_git.pipeline.checks.symbols import (
    COMMUTATIVE,
    MIRRORED,
    SEQUENCES,
    SYMMETRIC,
    Frame,
    Function,
    Items,
    NotUnderstood,
    Scope,
    Value,
    base_of,
    bound_by,
    chain,
    digest,
    is_text,
    names_in,
    number,
)
from poise_git.untrusted.source_text import SourceRefused, parse

# Increase this number whenever the form of some text may change.
VERSION = 3
ENTRY_POINTS = ("compute_advantages", "policy_loss")
# Stop the evaluation of a text that is long on purpose.
DEPTH_LIMIT, STEP_LIMIT = 40, 100_000
# The deepest nesting of expressions, called functions included. It is less than Python's stack allows, so that the form
# does not depend on the caller.
NESTING_LIMIT = 80


def normal_form(text: str) -> str:
    """A digest that is equal for equal algorithms; a text that does not parse is its own form. Never raises."""
    try:
        tree = parse(text)
    except SourceRefused:
        return digest("text", text)
    try:
        return _Evaluation().program(tree)
    except NotUnderstood:
        return digest("tree", ast.dump(_without_docstrings(tree)))


def same_algorithm(one: str, other: str) -> bool:
    """Whether two texts have the same normal form."""
    return one == other or normal_form(one) == normal_form(other)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree


def _fits(targets: Sequence[ast.expr], items: Items) -> bool:
    return len(targets) == len(items.parts) and not any(isinstance(target, ast.Starred) for target in targets)


class _Evaluation:
    """One text, evaluated."""

    def __init__(self) -> None:
        self.depth, self.steps, self.level, self.nesting = 0, 0, 0, 0

    def program(self, tree: ast.Module) -> str:
        module = Frame({})
        self.block(tree.body, module)
        points = [module.scope.get(name) for name in ENTRY_POINTS]
        forms = [self.abstract(point) for point in points if isinstance(point, Function)]
        if len(forms) < len(ENTRY_POINTS):
            raise NotUnderstood
        return digest("program", *module.effects, *forms)

    # Statements.

    def block(self, body: Sequence[ast.stmt], frame: Frame) -> None:
        for node in body:
            self.statement(node, frame)

    def statement(self, node: ast.stmt, frame: Frame) -> None:
        match node:
            case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
                pass
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name if alias.asname else alias.name.partition(".")[0]
                    frame.scope[alias.asname or top] = self.dotted(top)
            case ast.ImportFrom(module=module, names=names, level=level):
                for alias in names:
                    frame.scope[alias.asname or alias.name] = self.dotted(f"{'.' * level}{module or ''}.{alias.name}")
            case ast.FunctionDef(name=name):
                frame.scope[name] = Function(node, frame.scope)
            case ast.Assign(targets=targets, value=expression):
                value = self.value(expression, frame)
                for target in targets:
                    self.bind(target, value, frame)
            case ast.AnnAssign(target=target, value=ast.expr() as expression):
                self.bind(target, self.value(expression, frame), frame)
            case ast.AugAssign(target=target, op=op, value=expression):
                # `x += e` is not `x = x + e`, because other names of x see the change.
                before = self.expression(target, frame)
                changed = digest("in place", type(op).__name__, before, self.expression(expression, frame))
                frame.act(changed, base_of(target))
            case ast.Expr(value=expression):
                effects = len(frame.effects)
                done = self.expression(expression, frame)
                if len(frame.effects) == effects:
                    frame.act(done, names_in(expression))
            case ast.Return(value=expression):
                frame.effects.append(digest("return", self.closed(self.result(expression, frame))))
            case ast.If() | ast.For() | ast.While() | ast.With():
                with self.nested():
                    self.compound(node, frame)
            case ast.Raise() | ast.Assert() | ast.Break() | ast.Continue() | ast.Delete():
                frame.effects.append(self.generic(node, frame))
            case _:
                raise NotUnderstood

    def bind(self, target: ast.expr, value: Value, frame: Frame) -> None:
        match target:
            case ast.Name(id=name):
                frame.scope[name] = value
            case ast.Tuple(elts=parts) | ast.List(elts=parts) if isinstance(value, Items) and _fits(parts, value):
                for part, found in zip(parts, value.parts, strict=True):
                    self.bind(part, found, frame)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for place, part in enumerate(parts):
                    self.bind(part, digest("item", str(place), str(len(parts)), self.closed(value)), frame)
            case ast.Starred(value=part):
                self.bind(part, digest("rest", self.closed(value)), frame)
            case _:
                stored = digest("store", self.expression(target, frame), self.closed(value))
                frame.act(stored, base_of(target))

    def compound(self, node: ast.If | ast.For | ast.While | ast.With, frame: Frame) -> None:
        """Blocks under a condition, in a loop or a `with`. A name's later value combines its values after each."""
        kind, is_loop = type(node).__name__, isinstance(node, ast.For | ast.While)
        blocks = [node.body] if isinstance(node, ast.With) else [node.body, node.orelse]
        names = bound_by(node)
        with self.binding() as level:
            entered = dict(frame.scope)
            for place, name in enumerate(names if is_loop else ()):
                # At the start of a turn, a name holds its value from an earlier turn of the loop.
                entered[name] = digest("turn", level, str(place), self.closed(frame.scope.get(name, "")))
            head = self.head(node, frame, entered)
            frames = [Frame(dict(entered)) for _ in blocks]
            if isinstance(node, ast.For):
                self.bind(node.target, digest("each", level, *head), frames[0])
            elif isinstance(node, ast.With):
                for item, context in zip(node.items, head, strict=True):
                    if item.optional_vars is not None:
                        self.bind(item.optional_vars, digest("entered", context), frames[0])
            for block, inner in zip(blocks, frames, strict=True):
                self.block(block, inner)
        left = {name: [self.closed(inner.scope.get(name, "")) for inner in frames] for name in names}
        effects = digest(kind, *head, *(digest("effects", *inner.effects) for inner in frames))
        turns = digest(effects, *(value for row in left.values() for value in row)) if is_loop else ""
        if any(inner.effects for inner in frames):
            frame.effects.append(turns or effects)
            frame.acted |= any(inner.acted for inner in frames)
        changed = {name for inner in frames for name in inner.scope if inner.scope[name] != entered.get(name)}
        frame.change(sorted(changed - set(names)), turns or effects)
        for place, (name, row) in enumerate(left.items()):
            frame.scope[name] = digest("left", turns, str(place)) if is_loop else digest(kind, *head, *row)

    def head(self, node: ast.stmt, frame: Frame, entered: Scope) -> list[str]:
        match node:
            case ast.If(test=test):
                return [self.expression(test, frame)]
            case ast.While(test=test):
                return [self.expression(test, Frame(dict(entered)))]
            case ast.For(iter=iterable):
                return [self.expression(iterable, frame)]
            case ast.With(items=items):
                return [self.expression(item.context_expr, frame) for item in items]
            case _:
                raise NotUnderstood

    # Expressions.

    def value(self, node: ast.expr, frame: Frame) -> Value:
        """Like `expression`, but keep functions, so that calls of them are followed, and keep tuples."""
        match node:
            case ast.Name(id=name) if name in frame.scope:
                return frame.scope[name]
            case ast.Lambda():
                return Function(node, frame.scope)
            case ast.Tuple(elts=parts) if not any(isinstance(part, ast.Starred) for part in parts):
                return Items(tuple(self.expression(part, frame) for part in parts))
            case ast.Call():
                with self.nested():
                    return self.call(node, frame)
            case _:
                return self.expression(node, frame)

    def expression(self, node: ast.AST, frame: Frame) -> str:
        self.steps += 1
        if self.steps > STEP_LIMIT:
            raise NotUnderstood
        with self.nested():
            return self.operation(node, frame)

    def operation(self, node: ast.AST, frame: Frame) -> str:
        if (value := number(node)) is not None:
            return digest("number", repr(value))
        match node:
            case ast.Constant(value=constant):
                return digest("constant", type(constant).__name__, repr(constant))
            case ast.Name(id=name):
                return self.name(name, frame)
            case ast.Lambda():
                return self.abstract(Function(node, frame.scope))
            case ast.NamedExpr(target=target, value=expression):
                found = self.expression(expression, frame)
                self.bind(target, found, frame)
                return found
            case ast.BinOp(op=op) if isinstance(op, COMMUTATIVE):
                operands = list(chain(node, type(op)))
                parts = [self.expression(operand, frame) for operand in operands]
                # + also joins sequences, whose order matters.
                is_ordered = any(isinstance(operand, SEQUENCES) or is_text(operand) for operand in operands)
                return digest(type(op).__name__, *(parts if is_ordered else sorted(parts)))
            case ast.Compare(left=left, ops=[comparison], comparators=[right]):
                pair = [self.expression(left, frame), self.expression(right, frame)]
                if isinstance(comparison, SYMMETRIC):
                    return digest(type(comparison).__name__, *sorted(pair))
                mirrored = MIRRORED.get(type(comparison))
                return digest(mirrored, *reversed(pair)) if mirrored else digest(type(comparison).__name__, *pair)
            case ast.Call():
                return self.closed(self.call(node, frame))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self.comprehension(node, frame)
            case ast.Await() | ast.Yield() | ast.YieldFrom():
                raise NotUnderstood
            case _:
                return self.generic(node, frame)

    def result(self, node: ast.expr | None, frame: Frame) -> Value:
        return digest("constant", "NoneType", "None") if node is None else self.value(node, frame)

    def generic(self, node: ast.AST, frame: Frame) -> str:
        """The digest of any other node: its kind and its parts."""
        parts = [type(node).__name__]
        for field, part in ast.iter_fields(node):
            if not isinstance(part, ast.expr_context):
                for each in part if isinstance(part, list) else [part]:
                    parts += [field, self.expression(each, frame) if isinstance(each, ast.AST) else repr(each)]
        return digest(*parts)

    def name(self, name: str, frame: Frame) -> str:
        if name in frame.scope:
            return self.closed(frame.scope[name])
        return self.dotted(f"builtins.{name}" if hasattr(builtins, name) else f"unknown.{name}")

    @staticmethod
    def dotted(path: str) -> str:
        """A module, or an import from one: attributes of the first name, as if the path were written out."""
        dots = len(path) - len(path.lstrip("."))
        first, *rest = path[dots:].split(".")
        found = digest("module", path[:dots] + first)
        for attribute in rest:
            found = digest("Attribute", "value", found, "attr", repr(attribute))
        return found

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, frame: Frame) -> str:
        inner, parts = Frame(dict(frame.scope)), [type(node).__name__]
        with self.binding() as level:
            for place, generator in enumerate(node.generators):
                parts.append(self.expression(generator.iter, inner))
                self.bind(generator.target, digest("bound", level, str(place)), inner)
                parts += ["if", *(self.expression(test, inner) for test in generator.ifs)]
            results = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
            parts += [self.expression(result, inner) for result in results]
        return digest(*parts)

    # Calls.

    def call(self, node: ast.Call, frame: Frame) -> Value:
        function = self.value(node.func, frame)
        arguments = [self.value(argument, frame) for argument in node.args]
        named = {keyword.arg: self.value(keyword.value, frame) for keyword in node.keywords if keyword.arg}
        spread = [self.expression(keyword.value, frame) for keyword in node.keywords if keyword.arg is None]
        is_plain = not spread and not any(isinstance(argument, ast.Starred) for argument in node.args)
        if isinstance(function, Function) and is_plain:
            value, acted = self.apply(function, arguments, named)
            if acted:
                frame.act(self.closed(value), names_in(node))
            return value
        closed = [self.closed(argument) for argument in arguments]
        found = digest("Call", self.closed(function), *closed, "keywords", *self.pairs(named), "spread", *spread)
        if "out" in named:
            frame.act(found, names_in(node))
        elif isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
            frame.act(found, base_of(node.func))
        return found

    def apply(self, function: Function, arguments: Sequence[Value], named: Mapping[str, Value]) -> tuple[Value, bool]:
        """The result of a call, and whether it changes anything."""
        parameters, outer = function.node.args, Frame(function.scope)
        scope: Scope = dict(function.scope)
        positional = [argument.arg for argument in (*parameters.posonlyargs, *parameters.args)]
        keywords = [argument.arg for argument in parameters.kwonlyargs]
        defaults = [None] * (len(positional) - len(parameters.defaults)) + [
            *parameters.defaults,
            *parameters.kw_defaults,
        ]
        for name, default in zip((*positional, *keywords), defaults, strict=True):
            if default is not None:
                scope[name] = self.value(default, outer)
        scope.update(zip(positional, arguments, strict=False))
        scope.update({name: value for name, value in named.items() if name in (*positional, *keywords)})
        rest = [self.closed(argument) for argument in arguments[len(positional) :]]
        others = self.pairs({name: value for name, value in named.items() if name not in (*positional, *keywords)})
        if (rest and not parameters.vararg) or (others and not parameters.kwarg):
            raise NotUnderstood
        if parameters.vararg:
            scope[parameters.vararg.arg] = digest("rest", *rest)
        if parameters.kwarg:
            scope[parameters.kwarg.arg] = digest("others", *others)
        return self.run(function.node, scope)

    def run(self, node: ast.FunctionDef | ast.Lambda, scope: Scope) -> tuple[Value, bool]:
        """The result of a function, and whether it changes anything, in a scope that holds its arguments."""
        if self.depth >= DEPTH_LIMIT:
            raise NotUnderstood
        self.depth += 1
        self.nesting += 1
        frame = Frame(scope)
        if isinstance(node, ast.Lambda):
            result, decorators = self.value(node.body, frame), list[str]()
        else:
            decorators = [self.expression(decorator, frame) for decorator in node.decorator_list]
            last = node.body[-1]
            self.block(node.body[:-1] if isinstance(last, ast.Return) else node.body, frame)
            result = self.result(last.value if isinstance(last, ast.Return) else None, frame)
        self.depth -= 1
        self.nesting -= 1
        if not decorators and not frame.effects:
            # A call of this function is the same as its expression.
            return result, False
        return digest("run", *decorators, "effects", *frame.effects, "result", self.closed(result)), frame.acted

    def abstract(self, function: Function) -> str:
        """A function as a value: its result for arguments that are known only by their positions."""
        parameters, outer = function.node.args, Frame(function.scope)
        places = [*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs]
        defaults = [value for value in (*parameters.defaults, *parameters.kw_defaults) if value is not None]
        scope: Scope = dict(function.scope)
        with self.binding() as level:
            for place, argument in enumerate([*places, parameters.vararg, parameters.kwarg]):
                if argument is not None:
                    scope[argument.arg] = digest("bound", level, str(place))
            body, _ = self.run(function.node, scope)
        return digest(
            "function", str(len(places)), *(self.expression(value, outer) for value in defaults), self.closed(body)
        )

    def pairs(self, named: Mapping[str, Value]) -> list[str]:
        return [part for name in sorted(named) for part in (name, self.closed(named[name]))]

    def closed(self, value: Value) -> str:
        match value:
            case Items():
                return value.whole
            case Function():
                return self.abstract(value)
            case _:
                return value

    @contextmanager
    def nested(self) -> Iterator[None]:
        self.nesting += 1
        if self.nesting > NESTING_LIMIT:
            raise NotUnderstood
        yield
        self.nesting -= 1

    @contextmanager
    def binding(self) -> Iterator[str]:
        """Enter a level at which names are bound, to separate names of an inner loop or function from outer ones."""
        self.level += 1
        yield str(self.level)
        self.level -= 1
