"""Check a candidate's text; nothing here executes it.

This is a convenience, not a security layer: it reports forbidden names early and clearly. The sandbox contains anything
that passes. The lists are in `allowed`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from poise_git.pipeline.checks import constructs
from poise_git.pipeline.checks.constructs import constant_problem, line_of
from poise_git.pipeline.checks.registry import CheckFunction, ordered
from poise_git.pipeline.recipe import ALGORITHM, files_problem
from poise_git.untrusted import source_text
from poise_git.untrusted.source_text import SIZE_LIMIT, SourceRefused

__all__ = ["SIZE_LIMIT", "STATIC", "Sources"]
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


@dataclass(frozen=True)
class Sources:
    """A candidate's recipe and its parent's, file name -> text."""

    recipe: Mapping[str, str]
    parent: Mapping[str, str]

    @property
    def algorithm(self) -> str:
        return self.recipe[ALGORITHM]

    @cached_property
    def tree(self) -> ast.Module:
        """Raises SourceRefused."""
        return source_text.parse(self.algorithm)

    @cached_property
    def names(self) -> constructs.Names:
        return constructs.Names.of(self.tree)

    @property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}


# Name this many files in a line.
NAMED = 3


def _files(sources: Sources) -> str | None:
    if sources.recipe.keys() == {ALGORITHM} and not sources.parent:
        # A hook checks the text alone, without the other files.
        return None
    if problem := files_problem(sources.recipe):
        return problem
    names = {*sources.recipe, *sources.parent} - {ALGORITHM}
    changed = sorted(name for name in names if sources.recipe.get(name) != sources.parent.get(name))
    if not changed:
        return None
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return f"{', '.join(changed[:NAMED])}{more} must stay as in the parent; a candidate may change only {ALGORITHM}"


def _refusals(check: str) -> CheckFunction[Sources]:
    """The check that reports a refusal of `source_text` for that reason."""

    def refused(sources: Sources) -> str | None:
        try:
            tree = sources.tree
            if check == "parse":
                source_text.require_compiles(tree)
        except SourceRefused as refusal:
            return str(refusal) if refusal.check == check else None
        return None

    return refused


def _of_tree(check: CheckFunction[Sources]) -> CheckFunction[Sources]:
    """A check that fails, without raising, if the text has no tree."""

    def checked(sources: Sources) -> str | None:
        try:
            return check(sources)
        except SourceRefused as refusal:
            return str(refusal)

    return checked


def _module_level(sources: Sources) -> str | None:
    for position, node in enumerate(sources.tree.body):
        is_docstring = position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if not all(isinstance(target, ast.Name) for target in targets):
                return f"{line_of(node)}: a module-level constant needs a plain name"
            if node.value is not None and (problem := constant_problem(node.value)):
                return f"{line_of(node)}: a module-level value must be a constant, {problem}"
            continue
        if not isinstance(node, ast.FunctionDef):
            return f"{line_of(node)}: only imports, constants and functions are allowed at module level"
        for value in (*node.args.defaults, *(value for value in node.args.kw_defaults if value is not None)):
            if problem := constant_problem(value):
                return f"{line_of(value)}: the defaults of {node.name} must be constants, {problem}"
        if problem := constructs.decorator_problem(node, sources.names):
            return problem
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
            return f"{line_of(function)}: expected {expected}, found {name}({', '.join(found)})"
        if len(found) - len(arguments.defaults) > required:
            return f"{line_of(function)}: {', '.join(parameters[required:])} of {name} must have defaults"
    return None


STATIC: tuple[tuple[str, CheckFunction[Sources]], ...] = ordered(
    "static",
    {
        "files": _files,
        "size": _refusals("size"),
        "text": _refusals("text"),
        "parse": _refusals("parse"),
        "module-level": _of_tree(_module_level),
        "entry-points": _of_tree(_entry_points),
        "imports": _of_tree(lambda sources: constructs.imports_problem(sources.tree)),
        "syntax": _of_tree(lambda sources: constructs.syntax_problem(sources.tree, sources.names)),
        "names": _of_tree(lambda sources: constructs.names_problem(sources.tree, sources.names)),
        "attributes": _of_tree(lambda sources: constructs.attributes_problem(sources.tree, sources.names)),
    },
)
