"""Concurrent writers, and writers that are killed: nothing is lost, and every candidate is complete."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.stale import STALE_SECONDS
from poise_git.errors import RefMoved

from .conftest import PROTOCOL, Git, make_proposal, run_git

pytestmark = pytest.mark.slow

ADD_CANDIDATES = """
import sys
from poise_git.archive import Archive
from poise_git.archive.entries import Metrics, Proposal, Reflection, Run, Status, Estimate
from poise_git.archive.facts import ReflectionFacts
folder, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
archive = Archive.open(folder)
for number in range(count):
    name = f"{prefix}{number}"
    known = archive.genealogy()
    if name not in known:
        archive.add_candidate(Proposal(name, "grpo", "m", "h", "f", "a"), f"# {name}\\n")
    if not archive.runs(name):
        archive.add_run(name, Run("PROTOCOL", 0, {"a": 0.5}, {}, {"r": (0.1,) * 50}, (), 1.0))
    if not archive.genealogy()[name].metrics:
        metrics = Metrics(Status.EVALUATED, "PROTOCOL", Estimate(0.5, 0.1, 4), None)
        archive.add_evidence(name, metrics, Reflection(ReflectionFacts.from_data({"of": name}), name))
    if not any(round["number"] == number + 1 for round in archive.rounds()):
        archive.write_round(number + 1, {"number": number + 1})
""".replace("PROTOCOL", PROTOCOL)


def start(archive: Archive, prefix: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", ADD_CANDIDATES, str(archive.root), prefix, str(count)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def assert_whole(archive: Archive, name: str) -> None:
    """Every existing branch has its algorithm, its proposal and its parent."""
    assert archive.recipe(name)["algorithm.py"] == f"# {name}\n"
    proposal = archive.proposal(name)
    assert proposal is not None
    assert proposal.name == name
    assert archive.genealogy()[name].parents == ("grpo",)


def test_two_concurrent_writers_lose_nothing(archive: Archive, git: Git) -> None:
    writers = [start(archive, prefix, 8) for prefix in ("left", "right")]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()
    genealogy = archive.genealogy()
    assert len(genealogy) == 17
    for candidate in genealogy.children("grpo"):
        assert_whole(archive, candidate.name)
        assert PROTOCOL in candidate.metrics
        assert len(archive.runs(candidate.name)) == 1
    assert [entry["number"] for entry in archive.rounds()] == list(range(1, 9))
    git("fsck", "--strict")


def test_notes_added_by_a_person_meanwhile_are_kept(archive: Archive, git: Git) -> None:
    candidate = archive.add_candidate(make_proposal("reviewed"), "# reviewed\n")
    writer, said = start(archive, "c", 10), 0
    while writer.poll() is None:
        command = ["git", "-C", str(archive.root), "notes", "--ref=poise/metrics", "append", "-m", f"review {said}"]
        done = subprocess.run([*command, candidate.commit], capture_output=True, text=True)
        if done.returncode == 0:
            said += 1
            time.sleep(0.02)
        else:
            # Refused with a message: by the hook, or by git because another transaction held the ref.
            assert "fatal" in done.stderr or "error" in done.stderr
    assert writer.returncode == 0, (writer.stderr.read() if writer.stderr else b"").decode()
    note = git("notes", "--ref=poise/metrics", "show", candidate.commit)
    assert [line for line in note.splitlines() if line] == [f"review {number}" for number in range(said)]
    assert all(PROTOCOL in archive.genealogy()[f"c{number}"].metrics for number in range(10))


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to a process and to the git processes that it has started, all at once."""
    process.send_signal(signal.SIGSTOP)
    family, grew = {process.pid}, True
    while grew:
        grew = False
        for entry in Path("/proc").iterdir():
            with suppress(OSError, IndexError, ValueError):
                if entry.name.isdigit() and int(entry.name) not in family:
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent in family:
                        family.add(int(entry.name))
                        os.kill(int(entry.name), signal.SIGSTOP)
                        grew = True
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def age_locks(archive: Archive) -> None:
    """Make the lock files that a kill has left look old, so that the test need not wait."""
    for path in (archive.root / ".git").rglob("*.lock"):
        os.utime(path, (0, time.time() - 2 * STALE_SECONDS))


