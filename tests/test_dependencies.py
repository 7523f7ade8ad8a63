"""Packages depend on one another in one direction, and the root package is small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import poise_git

PACKAGE = Path(poise_git.__file__).parent
# Each package may import only from those below it.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"loop", "operators", "template"},
    {"steps"},
    {"agents"},
    {"events", "experiment"},
    {"integrity"},
    {"pipeline"},
    {"analysis", "search"},
    {"measurement"},
    {"user"},
    {"archive"},
    {"settings"},
    {"package_data", "untrusted"},
    {"errors"},
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def rooms() -> Iterator[str]:
    for path in PACKAGE.iterdir():
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.stem != "__init__"):
            yield path.stem


def imported_rooms(file: Path) -> Iterator[tuple[int, str]]:
    """The packages that a module imports from, anywhere in its text, with the line."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            package, room = [*module.split("."), ""][:2]
            if package == "poise_git" and room not in ("", "__version__"):
                yield node.lineno, room


def test_every_package_has_a_level() -> None:
    assert set(rooms()) == set(FLOOR_OF)


def test_the_root_holds_few_modules() -> None:
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(loose) <= 8


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_imports_go_down(room: str) -> None:
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else sorted((PACKAGE / room).rglob("*.py"))
    wrong = [
        f"{file.relative_to(PACKAGE)}:{line} imports {other}"
        for file in files
        for line, other in imported_rooms(file)
        if other != room and FLOOR_OF[other] <= FLOOR_OF[room]
    ]
    assert wrong == []


def test_the_loop_fits_on_four_screens() -> None:
    assert len((PACKAGE / "loop.py").read_text(encoding="utf-8").splitlines()) <= 200
