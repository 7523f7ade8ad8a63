"""Candidates that people commit with plain git: a search adopts them, and the human agent waits for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poise_git import loop
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.cli.sessions import open_session
from poise_git.events import Event
from poise_git.experiment import Experiment
from poise_git.loop import Goal
from tests import sentences
from tests.conftest import git
from tests.fake_backend import PROGRAM

pytestmark = pytest.mark.slow

MESSAGE = """divide by twice the deviation

Hypothesis: Advantages are too large.

Knobs: scale.factor = 2

Claims:
- At factor = 1 it is the parent. [reduction function=scale argument=factor value=1]
- Utility rises against the parent. [effect figure=utility direction=up]
- It is robust.
"""
HALVED = (
    ("epsilon: float = 1e-6) -> Tensor:", "epsilon: float = 1e-6, factor: float = 2.0) -> Tensor:"),
    ("return spread + epsilon", "return factor * spread + epsilon"),
)


def commit_candidate(
    root: Path, name: str, *, off: str = ROOT, change: tuple[tuple[str, str], ...] = HALVED, message: str = MESSAGE
) -> None:
    """Branch, edit, commit and switch back, as a person does."""
    git(root, "switch", "-qc", f"poise/{name}", f"poise/{off}")
    algorithm = root / "recipe" / "algorithm.py"
    text = algorithm.read_text()
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    algorithm.write_text(text)
    git(root, "commit", "-qam", message)
    git(root, "switch", "-q", "main")


def evolve(archive: Archive, goal: Goal) -> list[Event]:
    seen: list[Event] = []
    with open_session(Experiment.load(archive), seen.append, workers=2) as session:
        loop.evolve(session, goal)
    return seen


def status_of(archive: Archive, name: str) -> Status:
    return archive.genealogy()[name].status_under(Experiment.load(archive).protocol.hash)


def test_a_search_adopts_commits_of_people_before_the_next_round(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    commit_candidate(root, "halved")
    not_finite = (("return rollouts.score", "return rollouts.score * float('nan')"),)
    commit_candidate(root, "broken", change=not_finite, message="answer with no number\n")
    commit_candidate(root, "false", change=(*HALVED, ("return rollouts.score", "return 2.0 * rollouts.score")))
    renamed = ("spread", "deviation")
    commit_candidate(root, "renamed", change=(*HALVED, renamed))
    evolve(tiny_archive, Goal(candidates=2))
    assert tiny_archive.count_rounds() == 1, "adopted candidates count toward the goal"
    halved = tiny_archive.metrics_file("halved")
    assert halved is not None
    assert (halved.status, halved.stage, halved.reason) == (Status.EVALUATED, "", "")
    reasons = {}
    for name in ("broken", "false", "renamed"):
        metrics = tiny_archive.metrics_file(name)
        assert metrics is not None
        assert metrics.status is Status.FAILED
        reasons[name] = (metrics.stage, metrics.reason)
    assert "finite" in reasons["broken"][0]
    assert reasons["false"][0] == "claim"
    assert reasons["renamed"] == ("duplicate", "the same algorithm as halved")
    assert git(root, "ls-tree", "--name-only", "evidence/halved", "evidence/halved/").split() == [
        f"evidence/halved/{file}" for file in ("evidence.yaml", "metrics.yaml", "proposal.yaml", "reflection.md")
    ]
    proposal, reflection = tiny_archive.proposal("halved"), tiny_archive.reflection("halved")
    assert proposal is not None
    assert (proposal.agent, proposal.knobs, len(proposal.claims)) == ("human", {"scale.factor": 2.0}, 3)
    assert reflection is not None
    verdicts = {claim.statement: claim.verdict for claim in reflection.facts.claims}
    assert verdicts["At factor = 1 it is the parent."] == "held"
    assert verdicts["It is robust."] == "undecided"
    assert verdicts.keys() == {claim.statement for claim in proposal.claims}
    terms = tiny_archive.rounds()[-1]["acquisition"]["candidates"]
    assert "halved" in {candidate["name"] for candidate in terms}, "it is eligible as a parent"


@contextmanager
def waiting(archive: Archive, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A search by the human agent in another process, when it waits for a branch."""
    command = [sys.executable, "-m", PROGRAM, "evolve", str(archive.root), "--agent", "human", "--json", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("{") and json.loads(line)["event"] == "Waiting":
                break
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_human_agent_waits_for_a_branch_and_continues(fake_archive: Archive) -> None:
    with waiting(fake_archive, "--candidates", "2") as process:
        commit_candidate(fake_archive.root, "halved")
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{") and json.loads(line)["event"] == "Waiting":
                break
        assert status_of(fake_archive, "halved") is Status.EVALUATED
        # On another parent than the selected one.
        thrice = (("factor: float = 2.0", "factor: float = 3.0"),)
        commit_candidate(fake_archive.root, "third", off="halved", change=thrice, message="three times")
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["event"] == "SearchEnded"
    assert status_of(fake_archive, "third") is Status.EVALUATED
    assert fake_archive.genealogy()["third"].parents == ("halved",)
    (slot, *_) = fake_archive.rounds()[0]["slots"]
    assert [entry["verdict"] for entry in slot["proposals"]] == ["chosen"]
    assert slot["proposals"][0]["proposal"]["name"] == "halved"


def test_an_interrupted_wait_loses_nothing(fake_archive: Archive) -> None:
    with waiting(fake_archive, "--candidates", "1") as process:
        before = git(fake_archive.root, "for-each-ref")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        (line,) = process.stderr.read().split("\n")[1:-1]
        assert sentences.INTERRUPTED in line
    assert git(fake_archive.root, "for-each-ref") == before
    with waiting(fake_archive, "--candidates", "1") as process:
        commit_candidate(fake_archive.root, "halved")
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert status_of(fake_archive, "halved") is Status.EVALUATED


def test_a_wait_ends_with_the_budget_of_hours(fake_archive: Archive) -> None:
    with waiting(fake_archive, "--candidates", "1", "--budget-hours", "0.0005") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 3
    assert sentences.BUDGET_HOURS.format(hours=0.0005) in errors
    assert fake_archive.count_rounds() == 0
