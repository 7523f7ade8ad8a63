from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from poise_git.package_data import template_files


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The template's `recipe/` as a package of a private name, as backends load it."""
    folder: Path = tmp_path_factory.mktemp("recipe")
    package = folder / "template_recipe"
    package.mkdir()
    for path, text in template_files().items():
        if path.startswith("recipe/"):
            file = package / path.removeprefix("recipe/")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("template_recipe.algorithm")
    sys.path.remove(str(folder))
