"""Turning a recipe's texts into modules, without a file: what was checked is character for character what runs."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping
from types import ModuleType

from poise_git.pipeline.recipe import ALGORITHM, ROLLOUTS

# A package name that nothing installed has: some wheels bring a top-level `recipe`.
PACKAGE = "poise_candidate"
# In the order in which they are executed.
_FILES = (ROLLOUTS, ALGORITHM)


def load(recipe: Mapping[str, str], package: str = PACKAGE) -> ModuleType:
    """`recipe`'s algorithm.py as the module `package`.algorithm, beside its rollouts.py.

    Raises: whatever the candidate's code raises.
    """
    # What an earlier load left, its state included, is not this recipe's.
    for name in (package, *(_name(package, file) for file in _FILES)):
        sys.modules.pop(name, None)
    home = ModuleType(package)
    home.__path__ = []
    sys.modules[package] = home
    for file in _FILES:
        module = _execute(_name(package, file), file, recipe[file])
    return module


def _name(package: str, file: str) -> str:
    return f"{package}.{file.removesuffix('.py')}"


def _execute(name: str, file: str, text: str) -> ModuleType:
    module = ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    module.__file__ = file
    sys.modules[name] = module
    # So that a traceback quotes the line.
    linecache.cache[file] = (len(text), None, [f"{line}\n" for line in text.split("\n")], file)
    exec(compile(text, file, "exec", dont_inherit=True), vars(module))
    return module
