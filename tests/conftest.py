"""Archives at a size for tests: everything is real, only small."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.creation import create_archive

TINY_PROTOCOL = Path(__file__).parent / "protocols" / "tiny.yaml"


@pytest.fixture(scope="session", autouse=True)
def _cache_of_base_policies(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Base policies of tests stay out of the user's cache; test processes of one run share theirs."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    os.environ["XDG_CACHE_HOME"] = str(shared / "cache")


@pytest.fixture(scope="session")
def _tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive whose protocol is tiny: made and edited as a person would."""
    folder = tmp_path_factory.mktemp("template") / "search"
    create_archive(folder)
    (folder / "protocols" / "tiny.yaml").write_text(TINY_PROTOCOL.read_text())
    settings = (folder / "poise.yaml").read_text()
    (folder / "poise.yaml").write_text(settings.replace('protocol: "testbed"', 'protocol: "tiny"'))
    git(folder, "add", ".")
    git(folder, "commit", "-m", "a tiny protocol")
    return folder


@pytest.fixture
def tiny_archive(_tiny_archive: Path, tmp_path: Path) -> Archive:
    """A fresh copy of the tiny archive."""
    return copy_of(_tiny_archive, tmp_path / "search")


@pytest.fixture
def another_tiny_archive(_tiny_archive: Path, tmp_path: Path) -> Callable[[str], Archive]:
    return lambda name: copy_of(_tiny_archive, tmp_path / name)


def copy_of(archive: Path, to: Path) -> Archive:
    shutil.copytree(archive, to, symlinks=True)
    return Archive.open(to)


def git(folder: Path, *arguments: str) -> str:
    """Plain git, as a person uses it."""
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A Person"), ("EMAIL", "person@example.org"))
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env={**os.environ, **identity}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
