"""Write files of a work tree from git's blobs, without git's checkout.

A checkout runs the smudge filters that a repository's configuration and attributes name. This module writes the bytes
of the blob to the file, and the index records the blob. It never writes through a symbolic link.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from poise_git.errors import ArchiveError


def write_file(top: Path, path: str, content: bytes) -> None:
    """Replace the file `path` below `top` atomically, and create missing folders.

    Raises ArchiveError if a part of the path is a symbolic link or a file, or cannot be written.
    """
    folder = top
    try:
        for part in PurePosixPath(path).parent.parts:
            folder /= part
            if folder.is_symlink():
                raise ArchiveError(f"{folder}: a symbolic link in place of a folder of the archive; remove it")
            folder.mkdir(exist_ok=True)
        replace_file(folder / PurePosixPath(path).name, content)
    except OSError as error:
        raise ArchiveError(f"{top / path}: cannot be written: {error.strerror}; fix this and try again") from error


def replace_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a new file at `path`, with its mode under the umask; the target of an existing link stays unchanged."""
    new = path.with_name(f".poise-{os.getpid()}-{secrets.token_hex(8)}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
            file.write(content)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def index_lines(entries: Iterable[tuple[str, str]]) -> bytes:
    """Input of `git update-index -z --index-info` for files (path, blob)."""
    return b"".join(f"100644 {blob}\t{path}\0".encode() for path, blob in entries)
