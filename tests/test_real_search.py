"""One search with real checks and real training, killed and resumed, to test the loop beyond the fake backend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.experiment import Experiment
from tests.conftest import copy_of, git
from tests.in_process import poise_git
from tests.loop_invariants import require_every_candidate_accounted_for, require_one_commit_a_candidate

pytestmark = pytest.mark.slow

CANDIDATES = 3


def evolving(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "poise_git", "evolve", str(root), "--json"]
    return subprocess.Popen(
        [*command, "--candidates", str(CANDIDATES), "--workers", "2"],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def interrupted() -> list[tuple[str, int]]:
    """Candidate and seed of the jobs that were in training at the kills; filled by `searched`."""
    return []


@pytest.fixture(scope="module")
def searched(
    archive_templates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, interrupted: list[tuple[str, int]]
) -> Archive:
    """A search that was killed while it trained the root and its first candidate, and then resumed to its end."""
    root = copy_of(archive_templates["short"], tmp_path_factory.mktemp("real") / "search").root
    for is_of_root in (True, False):
        with evolving(root) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                trains = event["event"] == "JobProgress" and event["progress"]["stage"] == "train"
                if trains and (event["candidate"] == ROOT) is is_of_root and event["seed"] in (0, 2):
                    interrupted.append((event["candidate"], event["seed"]))
                    break
            os.killpg(process.pid, signal.SIGKILL)
        git(root, "fsck", "--strict")
    with evolving(root) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return Archive.open(root)


def test_a_search_keeps_its_invariants(searched: Archive) -> None:
    """L1, L2"""
    require_one_commit_a_candidate(searched)
    require_every_candidate_accounted_for(searched)
    protocol = Experiment.load(searched).protocol.hash
    statuses = [candidate.status_under(protocol) for candidate in searched.genealogy()]
    assert statuses.count(Status.EVALUATED) == CANDIDATES + 1


def test_repeating_the_command_changes_nothing(searched: Archive) -> None:
    """L5"""
    refs = git(searched.root, "for-each-ref")
    with evolving(searched.root) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert git(searched.root, "for-each-ref") == refs


def test_a_run_killed_in_training_has_the_same_figures_after_a_resume(
    searched: Archive, interrupted: list[tuple[str, int]]
) -> None:
    """L3, L4: to the last bit."""
    assert len(interrupted) == 2
    for name, seed in interrupted:
        again = poise_git("-C", searched.root, "reproduce", name, "--seed", str(seed), "--json")
        assert again.returncode == 0, again.stderr
        found = json.loads(again.stdout)
        assert (found["outcome"], found["seed"]) == ("equal", seed)
