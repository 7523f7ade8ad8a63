"""Find the repository that contains a folder. Git finds it, so git decides whether it may be opened.

Git refuses repositories of other users (`safe.directory` in git-config(1)), because their configuration can make git
run commands as you. It checks this only when it searches for the repository, not when GIT_DIR is set.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from poise_git.archive.command import complaint, run_git
from poise_git.archive.links import refuse_special_files
from poise_git.errors import ArchiveError, ForeignArchive, NotAnArchive

_LONGEST_LINK = 8192


@dataclass(frozen=True)
class Place:
    """The location of a repository; `work_tree` is the folder that contains its `.git`, None for a bare one."""

    git_dir: Path
    work_tree: Path | None


def find_repository(path: Path) -> Place:
    """The repository that contains `path`, or the nearest existing parent folder if `path` does not exist.

    Raises:
        NotAnArchive: there is no repository.
        ForeignArchive: it belongs to another user, and `safe.directory` does not list it.
        ArchiveError: git cannot open it, or `safe.bareRepository` forbids it.
    """
    try:
        start = path.expanduser().resolve()
    except FileNotFoundError:
        raise NotAnArchive("the current folder no longer exists; change to another one: cd DIR") from None
    folder = next(each for each in (start, *start.parents) if each.is_dir())
    inside = (each / ".git" for each in (folder, *folder.parents))
    refuse_special_files(next((each for each in inside if each.is_dir()), folder))
    done = run_git(("rev-parse", "--absolute-git-dir"), folder)
    if done.returncode == 0:
        git_dir = Path(os.fsdecode(done.stdout.removesuffix(b"\n")))
        # Do not use the top that git reports: a configuration may name any folder as its work tree.
        work_tree = next((each for each in (folder, *folder.parents) if _leads_to(each, git_dir)), None)
        return Place(git_dir, work_tree)
    said = complaint(done.stderr)
    if "dubious ownership" in said:
        owned = shlex.quote(str(next(_candidates(folder), folder)))
        raise ForeignArchive(
            f"{owned}: belongs to another user, whose settings could run commands as you; if you trust its owner: "
            f"git config --global --add safe.directory {owned}"
        )
    if "safe.bareRepository" in said:
        bare = shlex.quote(str(folder))
        raise ArchiveError(f"{bare}: {said.removeprefix('fatal: ')}; work in a clone of it: git clone {bare} DIR")
    if "not a git repository" in said and "(or any" in said:
        raise NotAnArchive(f"{path}: no archive here; create one: poise-git init {shlex.quote(str(path))}")
    raise ArchiveError(f"{path}: git rev-parse: {said or f'exit status {done.returncode}'}")


def _leads_to(folder: Path, git_dir: Path) -> bool:
    """Whether `folder/.git` is `git_dir`, or a link or file that points to it."""
    inside = folder / ".git"
    try:
        if inside.is_file():
            with inside.open(encoding="utf-8", errors="surrogateescape") as file:
                target = file.read(_LONGEST_LINK).rstrip("\n").removeprefix("gitdir: ")
            inside = folder / target
        return inside.resolve() == git_dir.resolve()
    except (OSError, ValueError):
        return False


def _candidates(folder: Path) -> Iterator[Path]:
    """The folders, from `folder` upwards, that git would accept as the top of a repository."""
    for each in (folder, *folder.parents):
        inside = each / ".git"
        if inside.is_file() or _is_git_dir(inside) or _is_git_dir(each):
            yield each


def _is_git_dir(folder: Path) -> bool:
    return (folder / "HEAD").exists() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
