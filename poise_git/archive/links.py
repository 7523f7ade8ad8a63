"""Refuse links and special files in a copied git directory.

Git follows links when it appends to a reflog or replaces its index, its configuration or packed refs. With a link, a
copied archive could make git append a line to any file of the user. If git opens a fifo in place of a file, it waits
forever for a writer.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from poise_git.errors import ArchiveError

# Git writes loose objects under new names, so only these folders are checked, not their content.
_ALTERNATES = 1 << 16
_LOOSE = re.compile(r"[0-9a-f]{2}")


def refuse_links_outside(git_dir: Path, common_dir: Path) -> None:
    """Check that no link in the directories of a repository leads out of them.

    Raises ArchiveError if a link does.
    """
    homes = {git_dir.resolve(), common_dir.resolve()}
    for link in _links(homes):
        target = link.resolve()
        if not any(target.is_relative_to(home) for home in homes):
            raise ArchiveError(
                f"{link}: a symbolic link that would make git write to {target}; remove it: rm {shlex.quote(str(link))}"
            )


def refuse_special_files(folder: Path) -> None:
    """Check that git will not wait for a special file in the git directory `folder`.

    Also checks the object folders that it names as alternates, whose objects git reads as well.

    Raises ArchiveError for a fifo, a socket or a device where git would read.
    """
    waiting = [folder] if (folder / "objects").is_dir() else []
    others: set[Path] = set()
    while waiting:
        place = waiting.pop()
        if place.name == "info":
            # Two repositories may name each other.
            found = _alternates(place) - others
            others |= found
            waiting += found
        # Git reports the files that it may not read.
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting += [] if _LOOSE.fullmatch(entry.name) else [Path(entry)]
                # A link is what it leads to: git reads through it. One that leads nowhere is git's to report.
                elif not entry.is_file() and not entry.is_dir() and _exists(entry):
                    raise ArchiveError(
                        f"{entry.path}: neither a file nor a folder, so git would wait for it; remove it: "
                        f"rm {shlex.quote(entry.path)}"
                    )


def _alternates(info: Path) -> set[Path]:
    """The object folders that the file `alternates` in the folder `info` names, relative to the folder above."""
    with suppress(OSError, ValueError):
        if (file := info / "alternates").is_file():
            lines = os.fsdecode(file.read_bytes()[:_ALTERNATES]).split("\n")
            named = {(info.parent / line).resolve() for line in lines if line and not line.startswith("#")}
            return {place for place in named if place.is_dir()}
    return set()


def _exists(entry: os.DirEntry[str]) -> bool:
    return not entry.is_symlink() or Path(entry).exists()


def _links(homes: Iterable[Path]) -> Iterator[Path]:
    for home in homes:
        for folder, folders, files in os.walk(home):
            for name in (*folders, *files):
                path = Path(folder, name)
                # A hook may be a link: a person may keep it elsewhere, and a write replaces the link itself.
                if path.is_symlink() and Path(folder) != home / "hooks" and path != home / "hooks":
                    yield path
            if Path(folder).name == "objects":
                folders[:] = [name for name in folders if not _LOOSE.fullmatch(name)]
