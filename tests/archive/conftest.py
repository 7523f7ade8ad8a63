"""An archive for each test, copied from one that is made once; and plain git, as a person runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import Estimate, Metrics, Proposal, Status
from poise_git.package_data import hook_files

ALGORITHM = '"""GRPO: the root algorithm.\n\nIn stages.\n"""\n\n\ndef baseline():\n    return 0\n'
TEMPLATE = {
    "README.md": "an archive\n",
    "poise.yaml": "version: 1\n",
    "recipe/__init__.py": "",
    "recipe/algorithm.py": ALGORITHM,
    "recipe/rollouts.py": "# fixed\n",
}
PROTOCOL = "f8a4c9d10e22"

Git = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def a_person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home with an identity and without the git variables of the user who runs the tests."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("GIT_") and name != "GIT_PYTHON_REFRESH"]:
            patch.delenv(variable)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield


@pytest.fixture(scope="session")
def made_once(a_person: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Archive.create(tmp_path_factory.mktemp("made") / "archive", TEMPLATE, hook_files()).root


@pytest.fixture
def archive(made_once: Path, tmp_path: Path) -> Archive:
    shutil.copytree(made_once, tmp_path / "archive")
    return Archive.open(tmp_path / "archive")


@pytest.fixture
def git(archive: Archive) -> Git:
    """Run git in the archive. Returns its output, or raises with its error message."""

    def run(*arguments: str, **options: str) -> str:
        return run_git(archive.root, *arguments, **options)

    return run


def run_git(folder: Path, *arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def algorithm_of(archive: Archive, candidate: str) -> str:
    """The blob id of a candidate's algorithm, as the archive records it with metrics."""
    return run_git(archive.root, "rev-parse", "--short=12", f"poise/{candidate}:recipe/algorithm.py").strip()


def make_proposal(name: str, parent: str = "grpo", **others: object) -> Proposal:
    values: dict[str, object] = {
        "name": name,
        "parent": parent,
        "mechanism": f"the mechanism of {name}",
        "hypothesis": f"Why {name} should help.",
        "family": "baseline",
        "agent": "library",
    }
    return Proposal(**(values | others))  # type: ignore[arg-type]


def make_metrics(value: float = 0.752, **others: object) -> Metrics:
    values: dict[str, object] = {
        "status": Status.EVALUATED,
        "protocol": PROTOCOL,
        "utility": Estimate(value, 0.009, 4),
        "gain": Estimate(0.021, 0.006, 4, interval=0.013),
        "values": {"chain-2": Estimate(0.5, 0.01, 4)},
        "details": {"chain-2": {"pass@8": Estimate(0.9, None, 1)}},
        "seeds": (0, 1, 2, 3),
        "cpu_seconds": 27.5,
    }
    return Metrics(**(values | others))  # type: ignore[arg-type]
