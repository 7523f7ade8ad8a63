"""The installed package: built from the output of `git archive`, without a repository around it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from poise_git.package_data import hook_files, read_prompt, template_files

SOURCE = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (SOURCE / ".git").exists():
        pytest.skip("not a clone")
    folder = tmp_path_factory.mktemp("source")
    archive = subprocess.run(["git", "-C", str(SOURCE), "archive", "HEAD"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder / "poise-git", filter="data")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(folder / "poise-git"),
    ]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_contains_template_prompts_and_hooks(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "-C", str(SOURCE), "ls-files", "recipe_template", "prompts", "hooks"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert tracked
    assert {f"poise_git/data/{path}" for path in tracked} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_installed_package_creates_an_archive(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as unpacked:
        unpacked.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "poise_git", "init", str(tmp_path / "search")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "search" / "recipe" / "algorithm.py").is_file()
    assert (tmp_path / "search" / "literature" / "leave-one-out.yaml").is_file()


def test_resources_are_found_in_the_source_tree() -> None:
    assert "recipe/algorithm.py" in template_files()
    hooks = hook_files()
    assert all(script.startswith("#!/bin/sh") for name, script in hooks.items() if "." not in name)
    assert "poise-hook.sh" in hooks
    assert "evidence" in read_prompt("reflection.md.j2")
