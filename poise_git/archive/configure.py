"""An archive's git configuration: the `git lineage` alias, how notes travel, and the hooks. All of it can be redone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from poise_git.archive.git import GitFailed, Repository
from poise_git.archive.refs import (
    CANDIDATES,
    EVIDENCE,
    JOURNAL,
    METRICS_NOTES,
    NOTES,
    REFLECTION_NOTES,
    TRAJECTORY_NOTES,
)

LINEAGE = "log --graph --oneline --decorate --branches='poise/*' --notes='poise/metrics'"
# What stands in a hook of ours, so that it may be replaced by a newer one, and a person's may not.
HOOK_MARK = "poise-git hook"


def settings() -> dict[str, str]:
    """Configuration keys of an archive and their values."""
    merge = {
        f"notes.{ref.removeprefix('refs/notes/')}.mergeStrategy": "cat_sort_uniq"
        for ref in (METRICS_NOTES, REFLECTION_NOTES, TRAJECTORY_NOTES)
    }
    return {"alias.lineage": LINEAGE, "notes.rewriteRef": f"{NOTES}*", **merge}


# What every fetch of a remote brings beside its branches. Not forced: notes only grow, so a fetch that cannot
# fast-forward has met somebody else's additions, and is refused rather than lose ours.
NOTES_REFSPEC = f"{NOTES}*:{NOTES}*"


def archive_refspecs() -> tuple[str, ...]:
    """All of an archive, for one fetch into a clone that has none of it yet.

    Not for the configuration: git refuses a whole fetch that could write to a branch which is checked out. All are
    patterns, because git also refuses to fetch a single ref that the remote does not have.
    """
    return (*(f"{prefix}*:{prefix}*" for prefix in (CANDIDATES, EVIDENCE, JOURNAL)), NOTES_REFSPEC)


def missing_settings(repository: Repository) -> dict[str, str]:
    return {key: value for key, value in settings().items() if value not in _values(repository, key)}


def configure(repository: Repository) -> None:
    """Set what is missing, and the refspecs of every remote."""
    for key, value in missing_settings(repository).items():
        # A person may rewrite further notes, but there is one alias and one way to merge.
        how = "--add" if key == "notes.rewriteRef" else "--replace-all"
        repository.run("config", how, key, value)
    for remote in remotes(repository):
        add_refspecs(repository, remote)


def remotes(repository: Repository) -> list[str]:
    return repository.text("remote").splitlines()


def fetches_notes(repository: Repository, remote: str) -> bool:
    return not {NOTES_REFSPEC, f"+{NOTES_REFSPEC}"}.isdisjoint(_values(repository, f"remote.{remote}.fetch"))


def add_refspecs(repository: Repository, remote: str) -> None:
    """Let `git fetch` bring the notes of `remote` too, beside its branches."""
    if not fetches_notes(repository, remote):
        repository.run("config", "--add", f"remote.{remote}.fetch", NOTES_REFSPEC)


def install_hooks(repository: Repository, hooks: Mapping[str, str]) -> None:
    """Put hooks (name -> script) into the repository, except where a person has one of that name."""
    folder = _hooks_folder(repository)
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in hooks.items():
        path = folder / name
        if not path.exists() or HOOK_MARK in path.read_text(errors="replace"):
            path.write_text(script, encoding="utf-8")
            path.chmod(0o755)


def missing_hooks(repository: Repository, hooks: Mapping[str, str]) -> list[str]:
    """Names of the hooks that are not installed, or are older ones of ours."""
    folder = _hooks_folder(repository)
    return [name for name, script in hooks.items() if not _is_installed(folder / name, script)]


def _is_installed(path: Path, script: str) -> bool:
    if not path.exists():
        return False
    text = path.read_text(errors="replace")
    return text == script or HOOK_MARK not in text


def _hooks_folder(repository: Repository) -> Path:
    return repository.common_dir / "hooks"


def _values(repository: Repository, key: str) -> list[str]:
    with suppress(GitFailed):
        return repository.text("config", "--local", "--get-all", key).splitlines()
    return []
