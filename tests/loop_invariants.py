"""Invariants of an archive after any search, with the numbers of tests/test_loop.py."""

from __future__ import annotations

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.experiment import Experiment
from tests.conftest import git


def require_one_commit_a_candidate(archive: Archive) -> None:
    """L1"""
    genealogy = archive.genealogy()
    for candidate in genealogy:
        changed = git(archive.root, "diff-tree", "--no-commit-id", "--name-only", "-r", candidate.commit).split()
        assert changed == ["recipe/algorithm.py"]
        parents = git(archive.root, "rev-list", "--parents", "-n1", candidate.commit).split()[1:]
        assert parents == [genealogy[parent].commit for parent in candidate.parents] or candidate.name == ROOT


def require_every_candidate_accounted_for(archive: Archive) -> None:
    """L2"""
    genealogy, protocol = archive.genealogy(), Experiment.load(archive).protocol.hash
    assert Status.PENDING not in [candidate.status_under(protocol) for candidate in genealogy]
    for candidate in genealogy:
        folder = f"evidence/{candidate.name}"
        assert f"{folder}/metrics.yaml" in git(archive.root, "ls-tree", "-r", "--name-only", folder, f"{folder}/")
    rounds = archive.rounds()
    assert [data["round"] for data in rounds] == list(range(1, len(rounds) + 1))
    journaled = {entry["proposal"]["name"] for data in rounds for slot in data["slots"] for entry in slot["proposals"]}
    assert {candidate.name for candidate in genealogy} - {ROOT} <= journaled
    git(archive.root, "fsck", "--strict")
    assert git(archive.root, "status", "--porcelain") == ""


def result(archive: Archive) -> dict[str, tuple[object, ...]]:
    """The results of a search, without times."""
    experiment = Experiment.load(archive)
    found = {}
    for candidate in archive.genealogy():
        metrics = candidate.metrics_under(experiment.protocol.hash)
        source = archive.recipe(candidate.name)["algorithm.py"]
        figures = (metrics.status, metrics.utility, metrics.gain, metrics.stage) if metrics else ()
        found[candidate.name] = (candidate.parents, source, *figures)
    return found
