"""Decide which code of a recipe runs: the text of `algorithm.py`, and our copy of a known `rollouts.py`.

A candidate's own `rollouts.py` is compared and never executed.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import PurePosixPath

from poise_git.errors import CheckFailed
from poise_git.package_data import template_files
from poise_git.untrusted import source_text

ALGORITHM, ROLLOUTS = "algorithm.py", "rollouts.py"
# SHA-256 of every `rollouts.py` that an archive may hold -> its version. A text once listed stays, so that archives
# stay readable.
KNOWN_ROLLOUTS: Mapping[str, str] = {
    "ddbb230624810f052f5b86b95ea0de9a52826731b73c2dfca75686d6afb4ff7b": "1",
}
# The place of our copy of a version among the files of the template.
_COPIES: Mapping[str, str] = {"1": "recipe/rollouts.py"}
# Files that start verl by hand. Our own runs do not load them.
_BESIDE = frozenset(("__init__.py", "main_poise.py", "poise_registration.py", "poise_reward.py"))
_LOADABLE = (*all_suffixes(), ".pyw", ".pyi", ".pth", ".so", ".pyd", ".zip", ".egg")


@dataclass(frozen=True)
class Algorithm:
    """The input of a candidate's process: a text, and the version of `rollouts.py` that it imports."""

    text: str
    rollouts: str


def algorithm_of(recipe: Mapping[str, str]) -> Algorithm:
    """The part of a recipe (path below `recipe/` -> text) that runs.

    Raises:
        CheckFailed: `files`: a file is missing, unknown or superfluous.
    """
    if problem := files_problem(recipe):
        raise CheckFailed("files", problem)
    return Algorithm(recipe[ALGORITHM], KNOWN_ROLLOUTS[_digest(recipe[ROLLOUTS])])


def runnable(recipe: Mapping[str, str]) -> dict[str, str]:
    """The two texts that run, by their names: the candidate's algorithm and our copy of its rollouts.py.

    Raises:
        CheckFailed: as `algorithm_of`.
    """
    algorithm = algorithm_of(recipe)
    return {ALGORITHM: algorithm.text, ROLLOUTS: rollouts_text(algorithm.rollouts)}


@functools.cache
def rollouts_text(version: str) -> str:
    """Our copy of a version of `rollouts.py`, the text that runs beside an algorithm.

    Raises:
        CheckFailed: `files`: there is no such version, or the installation is damaged.
    """
    text = template_files().get(_COPIES.get(version, ""), "")
    if KNOWN_ROLLOUTS.get(_digest(text)) != version:
        raise CheckFailed("files", f"this installation has no rollouts.py of version {version!r}; reinstall poise-git")
    return text


def files_problem(recipe: Mapping[str, str]) -> str | None:
    """The problem with the files of a recipe, in words for its author; None if there is none."""
    for name in (ALGORITHM, ROLLOUTS):
        if name not in recipe:
            return f"there is no {name}"
    for path in sorted(recipe):
        if _is_loadable(path) and path not in (ALGORITHM, ROLLOUTS, *_BESIDE):
            return f"{path}: Python could load it instead of another module; remove it"
    if _digest(recipe[ROLLOUTS]) not in KNOWN_ROLLOUTS:
        return f"{ROLLOUTS} is not a version that poise-git knows; restore it: git checkout main -- recipe/{ROLLOUTS}"
    if "__init__.py" in recipe and not _is_documentation(recipe["__init__.py"]):
        return "__init__.py may hold only a docstring"
    return None


def _is_loadable(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    return name.endswith(_LOADABLE)


def _is_documentation(text: str) -> bool:
    try:
        body = source_text.parse(text).body
    except source_text.SourceRefused:
        return False
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
