"""An archive's git configuration: the `git lineage` alias, the transfer of notes, and the hooks.

Every step can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from poise_git.archive.entries import ROOT
from poise_git.archive.git import GitFailed, Repository
from poise_git.archive.refs import (
    CANDIDATES,
    EVIDENCE,
    JOURNAL,
    METRICS_NOTES,
    NOTES,
    REFLECTION_NOTES,
    RESULT_NOTES,
    TRAJECTORY_NOTES,
)
from poise_git.archive.work_tree import replace_file

# A note ends with a newline. %-e is empty, and so removes the newlines before it: one line per candidate.
LINEAGE = "log --graph --branches='poise/*' --notes='poise/result' --format='%C(auto)%h %N%-e%d %s'"
# The mark of our own hooks: a newer version may replace them, but not a person's hook.
HOOK_MARK = "# poise-git hook:"
KEPT = ".local"


def settings() -> dict[str, str]:
    """Configuration keys of an archive and their values."""
    merge = {
        f"notes.{ref.removeprefix('refs/notes/')}.mergeStrategy": "cat_sort_uniq"
        for ref in (METRICS_NOTES, REFLECTION_NOTES, TRAJECTORY_NOTES)
    }
    # If two clones have measured a candidate, either line will do; `poise-git doctor --repair` rewrites the results.
    merge[f"notes.{RESULT_NOTES.removeprefix('refs/notes/')}.mergeStrategy"] = "theirs"
    return {"alias.lineage": LINEAGE, "notes.rewriteRef": f"{NOTES}*", **merge}


# Every fetch of a remote also brings its notes. The refspec is not forced: if notes have grown on both sides, git
# refuses the fetch, where a forced one would lose our lines.
NOTES_REFSPEC = f"{NOTES}*:{NOTES}*"


def archive_refspecs() -> tuple[str, ...]:
    """The refspecs of the whole archive, for the first fetch into a clone.

    Do not put them into the configuration: git refuses a whole fetch that could write to a checked-out branch. All are
    patterns, because git also refuses to fetch a single ref that the remote does not have.
    """
    return (*(f"{prefix}*:{prefix}*" for prefix in (CANDIDATES, EVIDENCE, JOURNAL)), NOTES_REFSPEC)


def missing_settings(repository: Repository) -> dict[str, str]:
    return {key: value for key, value in settings().items() if value not in _values(repository, key)}


def configure(repository: Repository) -> None:
    """Set the missing keys and the refspecs of every remote."""
    repository.refuse_links()
    for key, value in missing_settings(repository).items():
        # `notes.rewriteRef` may have further values of a person; every other key has exactly one value.
        how = "--add" if key == "notes.rewriteRef" else "--replace-all"
        repository.run("config", how, key, value)
    for remote in remotes(repository):
        add_refspecs(repository, remote)


def remotes(repository: Repository) -> list[str]:
    return repository.lines("remote")


def origin(repository: Repository) -> str | None:
    """The remote from which this clone gets its candidates."""
    # Git does not create a remote whose name begins with a hyphen, but a configuration may name one.
    named = (remote for remote in remotes(repository) if not remote.startswith("-"))
    found = (remote for remote in named if repository.object_id(f"refs/remotes/{remote}/poise/{ROOT}"))
    return next(found, None)


def fetches_notes(repository: Repository, remote: str) -> bool:
    return not {NOTES_REFSPEC, f"+{NOTES_REFSPEC}"}.isdisjoint(_values(repository, f"remote.{remote}.fetch"))


def add_refspecs(repository: Repository, remote: str) -> None:
    """Configure `git fetch` to also fetch the notes of `remote`."""
    if not fetches_notes(repository, remote):
        repository.run("config", "--add", f"remote.{remote}.fetch", NOTES_REFSPEC)


@dataclass(frozen=True)
class HookFolder:
    """The folder of git's hooks; `own` says whether it is inside the repository, where we may write."""

    path: Path
    own: bool


def hook_folder(repository: Repository) -> HookFolder:
    """The folder that `core.hooksPath` names, or else the repository's."""
    # The path is relative to the folder where git runs hooks: the top of the work tree, or the bare repository.
    base = repository.work_tree or repository.git_dir
    path = (base / repository.text("rev-parse", "--git-path", "hooks")).resolve()
    homes = [repository.common_dir.resolve(), *([repository.work_tree.resolve()] if repository.work_tree else [])]
    return HookFolder(path, any(path.is_relative_to(home) for home in homes))


def install_hooks(repository: Repository, hooks: Mapping[str, str]) -> None:
    """Install hooks (name -> script) in git's hooks folder, if it is inside the repository.

    A person's hook of the same name is kept beside it as NAME.local, and our hook calls it.
    """
    folder = hook_folder(repository)
    if not folder.own:
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    for name, script in hooks.items():
        path, kept = folder.path / name, folder.path / f"{name}{KEPT}"
        if not _is_ours(path) and path.exists():
            if kept.exists() and kept.read_bytes() != path.read_bytes():
                continue
            path.replace(kept)
        replace_file(path, script.encode(), 0o755)


def local_hooks(repository: Repository) -> tuple[str, ...]:
    """The names of the person's own hooks that our hooks call."""
    return tuple(sorted(path.name.removesuffix(KEPT) for path in hook_folder(repository).path.glob(f"*{KEPT}")))


@dataclass(frozen=True)
class MissingHook:
    """A hook that does not run: it is missing, is an older version, or two other hooks are in its place (`kept`)."""

    name: str
    kept: bool


def missing_hooks(repository: Repository, hooks: Mapping[str, str]) -> list[MissingHook]:
    """The hooks that are missing, or older versions of ours."""
    folder = hook_folder(repository).path
    return [
        MissingHook(name, kept=(folder / f"{name}{KEPT}").exists() and not _is_ours(folder / name))
        for name, script in hooks.items()
        if not (folder / name).is_file() or (folder / name).read_text(errors="replace") != script
    ]


def _is_ours(path: Path) -> bool:
    return path.is_file() and HOOK_MARK in path.read_text(errors="replace")


def _values(repository: Repository, key: str) -> list[str]:
    with suppress(GitFailed):
        return repository.lines("config", "--local", "--get-all", key)
    return []
