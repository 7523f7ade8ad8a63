"""Update files of a checked-out branch that this package moved, without losing a person's edits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from poise_git.archive.git import DURABLE, Repository
from poise_git.archive.work_tree import index_lines, write_file


def update_files(repository: Repository, branch: str, before: Mapping[str, str]) -> tuple[str, ...]:
    """Bring files of the work tree and the index from their texts `before` (by path) to those of `branch`.

    An edited file gets both changes, as git merges them. Returns the files that stay as they are, because the two
    changes conflict, or because the file is now a link or is gone. Nothing happens unless `branch` is checked out.
    """
    if repository.work_tree is None or repository.head() != branch:
        return ()
    kept, entries = [], []
    for path, old in before.items():
        blob, found = repository.object_id(f"{branch}:{path}"), repository.read(f"{branch}:{path}")
        if blob is None or found is None:
            continue
        new = found[1].decode()
        text = _merged(repository, old, _text_of(repository.work_tree / path), new)
        if text is None:
            kept.append(path)
        else:
            write_file(repository.work_tree, path, text.encode())
        staged = _merged(repository, old, repository.staged(path), new)
        if staged is not None:
            entries.append((path, blob if staged == new else repository.add_blob(staged)))
    if entries:
        repository.run("update-index", "-z", "--add", "--index-info", stdin=index_lines(entries), options=DURABLE)
    return tuple(kept)


def _merged(repository: Repository, old: str, current: str | None, new: str) -> str | None:
    if current is None or current == old:
        return None if current is None else new
    return repository.merge_texts(old, current, new)


def _text_of(file: Path) -> str | None:
    """The text of a regular file. None if the file is missing, is a link or is not UTF-8."""
    try:
        return None if file.is_symlink() or not file.is_file() else file.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
