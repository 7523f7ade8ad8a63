"""Make a recipe with one knob at another value, by an edit of its text only."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from poise_git.pipeline.recipe import ALGORITHM
from poise_git.untrusted import source_text

Value = bool | int | float | str | None


class NoSuchRecipe(Exception):
    """The text has no such knob; the message says which part is missing."""


@dataclass(frozen=True)
class Knob:
    """Keyword `argument` of `function`, at `value`."""

    function: str
    argument: str
    value: Value

    @property
    def recipe(self) -> str:
        """The name of the recipe with this knob at a host."""
        return str(self)

    def __str__(self) -> str:
        return f"{self.function}({self.argument}={self.value})"

    def set_in(self, text: str) -> str:
        """Return `text` with this default. Raises NoSuchRecipe."""
        found = [node for node in source_text.parse(text).body if isinstance(node, ast.FunctionDef)]
        function = next((node for node in found if node.name == self.function), None)
        if function is None:
            raise NoSuchRecipe(f"there is no function {self.function}")
        default = _defaults(function).get(self.argument)
        if default is None or default.end_lineno is None or default.end_col_offset is None:
            raise NoSuchRecipe(f"{self.function} has no keyword {self.argument} with a default")
        lines = text.encode().split(b"\n")
        first, last = lines[default.lineno - 1], lines[default.end_lineno - 1]
        edited = first[: default.col_offset] + self._literal.encode() + last[default.end_col_offset :]
        return b"\n".join([*lines[: default.lineno - 1], edited, *lines[default.end_lineno :]]).decode()

    @property
    def _literal(self) -> str:
        # Infinity and not-a-number have no literal.
        return f"float({str(self.value)!r})" if isinstance(self.value, float) else repr(self.value)


def knob_variants(
    recipe: Mapping[str, str], knobs: Iterable[Knob]
) -> tuple[dict[str, Mapping[str, str]], dict[str, str]]:
    """The recipe with each of the knobs, by `Knob.recipe`, and the problems of those that cannot be made."""
    variants: dict[str, Mapping[str, str]] = {}
    problems: dict[str, str] = {}
    for knob in knobs:
        try:
            variants[knob.recipe] = {**recipe, ALGORITHM: knob.set_in(recipe[ALGORITHM])}
        except NoSuchRecipe as error:
            problems[knob.recipe] = str(error)
    return variants, problems


def _defaults(function: ast.FunctionDef) -> dict[str, ast.expr]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {argument.arg: default for argument, default in pairs if default is not None}
