"""Create, remove and read folders that a child wrote, on the assumption that the child is malicious.

Nothing here follows a link, changes the mode of a link's target, recurses to the depth of the folders, or waits for a
fifo. `shutil.rmtree` and `tempfile.TemporaryDirectory` do some of this in some releases of Python.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poise_git.errors import PoiseError

_MEBIBYTE = 1 << 20
_CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ITSELF = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class RemovalFailed(PoiseError):
    """Part of a folder is still there; the message says which part, and the next command."""


class FileRefused(PoiseError):
    """A child left something other than the requested plain file; `reason` in one line."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@contextmanager
def fresh_folder(parent: Path | None = None, prefix: str = "poise-") -> Iterator[Path]:
    """Make a new, empty folder in `parent` (None: the system's folder for temporary files); remove it at the end.

    Raises:
        RemovalFailed: part of it is still there. An error of the block takes precedence.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    except BaseException as error:
        try:
            remove_tree(folder)
        except RemovalFailed as failure:
            error.add_note(str(failure))
        raise
    remove_tree(folder)


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with its content; a missing one is not an error.

    Only one folder is open at a time, at any depth of nesting.

    Raises:
        RemovalFailed: part of it is still there.
    """
    try:
        parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(path, error) from error
    try:
        _remove(path.name, parent)
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        os.close(parent)


def take_file(folder: Path, name: str, target: Path, limit_mb: int | None = None) -> None:
    """Copy the plain file `name`, which a child left in `folder`, to the new file `target`.

    The copy is our own file: it has no other name, and it has the mode of a new file.

    Args:
        name: the name of a file directly in `folder`.
        limit_mb: the largest size in megabytes. None: no limit.

    Raises:
        FileRefused: it is missing, too large, a link, a folder, a fifo or a device, or it has a second name.
        FileExistsError: `target` exists.
    """
    data = _open_plain(folder, name, limit_mb)
    try:
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _copy(data, made, name, limit_mb)
        except BaseException:
            os.unlink(target)
            raise
        finally:
            os.close(made)
    finally:
        os.close(data)


def move_file(folder: Path, name: str, target: Path) -> None:
    """Move the plain file `name`, which a child left in `folder`, to `target` on the same file system.

    Use it for files that are too large to copy, after all processes of the child have ended.

    Raises:
        FileRefused: as `take_file` does.
    """
    data = _open_plain(folder, name, None)
    within = None
    try:
        within = os.open(folder, _FOLDER)
        os.fchmod(data, 0o644)
        os.rename(name, target, src_dir_fd=within)
    finally:
        os.close(data)
        if within is not None:
            os.close(within)


def read_file(folder: Path, name: str, limit_mb: int = 64) -> bytes:
    """Read the plain file `name` that a child left in `folder`. Raises FileRefused as `take_file` does."""
    data = _open_plain(folder, name, limit_mb)
    with open(data, "rb") as file:
        content = file.read(limit_mb * _MEBIBYTE + 1)
    if len(content) > limit_mb * _MEBIBYTE:
        raise _too_large(name, limit_mb)
    return content


def _open_plain(folder: Path, name: str, limit_mb: int | None) -> int:
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise FileRefused(f"{name!r} is not the name of a file")
    try:
        within = os.open(folder, _FOLDER)
        try:
            data = os.open(name, _FILE, dir_fd=within)
        finally:
            os.close(within)
    except FileNotFoundError:
        raise FileRefused(f"left no file {name}") from None
    except OSError as error:
        # ELOOP means a link, ENXIO a socket.
        link = error.errno == errno.ELOOP
        reason = "is a link, not a plain file" if link else f"cannot be opened: {os.strerror(error.errno or 0)}"
        raise FileRefused(f"{name} {reason}") from None
    found = os.fstat(data)
    refused = None
    if not stat.S_ISREG(found.st_mode):
        refused = FileRefused(f"{name} is not a plain file")
    elif found.st_nlink != 1:
        refused = FileRefused(f"{name} has {found.st_nlink} names, not one")
    elif limit_mb is not None and found.st_size > limit_mb * _MEBIBYTE:
        refused = _too_large(name, limit_mb)
    if refused is not None:
        os.close(data)
        raise refused
    return data


def _copy(source: int, target: int, name: str, limit_mb: int | None) -> None:
    """Copy a limited number of bytes, because a live process could continue to write."""
    left = None if limit_mb is None else limit_mb * _MEBIBYTE
    while data := os.read(source, _CHUNK):
        if left is not None:
            left -= len(data)
            if left < 0:
                assert limit_mb is not None
                raise _too_large(name, limit_mb)
        while data:
            data = data[os.write(target, data) :]


def _too_large(name: str, limit_mb: int) -> FileRefused:
    return FileRefused(f"{name} is larger than {limit_mb} MB")


def _failed(path: Path, error: OSError) -> RemovalFailed:
    what = os.strerror(error.errno) if error.errno else str(error)
    return RemovalFailed(f"{path}: cannot be removed ({what}); remove it by hand and run the same command again")


def _remove(name: str, parent: int) -> None:
    """Remove anything called `name` in the folder `parent`."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    _empty(_open_folder(name, parent))
    os.rmdir(name, dir_fd=parent)


def _empty(folder: int) -> None:
    """Remove the content of a folder, and close its descriptor."""
    # Each folder above the open one: its identity, and the names of the folders in it that are still to be removed.
    above: list[tuple[tuple[int, int], list[str]]] = []
    try:
        folders = _remove_files(folder)
        while True:
            if folders:
                above.append((_identity(folder), folders))
                within = _open_folder(folders[-1], folder)
                os.close(folder)
                folder = within
                folders = _remove_files(folder)
            elif above:
                within = os.open("..", _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = within
                identity, folders = above.pop()
                if _identity(folder) != identity:
                    raise OSError(errno.ESTALE, "a folder was moved meanwhile")
                os.rmdir(folders.pop(), dir_fd=folder)
            else:
                return
    finally:
        os.close(folder)


def _remove_files(folder: int) -> list[str]:
    """Remove everything but folders; return the names of the folders."""
    # List first, because a folder that shrinks during reading may show less than it holds.
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in listed if is_folder]


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino


def _open_folder(name: str, parent: int) -> int:
    """Open a folder and give its owner all rights."""
    folder = os.open(name, _ITSELF, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            # Change the mode by descriptor, because the name could lead elsewhere by now. A failure shows when the
            # folder is used.
            with suppress(OSError):
                os.chmod(f"/proc/self/fd/{folder}", mode | stat.S_IRWXU)
        return os.open(".", _FOLDER, dir_fd=folder)
    finally:
        os.close(folder)
