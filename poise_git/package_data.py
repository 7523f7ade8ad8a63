"""Files that ship beside the code: the recipe template, the prompts and the hooks.

They are top-level folders of the source tree; a wheel carries them as `poise_git/data/`.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    packaged = PACKAGE / "data" / name
    return packaged if packaged.is_dir() else PACKAGE.parent / name


def _files(name: str) -> dict[str, str]:
    folder = _folder(name)
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def template_files() -> dict[str, str]:
    """The files of a new archive: path -> text."""
    return _files("recipe_template")


def hook_files() -> dict[str, str]:
    """The git hooks of an archive: hook name -> script."""
    return _files("hooks")


def read_prompt(name: str) -> str:
    """The Jinja2 template `prompts/<name>`.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    return (_folder("prompts") / name).read_text(encoding="utf-8")
