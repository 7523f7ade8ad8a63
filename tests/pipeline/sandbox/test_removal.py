"""Folders that a child wrote are removed completely, and only regular files are taken out of them."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from poise_git.pipeline.sandbox.removal import (
    FileRefused,
    RemovalFailed,
    fresh_folder,
    move_file,
    read_file,
    remove_tree,
    take_file,
)

pytestmark = pytest.mark.slow


def nest(top: Path, depth: int, mode: int = 0o755) -> None:
    """Folders within folders, deeper than a path can be long, each with a file."""
    within = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT, dir_fd=within))
        os.mkdir("folder", dir_fd=within)
        below = os.open("folder", os.O_RDONLY, dir_fd=within)
        os.fchmod(within, mode)
        os.close(within)
        within = below
    os.close(within)


DEEP = pytest.param(10_000, 0o755, marks=pytest.mark.slow)
DEEPEST = pytest.param(50_000, 0o755, marks=pytest.mark.nightly)


@pytest.mark.parametrize(("depth", "mode"), [(3_000, 0o755), (3_000, 0), DEEP, DEEPEST])
def test_a_deep_folder_is_removed(tmp_path: Path, depth: int, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    nest(folder, depth, mode)
    remove_tree(folder)
    assert list(tmp_path.iterdir()) == []


def test_many_files_and_folders_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for number in range(300):
        (folder / str(number) / "below").mkdir(parents=True)
        (folder / str(number) / "file").touch()
    remove_tree(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link_to", ["folder", "file", "nothing"])
def test_removal_follows_no_link(tmp_path: Path, link_to: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir(mode=0o500)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "file").chmod(0o444)
    folder.mkdir()
    target = {"folder": outside, "file": tmp_path / "file", "nothing": tmp_path / "nothing"}[link_to]
    (folder / "link").symlink_to(target)
    (folder / "below").mkdir()
    (folder / "below" / "link").symlink_to(target)
    (folder / "below").chmod(0o500)
    remove_tree(folder)
    assert not folder.exists()
    assert (tmp_path / "file").read_text() == "kept"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o444
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500


def test_removal_of_a_link_removes_only_the_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    (tmp_path / "folder").symlink_to(tmp_path / "outside")
    remove_tree(tmp_path / "folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["outside", "kept"]


def test_files_of_any_mode_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "one" / "two" / "three").mkdir(parents=True)
    (folder / "one" / "two" / "file").touch(mode=0)
    for path in (folder / "one" / "two" / "three", folder / "one" / "two", folder / "one", folder):
        path.chmod(0)
    remove_tree(folder)
    assert not folder.exists()


def test_special_files_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    (folder / b"\xff\n".decode(errors="surrogateescape")).touch()
    (folder / ".poise-").mkdir()
    remove_tree(folder)
    assert not folder.exists()


def test_removal_of_a_missing_folder_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
    remove_tree(tmp_path / "nothing" / "below")


def test_a_folder_that_cannot_be_removed_is_an_error_of_one_line() -> None:
    """No user can remove the kernel's own folders."""
    with pytest.raises(
        RemovalFailed, match=r"^/proc/self/fdinfo: cannot be removed \(.+\); remove it by hand"
    ) as caught:
        remove_tree(Path("/proc/self/fdinfo"))
    assert "\n" not in str(caught.value)


def test_a_fresh_folder_is_private_and_is_removed(tmp_path: Path) -> None:
    with fresh_folder(tmp_path, "try-") as folder, fresh_folder(tmp_path, "try-") as other:
        assert folder != other
        assert folder.name.startswith("try-")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        nest(folder, 2_000)
    assert list(tmp_path.iterdir()) == []


def test_an_error_at_removal_does_not_hide_the_first_error(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "file").touch()
        raise LookupError

    with pytest.raises(LookupError), fresh_folder(tmp_path) as folder:
        fail(folder)
    assert list(tmp_path.iterdir()) == []


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _link(path: Path) -> None:
    path.with_name("secret").write_text("secret")
    path.symlink_to("secret")


def _hard_link(path: Path) -> None:
    path.with_name("secret").write_text("secret")
    path.hardlink_to(path.with_name("secret"))


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 5 << 20)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_fifo, "weights is not a plain file"),
        (_socket, "weights cannot be opened: No such device or address"),
        (_link, "weights is a link, not a plain file"),
        (_hard_link, "weights has 2 names, not one"),
        (Path.mkdir, "weights is not a plain file"),
        (_sparse, "weights is larger than 4 MB"),
        (lambda path: None, "left no file weights"),
    ],
)
def test_only_a_regular_file_is_taken(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder / "weights")
    takes: list[Callable[[], object]] = [
        lambda: take_file(folder, "weights", tmp_path / "taken", limit_mb=4),
        lambda: read_file(folder, "weights", limit_mb=4),
    ]
    if make is not _sparse:
        takes.append(lambda: move_file(folder, "weights", tmp_path / "taken"))
    for take in takes:
        with pytest.raises(FileRefused) as caught:
            in_time(take)
        assert caught.value.reason == reason
    assert not (tmp_path / "taken").exists()


def in_time(step: Callable[[], object], seconds: float = 5.0) -> None:
    """Run `step`, which must end by itself."""
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            step()
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert ended, "it hangs"
    if ended[0] is not None:
        raise ended[0]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "", "below/weights", "a\0b"])
def test_only_a_plain_name_is_accepted(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileRefused, match="is not the name of a file"):
        take_file(tmp_path, name, tmp_path / "taken")


def test_a_folder_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "weights").write_text("secret")
    (tmp_path / "folder").symlink_to("outside")
    with pytest.raises(FileRefused):
        take_file(tmp_path / "folder", "weights", tmp_path / "taken")


def test_a_copy_has_safe_modes_and_never_overwrites_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights").write_text("numbers")
    (folder / "weights").chmod(0o4755)
    take_file(folder, "weights", tmp_path / "taken", limit_mb=1)
    assert (tmp_path / "taken").read_text() == "numbers"
    assert stat.S_IMODE((tmp_path / "taken").stat().st_mode) & 0o7111 == 0
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        take_file(folder, "weights", tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_moved(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights").write_text("numbers")
    move_file(folder, "weights", tmp_path / "moved")
    assert (tmp_path / "moved").read_text() == "numbers"
    assert list(folder.iterdir()) == []
