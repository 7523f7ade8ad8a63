"""The hooks, as git runs them for a person."""

from __future__ import annotations

import pytest

from poise_git.archive import Archive
from poise_git.archive.configure import HOOK_MARK, install_hooks
from poise_git.archive.messages import parse_candidate
from poise_git.resources import hook_files

from .conftest import Git, make_proposal


def edit(archive: Archive, path: str, text: str) -> None:
    (archive.root / path).write_text(text)


def test_every_hook_of_ours_says_so() -> None:
    assert set(hook_files()) == {"pre-commit", "commit-msg", "reference-transaction"}
    assert all(HOOK_MARK in script and script.startswith("#!/bin/sh\n") for script in hook_files().values())


def test_a_candidates_commit_may_change_the_algorithm_alone(archive: Archive, git: Git) -> None:
    git("switch", "-q", "-c", "poise/x", "poise/grpo")
    edit(archive, "recipe/algorithm.py", "# x\n")
    edit(archive, "README.md", "changed\n")
    git("add", ".")
    with pytest.raises(AssertionError, match=r"README\.md\n.*git restore --staged README\.md"):
        git("commit", "-qm", "both")
    git("restore", "--staged", "README.md")
    git("commit", "-qm", "the algorithm")
    assert git("show", "--format=", "--name-only", "HEAD") == "recipe/algorithm.py\n"


def test_other_branches_are_free(archive: Archive, git: Git) -> None:
    edit(archive, "README.md", "changed\n")
    git("commit", "-qam", "docs")
    assert git("log", "-1", "--format=%B") == "docs\n\n"


def test_a_candidates_commit_gets_its_trailers(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("a"), "# a\n")
    git("switch", "-q", "-c", "poise/b", "poise/a")
    edit(archive, "recipe/algorithm.py", "# b\n")
    git("commit", "-qam", "try the median\n\nA line.\n---\nAfter a cut.")
    said = parse_candidate(git("log", "-1", "--format=%B"))
    assert (said.name, said.parents, said.mechanism) == ("b", ("a",), "try the median")
    assert said.hypothesis == "A line.\n---\nAfter a cut."

    edit(archive, "recipe/algorithm.py", "# b, better\n")
    git("commit", "-qa", "--amend", "-m", "try the trimmed mean")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("a",)
    message = git("log", "-1", "--format=%B")
    git("commit", "-qa", "--amend", "--no-edit")
    assert git("log", "-1", "--format=%B") == message
    assert archive.genealogy()["b"].parents == ("a",)


def test_a_crossover_by_plain_merge_names_both_parents(archive: Archive, git: Git) -> None:
    source = archive.recipe("grpo")["algorithm.py"]
    archive.add_candidate(make_proposal("a"), f"# a\n{source}")
    archive.add_candidate(make_proposal("b"), f"{source}# b\n")
    git("switch", "-q", "-c", "poise/ab", "poise/a")
    git("merge", "-q", "--no-ff", "-m", "cross a and b", "poise/b")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("a", "b")
    assert archive.genealogy()["ab"].parents == ("a", "b")
    assert archive.recipe("ab")["algorithm.py"] == f"# a\n{source}# b\n"


def test_a_persons_own_hook_stays_and_an_older_one_of_ours_does_not(archive: Archive) -> None:
    folder = archive.root / ".git" / "hooks"
    (folder / "pre-commit").write_text("#!/bin/sh\n# mine\n")
    (folder / "commit-msg").write_text(f"#!/bin/sh\n# {HOOK_MARK}: an older one\n")
    install_hooks(archive.repository, hook_files())
    assert (folder / "pre-commit").read_text() == "#!/bin/sh\n# mine\n"
    assert (folder / "commit-msg").read_text() == hook_files()["commit-msg"]


def test_a_hook_that_refuses_everything_does_not_stop_the_writer(archive: Archive) -> None:
    hook = archive.root / ".git" / "hooks" / "reference-transaction"
    hook.write_text("#!/bin/sh\nexit 1\n")
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert "x" in archive.genealogy()
