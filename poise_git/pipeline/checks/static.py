"""What can be told from a candidate's text alone; nothing here executes it.

A convenience, not a wall: it catches honest mistakes early, and the sandbox holds whatever gets past it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from poise_git.pipeline.checks.registry import CheckFunction, ordered

SIZE_LIMIT = 64 * 1024
_ALGORITHM = "algorithm.py"
_IMPORTABLE = frozenset(
    ("__future__", "math", "typing", "collections.abc", "torch", "torch.nn", "torch.nn.functional", ".rollouts")
)
_FORBIDDEN_NAMES = frozenset(
    (
        *("eval", "exec", "compile", "open", "input", "breakpoint", "globals", "locals", "vars", "dir", "help"),
        *("exit", "quit", "memoryview", "object", "type", "super", "id"),
    )
)
# These take the name of an attribute as text; with anything but a harmless literal the check could not see it.
_BY_NAME = frozenset(("getattr", "setattr", "delattr", "hasattr"))
_FORBIDDEN_ATTRIBUTES = frozenset(
    (
        *("load", "save", "hub", "jit", "distributed", "ops", "classes", "library", "utils", "package", "compile"),
        *("multiprocessing", "serialization", "storage", "from_file", "tofile", "numpy", "share_memory_", "futures"),
        *("manual_seed", "seed", "set_rng_state", "set_default_dtype", "set_default_device", "set_default_tensor_type"),
        *("set_num_threads", "set_num_interop_threads", "use_deterministic_algorithms", "set_grad_enabled"),
    )
)
_ENTRY_POINTS: Mapping[str, tuple[tuple[str, ...], int]] = {
    # Parameters in order, and how many of them a caller must give.
    "compute_advantages": (("token_level_rewards", "response_mask", "index", "config"), 3),
    "policy_loss": (
        *(
            (
                "old_log_prob",
                "log_prob",
                "advantages",
                "response_mask",
                "loss_agg_mode",
                "config",
                "rollout_is_weights",
            ),
        ),
        4,
    ),
}
_NO_GRADIENT = "torch.no_grad()"


@dataclass(frozen=True)
class Sources:
    """A candidate's recipe and its parent's, file name -> text."""

    recipe: Mapping[str, str]
    parent: Mapping[str, str]

    @property
    def algorithm(self) -> str:
        return self.recipe[_ALGORITHM]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.algorithm, _ALGORITHM)

    @property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}


def _files(sources: Sources) -> str | None:
    if _ALGORITHM not in sources.recipe:
        return f"there is no {_ALGORITHM}"
    names = {*sources.recipe, *sources.parent} - {_ALGORITHM}
    changed = sorted(name for name in names if sources.recipe.get(name) != sources.parent.get(name))
    return f"{', '.join(changed)} must stay as in the parent; only {_ALGORITHM} evolves" if changed else None


def _size(sources: Sources) -> str | None:
    size = len(sources.algorithm.encode(errors="surrogatepass"))
    return f"{_ALGORITHM} has {size} bytes, {SIZE_LIMIT} are allowed" if size > SIZE_LIMIT else None


def _parse(sources: Sources) -> str | None:
    try:
        compile(sources.tree, _ALGORITHM, "exec", dont_inherit=True)
    except SyntaxError as error:
        code = (error.text or "").strip()
        return f"line {error.lineno}: {error.msg}" + (f", at: {code}" if code else "")
    except (ValueError, RecursionError, MemoryError) as error:
        return f"the text cannot be parsed: {error}"
    return None


def _imports(sources: Sources) -> str | None:
    for node in ast.walk(sources.tree):
        for module in _imported_modules(node):
            if module not in _IMPORTABLE:
                allowed = ", ".join(sorted(_IMPORTABLE))
                return f"{_line(node)}: imports {module}; allowed are {allowed}"
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if alias.name == "*" or alias.name in _FORBIDDEN_ATTRIBUTES or _is_private(alias.name):
                return f"{_line(node)}: imports {alias.name!r} from {node.module}, which is not allowed"  # type: ignore[attr-defined]
    return None


def _names(sources: Sources) -> str | None:
    for node in ast.walk(sources.tree):
        if isinstance(node, ast.Name) and (node.id in _FORBIDDEN_NAMES or _is_dunder(node.id)):
            return f"{_line(node)}: uses {node.id}, which is not allowed"
        if isinstance(node, ast.Name) and node.id in _BY_NAME and not _is_literal_access(node, sources.tree):
            return f"{_line(node)}: {node.id} is allowed only as a call with a literal, public attribute name"
    return None


def _attributes(sources: Sources) -> str | None:
    for node in ast.walk(sources.tree):
        if isinstance(node, ast.Attribute) and (node.attr in _FORBIDDEN_ATTRIBUTES or _is_private(node.attr)):
            return f"{_line(node)}: uses the attribute .{node.attr}, which is not allowed"
    return None


def _module_level(sources: Sources) -> str | None:
    for position, node in enumerate(sources.tree.body):
        is_docstring = position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign):
            if node.value is None or _is_constant(node.value):
                continue
            return f"{_line(node)}: a module-level value must be a constant, this one is computed"
        if not isinstance(node, ast.FunctionDef):
            return f"{_line(node)}: only imports, constants and functions may stand at module level"
        defaults = (*node.args.defaults, *(value for value in node.args.kw_defaults if value is not None))
        if not all(map(_is_constant, defaults)):
            return f"{_line(node)}: the defaults of {node.name} must be constants"
        if any(ast.unparse(decorator) != _NO_GRADIENT for decorator in node.decorator_list):
            return f"{_line(node)}: {node.name} may have no decorator but @{_NO_GRADIENT}"
    return None


def _entry_points(sources: Sources) -> str | None:
    for name, (parameters, required) in _ENTRY_POINTS.items():
        expected = f"{name}({', '.join(parameters)})"
        function = sources.functions.get(name)
        if function is None:
            return f"there is no function {expected}"
        arguments = function.args
        found = tuple(argument.arg for argument in (*arguments.posonlyargs, *arguments.args))
        optional_extras = len(found) - len(arguments.defaults) <= len(parameters) and all(
            value is not None for value in arguments.kw_defaults
        )
        if found[: len(parameters)] != parameters or arguments.posonlyargs or not optional_extras:
            return f"{_line(function)}: expected {expected}, found {name}({', '.join(found)})"
        if len(found) - len(arguments.defaults) > required:
            return f"{_line(function)}: {', '.join(parameters[required:])} of {name} must have defaults"
    return None


STATIC: tuple[tuple[str, CheckFunction[Sources]], ...] = ordered(
    "static",
    {
        "files": _files,
        "size": _size,
        "parse": _parse,
        "imports": _imports,
        "names": _names,
        "attributes": _attributes,
        "module-level": _module_level,
        "entry-points": _entry_points,
    },
)


def _imported_modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield "." * node.level + (node.module or "")


def _is_literal_access(name: ast.Name, tree: ast.Module) -> bool:
    """Is `name` the function of a call such as getattr(config, "field", None)?"""
    call = next((node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.func is name), None)
    if call is None or len(call.args) < 2 or not isinstance(call.args[1], ast.Constant):
        return False
    field = call.args[1].value
    return isinstance(field, str) and field not in _FORBIDDEN_ATTRIBUTES and not _is_private(field)


def _is_constant(node: ast.expr) -> bool:
    """No call, no comprehension, nothing that runs code."""
    harmless = (
        *(ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.UnaryOp, ast.BinOp, ast.Name, ast.Attribute),
        *(ast.Subscript, ast.expr_context, ast.operator, ast.unaryop),
    )
    return all(isinstance(part, harmless) for part in ast.walk(node))


def _is_dunder(name: str) -> bool:
    return name.startswith("__")


def _is_private(name: str) -> bool:
    return name.startswith("_")


def _line(node: ast.AST) -> str:
    return f"line {getattr(node, 'lineno', 0)}"
