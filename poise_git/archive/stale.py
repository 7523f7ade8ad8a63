"""Lock files that a killed git process left; each blocks a ref until it is deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from poise_git.archive.git import Repository
from poise_git.archive.refs import CANDIDATES, EVIDENCE, JOURNAL, NOTES

# Git holds the lock of a ref for milliseconds. Only the age of a lock shows that its holder has died.
STALE_SECONDS = 5.0


def leftover_locks(repository: Repository) -> tuple[Path, ...]:
    """The lock files of the archive's refs that are too old for a live git process."""
    return tuple(path for path in sorted(_own_locks(repository.common_dir)) if _age(path) > STALE_SECONDS)


def remove_leftover_locks(repository: Repository) -> tuple[Path, ...]:
    """Delete the leftover lock files and return them. The caller holds the write lock, so that none of them is ours."""
    found = leftover_locks(repository)
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _own_locks(common_dir: Path) -> Iterator[Path]:
    for folder in (CANDIDATES, EVIDENCE, NOTES):
        yield from (common_dir / folder).rglob("*.lock")
    journal = common_dir / f"{JOURNAL}.lock"
    if journal.exists():
        yield journal


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
