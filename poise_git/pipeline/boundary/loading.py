"""Turn a recipe's texts into modules without a file, so that the code that runs is exactly the checked text."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping
from types import ModuleType

from poise_git.pipeline.recipe import ALGORITHM, ROLLOUTS

# A package name that no installed package uses: some wheels have a top-level `recipe`.
PACKAGE = "poise_candidate"
# In the order of execution.
_FILES = (ROLLOUTS, ALGORITHM)


def load(recipe: Mapping[str, str], package: str = PACKAGE) -> ModuleType:
    """`recipe`'s algorithm.py as the module `package`.algorithm, beside its rollouts.py.

    Raises: any exception of the candidate's code.
    """
    # Drop the modules of an earlier load, with their state.
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
    # With this entry, tracebacks quote the line.
    linecache.cache[file] = (len(text), None, [f"{line}\n" for line in text.split("\n")], file)
    exec(compile(text, file, "exec", dont_inherit=True), vars(module))
    return module
