"""Run a command as an ordinary user, wherever Python is installed.

    python -m tests.ordinary_user FOLDER COMMAND...

Python may be in a folder that only root may enter. In a mount namespace of its own, the command sees such a folder
open, with only Python in it. FOLDER is given to the user, and is the home of the command.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise_git.pipeline.sandbox import kernel

USER = 12345
_OTHERS_ENTER = stat.S_IXOTH
# The exit code if this machine, for example a container, allows no mount namespace.
_NO_NAMESPACE = 77


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command. Skips the calling test if the test process cannot change its user."""
    if os.geteuid() != 0:
        pytest.skip("the whole suite runs as an ordinary user")
    paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.ordinary_user", str(folder), *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode == _NO_NAMESPACE:
        pytest.skip(ended.stderr.strip())
    return ended


def _closed_folders() -> Iterator[tuple[Path, Path]]:
    """For each path that Python needs, the outermost folder above it that others cannot enter, and the path."""
    for needed in dict.fromkeys(map(Path, (sys.prefix, sys.base_prefix, Path(__file__).parents[1]))):
        for folder in reversed(needed.parents):
            if not folder.stat().st_mode & _OTHERS_ENTER:
                yield folder, needed
                break


def _open_folders() -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    closed = list(_closed_folders())
    sources = [os.open(needed, os.O_PATH) for _, needed in closed]
    for folder in dict.fromkeys(folder for folder, _ in closed):
        kernel.mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")
    for (_, needed), source in zip(closed, sources, strict=True):
        needed.mkdir(parents=True, exist_ok=True)
        kernel.mount(f"/proc/self/fd/{source}", str(needed), None, kernel.MS_BIND | kernel.MS_REC)
        os.close(source)


def main() -> None:
    folder, command = sys.argv[1], sys.argv[2:]
    os.chown(folder, USER, USER)
    try:
        _open_folders()
    except PermissionError as error:
        print(f"no mount namespace here: {error}", file=sys.stderr)
        sys.exit(_NO_NAMESPACE)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    os.chdir(folder)
    os.execvpe(command[0], command, {**os.environ, "HOME": folder, "TMPDIR": folder, "USER": "ordinary"})


if __name__ == "__main__":
    main()
