"""The facade: opening an archive from any folder, and naming candidates."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.configure import add_refspecs, archive_refspecs
from poise_git.archive.entries import Reflection
from poise_git.archive.facts import ReflectionFacts
from poise_git.errors import ArchiveError, NotAnArchive, UnknownCandidate
from tests import sentences

from .conftest import PROTOCOL, Git, make_metrics, make_proposal, run_git


def test_an_archive_is_found_from_any_folder_of_it(archive: Archive) -> None:
    assert Archive.open(archive.root / "recipe").root == archive.root
    assert Archive.open(archive.root / ".git").genealogy().root.name == "grpo"


def test_a_bare_clone_and_a_linked_worktree_are_archives_too(archive: Archive, git: Git, tmp_path: Path) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    git("clone", "-q", "--bare", str(archive.root), str(tmp_path / "bare.git"))
    git("worktree", "add", "-q", str(tmp_path / "linked"), "poise/x")
    for place in ("bare.git", "linked"):
        opened = Archive.open(tmp_path / place)
        opened.add_candidate(make_proposal(f"from-{place[:4]}", "x"), "# y\n")
        assert len(opened.genealogy()) == 3
    assert "from-link" in archive.genealogy()
    assert run_git(tmp_path / "linked", "status", "--porcelain") == ""


def test_a_folder_that_is_no_archive_gives_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(NotAnArchive, match="poise-git init"):
        Archive.open(tmp_path)
    run_git(tmp_path, "init", "-q", "plain")
    with pytest.raises(NotAnArchive, match=r"not an archive.*poise-git init"):
        Archive.open(tmp_path / "plain")


def test_a_fresh_clone_gives_the_command_that_fetches_candidates(archive: Archive, tmp_path: Path) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(), Reflection(ReflectionFacts(), "prose"))
    archive.write_round(1, {"number": 1})
    run_git(tmp_path, "clone", "-q", str(archive.root), "clone")
    with pytest.raises(NotAnArchive) as caught:
        Archive.open(tmp_path / "clone")
    assert str(caught.value).endswith(sentences.CLONE_INCOMPLETE)
    clone = Archive.complete(tmp_path / "clone")
    assert clone.genealogy() == archive.genealogy()
    assert clone.rounds() == archive.rounds()

    # After that a plain fetch also fetches notes, even while a candidate is checked out.
    add_refspecs(clone.repository, "origin")
    run_git(clone.root, "switch", "-q", "poise/grpo")
    archive.add_evidence("x", make_metrics(0.4), None)
    archive.add_candidate(make_proposal("y", "x"), "# y\n")
    run_git(clone.root, "fetch", "-q")
    assert clone.genealogy()["x"].metrics == archive.genealogy()["x"].metrics
    assert clone.read_text("origin/poise/y", "recipe/algorithm.py") == "# y\n"
    run_git(clone.root, "switch", "-q", "main")
    run_git(clone.root, "fetch", "-q", "origin", *archive_refspecs())
    assert "y" in clone.genealogy()

    # If both sides have added notes, the fetch is refused, and the notes merge without a conflict.
    clone.add_evidence("grpo", make_metrics(0.1, gain=None), None)
    archive.add_evidence("grpo", make_metrics(0.2, gain=None, protocol="other"), None)
    with pytest.raises(AssertionError, match=r"rejected.*notes/poise/metrics"):
        run_git(clone.root, "fetch")
    run_git(clone.root, "fetch", "-q", "origin", "+refs/notes/poise/metrics:refs/notes/theirs", "--refmap=")
    run_git(clone.root, "notes", "--ref=poise/metrics", "merge", "-q", "-s", "cat_sort_uniq", "refs/notes/theirs")
    assert set(clone.genealogy().root.metrics) == {PROTOCOL, "other"}


def test_candidates_are_resolved_from_any_usual_name(archive: Archive, git: Git) -> None:
    x = archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_candidate(make_proposal("xy", "x"), "# xy\n")
    archive.add_evidence("x", make_metrics(), None)
    git("tag", "best", "poise/x")
    for text in (
        "x",
        "poise/x",
        "refs/heads/poise/x",
        "evidence/x",
        "evidence/x~1",
        x.commit,
        x.commit[:10],
        "best",
        "poise/xy~1",
    ):
        assert archive.resolve(text).name == "x", text
    assert archive.resolve("main").name == "grpo"


@pytest.mark.parametrize(
    "text", ["xyz", "poise/nobody", "main~1", "", "a b", "x\ny", "--help", "HEAD:README.md", "other"]
)
def test_text_that_denotes_no_candidate_is_an_error_with_a_hint(archive: Archive, git: Git, text: str) -> None:
    archive.add_candidate(make_proposal("xy"), "# x\n")
    git("switch", "-q", "-c", "other", "poise/xy")
    git("commit", "-q", "--allow-empty", "-m", "work on top of a candidate is not the candidate")
    with pytest.raises(UnknownCandidate, match=r"did you mean|poise-git log"):
        archive.resolve(text)


def test_files_are_read_at_any_revision(archive: Archive) -> None:
    x = archive.add_candidate(make_proposal("x"), "# x\n")
    assert archive.read_text("poise/x", "recipe/algorithm.py") == "# x\n"
    assert archive.read_text("main", "missing.txt") is None
    assert archive.read_text("nowhere", "README.md") is None
    assert archive.list_texts("main", "recipe") == archive.recipe("grpo")
    assert list(archive.list_texts("main", "")) == [
        "README.md", "poise.yaml", "recipe/__init__.py", "recipe/algorithm.py", "recipe/rollouts.py",
    ]  # fmt: skip
    assert archive.list_texts("main", "missing") == {}
    assert archive.recipe(x.commit)["algorithm.py"] == "# x\n"
    with pytest.raises(UnknownCandidate):
        archive.recipe("nobody")


def test_the_work_tree_is_read_only_where_the_branch_is_checked_out(archive: Archive, git: Git) -> None:
    (archive.root / "poise.yaml").write_text("edited\n")
    assert archive.work_tree_text("main", "poise.yaml") == "edited\n"
    assert archive.work_tree_text("other", "poise.yaml") is None
    assert archive.work_tree_text("main", "missing") is None


def test_reads_continue_after_the_persistent_git_process_has_died(archive: Archive) -> None:
    assert archive.read_text("main", "README.md") == "an archive\n"
    process = archive.repository._git.cat_file_all
    assert process is not None
    process.proc.send_signal(signal.SIGKILL)
    process.proc.wait()
    assert archive.read_text("main", "README.md") == "an archive\n"


def test_reads_find_objects_that_another_process_has_packed(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert archive.recipe("x")["algorithm.py"] == "# x\n"
    archive.maintain()
    git("gc", "-q", "--prune=now")
    archive.add_candidate(make_proposal("y"), "# y\n")
    assert [archive.recipe(name)["algorithm.py"] for name in ("x", "y")] == ["# x\n", "# y\n"]


def test_several_threads_can_read_and_write_one_archive(archive: Archive) -> None:
    failures: list[BaseException] = []

    def work(prefix: str) -> None:
        try:
            for number in range(5):
                name = f"{prefix}{number}"
                archive.add_candidate(make_proposal(name), f"# {name}\n")
                assert archive.recipe(name)["algorithm.py"] == f"# {name}\n"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(prefix,)) for prefix in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(archive.genealogy()) == 16


def test_a_merge_conflicts_or_fails(archive: Archive) -> None:
    base = "one\ntwo\nthree\nfour\nfive\n"
    ours, theirs = base.replace("one", "1"), base.replace("five", "5")
    assert archive.merge(base, ours, theirs) == base.replace("one", "1").replace("five", "5")
    assert archive.merge(base, ours, base.replace("one", "I")) is None
    with pytest.raises(ArchiveError, match=r"git merge-file: "):
        archive.merge(base, ours, base + "\0")