# Enough that a fast machine is killed several times before it has written them all.
CANDIDATES = 40


def test_sigkill_at_any_moment_leaves_complete_candidates_and_a_rerun_finishes(archive: Archive, git: Git) -> None:
    moments = random.Random(5)
    kills = 0
    for _ in range(40):
        process = start(archive, "c", CANDIDATES)
        # Starting takes about a quarter of a second; then it writes without a pause.
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.3 + moments.random() / 2)
        if process.poll() is not None:
            process.communicate()
            break
        kill_tree(process)
        kills += 1
        for candidate in Archive.open(archive.root).genealogy().children("grpo"):
            assert_whole(archive, candidate.name)
        age_locks(archive)
    git("fsck", "--strict")
    last = start(archive, "c", CANDIDATES)
    _, errors = last.communicate()
    assert last.returncode == 0, errors.decode()
    assert kills >= 3
    genealogy = Archive.open(archive.root).genealogy()
    assert len(genealogy) == CANDIDATES + 1
    assert all(PROTOCOL in candidate.metrics for candidate in genealogy.children("grpo"))
    git("fsck", "--strict")
    # A kill after the last write leaves a lock file that no later write meets.
    archive.repair({})
    assert archive.examine({}) == ()


def test_a_torn_transaction_is_completed_by_writing_again(archive: Archive, git: Git) -> None:
    """The evidence has moved and the branch has not: a kill can leave this state."""
    archive.add_candidate(make_proposal("x"), "# x\n")
    git("update-ref", "-d", "refs/heads/poise/x")
    assert "x" not in archive.genealogy()
    assert ["evidence without branch" in finding.what for finding in archive.examine({})] == [True]
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert_whole(archive, "x")
    assert archive.examine({}) == ()


@pytest.mark.parametrize("ref", ["refs/heads/evidence/x", "refs/heads/poise/x"])
def test_a_lock_file_left_by_a_kill_is_removed_once_it_is_old(archive: Archive, ref: str) -> None:
    lock = archive.root / ".git" / f"{ref}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    age_locks(archive)
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert_whole(archive, "x")
    assert not lock.exists()


def test_a_lock_that_a_live_process_may_hold_is_kept(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = archive.root / ".git" / "refs" / "heads" / "poise" / "x.lock"
    lock.touch()
    monkeypatch.setattr("poise_git.archive.writer.ATTEMPTS", 2)
    with pytest.raises(RefMoved, match=r"x\.lock"):
        archive.add_candidate(make_proposal("x"), "# x\n")
    assert lock.exists()


def test_without_the_hook_git_itself_would_lose_notes(archive: Archive, git: Git, tmp_path: Path) -> None:
    """The purpose of the reference-transaction hook: it refuses an update that would drop newer notes."""
    commit = archive.genealogy().root.commit
    git("notes", "--ref=poise/metrics", "append", "-m", "first", commit)
    stale = git("rev-parse", "refs/notes/poise/metrics").strip()
    git("notes", "--ref=poise/metrics", "append", "-m", "second", commit)
    # `git notes` makes the newest commit the parent of a tree that it read before.
    tree = git("rev-parse", f"{stale}^{{tree}}").strip()
    disguised = git("commit-tree", tree, "-p", "refs/notes/poise/metrics", "-m", "Notes added").strip()
    for commit_that_loses in (stale, disguised):
        with pytest.raises(AssertionError, match="would remove notes"):
            run_git(archive.root, "update-ref", "refs/notes/poise/metrics", commit_that_loses)
    git("notes", "--ref=poise/metrics", "append", "-m", "third", commit)
    assert "second" in git("notes", "--ref=poise/metrics", "show", commit)
