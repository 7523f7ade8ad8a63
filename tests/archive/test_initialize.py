from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.errors import ArchiveError, NotAnArchive
from poise_git.package_data import hook_files
from tests import sentences

from .conftest import ALGORITHM, TEMPLATE, Git, run_git


def test_a_new_archive_holds_the_template_and_the_root_candidate(archive: Archive, git: Git) -> None:
    assert git("log", "--format=%s", "main").splitlines() == [
        "algorithm(grpo): GRPO: the root algorithm",
        "archive: template",
    ]
    assert git("rev-parse", "main") == git("rev-parse", "poise/grpo")
    assert git("show", "--format=", "--name-only", "poise/grpo") == "recipe/algorithm.py\n"
    assert git("status", "--porcelain") == ""
    assert {path: (archive.root / path).read_text() for path in TEMPLATE} == TEMPLATE
    root = archive.genealogy().root
    assert (root.mechanism, root.agent, root.parents) == ("GRPO: the root algorithm", "template", ())
    assert archive.examine(hook_files()) == ()


def test_an_empty_repository_is_used_with_its_remotes(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q", "-b", "trunk", "search")
    run_git(tmp_path / "search", "remote", "add", "team", str(tmp_path / "shared.git"))
    archive = Archive.create(tmp_path / "search", TEMPLATE, {})
    fetched = run_git(archive.root, "config", "--get-all", "remote.team.fetch")
    assert "refs/notes/poise/*:refs/notes/poise/*" in fetched.splitlines()
    assert run_git(archive.root, "branch", "--show-current") == "main\n"


def refused(folder: Path, error: type[ArchiveError], words: str) -> None:
    before = sorted(str(path) for path in folder.rglob("*")) if folder.is_dir() else []
    with pytest.raises(error, match=words) as caught:
        Archive.create(folder, TEMPLATE, hook_files())
    assert "\n" not in str(caught.value)
    if folder.is_dir():
        assert sorted(str(path) for path in folder.rglob("*")) == before


def test_folders_that_cannot_become_an_archive_are_refused(archive: Archive, tmp_path: Path) -> None:
    refused(archive.root, ArchiveError, sentences.ALREADY_AN_ARCHIVE)

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    refused(tmp_path / "full", ArchiveError, "not empty .*thesis.tex")

    run_git(tmp_path, "init", "-q", "foreign")
    run_git(tmp_path / "foreign", "commit", "-q", "--allow-empty", "-m", "mine")
    refused(tmp_path / "foreign", NotAnArchive, sentences.HAS_COMMITS)

    run_git(tmp_path, "init", "-q", "--bare", "bare.git")
    refused(tmp_path / "bare.git", ArchiveError, "bare")

    (tmp_path / "file").touch()
    refused(tmp_path / "file", ArchiveError, "another directory")


def test_an_init_completes_a_killed_init(archive: Archive, git: Git, tmp_path: Path) -> None:
    git("update-ref", "-d", "refs/heads/poise/grpo")
    for path in archive.root.iterdir():
        if path.name != ".git":
            subprocess.run(["rm", "-r", str(path)], check=True)
    again = Archive.create(archive.root, TEMPLATE, hook_files())
    assert (again.root / "recipe" / "algorithm.py").read_text() == ALGORITHM
    assert again.examine(hook_files()) == ()


def test_an_algorithm_that_does_not_parse_still_makes_an_archive(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path / "new", {"recipe/algorithm.py": "def ("}, {})
    assert archive.genealogy().root.mechanism == "the root algorithm"


def test_missing_git_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArchiveError, match="git is not installed"):
        Archive.create(tmp_path / "new", TEMPLATE, {})
