"""The loop on a real archive, with a backend of made-up figures. Its invariants:

L1  Every candidate is one commit on top of its parent's, which changes recipe/algorithm.py and nothing else.
L2  Every candidate is recorded as evaluated, or as failed with stage and reason; every round is in the journal.
L3  The same seed gives the same search, number for number.
L4  A search that is killed at any moment and resumed ends like one that was never killed.
L5  Repeating a finished search changes nothing.
L6  A candidate that cannot be trained becomes a failed entry with its reason, and the search continues.
L7  Another objective rescores the same runs: nothing is trained again.

tests/test_real_search.py tests the same with real checks and real training.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from poise_git import loop
from poise_git.agents.interface import Agent
from poise_git.agents.library.agent import LibraryAgent
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Direction, Proposal, Status
from poise_git.cli.sessions import open_session
from poise_git.errors import PoiseError
from poise_git.events import CandidateEvaluated, CandidateFailed, Event, JobProgress, Preparing, RunEnded
from poise_git.experiment import Experiment
from poise_git.loop import BARREN_ROUNDS, Goal, SearchResult
from poise_git.pipeline.backends import BACKENDS
from poise_git.search.context.context import Context
from poise_git.search.proposals.screening import Opinion
from poise_git.steps.session import Session
from poise_git.steps.verify import verify_branch
from tests.conftest import copy_of, edit_settings, git
from tests.fake_backend import NAME, PROGRAM, Fake, FakeBackend, check_by_reading
from tests.loop_invariants import require_every_candidate_accounted_for, require_one_commit_a_candidate, result

CANDIDATES = 3


@pytest.fixture(scope="module")
def searched_once(
    archive_templates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Archive, SearchResult]:
    """An undisturbed search; tests that change it copy it."""
    archive = copy_of(archive_templates["fake"], tmp_path_factory.mktemp("searched") / "search")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, NAME, Fake())
        patch.setattr("poise_git.steps.verify.check_candidate", check_by_reading)
        ended, _ = evolve(archive, Goal(candidates=CANDIDATES))
    return archive, ended


@pytest.fixture
def searched(
    searched_once: tuple[Archive, SearchResult], fake_archive: Archive, checks_read: None, tmp_path: Path
) -> Archive:
    """A copy of that search."""
    return copy_of(searched_once[0].root, tmp_path / "searched")


def evolve(archive: Archive, goal: Goal, *, agent: Agent | None = None) -> tuple[SearchResult, list[Event]]:
    seen: list[Event] = []
    with open_session(Experiment.load(archive), seen.append, workers=2) as session:
        if agent is not None:
            session.agent = agent
        return loop.evolve(session, goal), seen


def test_every_candidate_is_one_commit(searched: Archive) -> None:
    """L1"""
    require_one_commit_a_candidate(searched)


def test_every_candidate_is_recorded(searched: Archive, searched_once: tuple[Archive, SearchResult]) -> None:
    """L2"""
    require_every_candidate_accounted_for(searched)
    protocol = Experiment.load(searched).protocol.hash
    statuses = [candidate.status_under(protocol) for candidate in searched.genealogy()]
    assert statuses.count(Status.EVALUATED) == CANDIDATES + 1
    assert searched_once[1].evaluated == CANDIDATES


def test_the_same_seed_gives_the_same_search(searched: Archive, fake_archive: Archive) -> None:
    """L3"""
    evolve(fake_archive, Goal(candidates=CANDIDATES))
    assert result(fake_archive) == result(searched)


def test_repeating_the_command_changes_nothing(searched: Archive) -> None:
    """L5"""
    refs = git(searched.root, "for-each-ref")
    evolve(searched, Goal(candidates=CANDIDATES))
    assert git(searched.root, "for-each-ref") == refs
    assert FakeBackend.trained == []


def test_another_objective_rescores_the_same_runs(searched: Archive) -> None:
    """L7"""
    folder, protocol = searched.root, Experiment.load(searched).protocol.hash
    shorter = "  metrics: {reuse: 1, mean_length: {direction: minimize, scale: 10}}"
    edit_settings(folder, "  metrics: {}", shorter)
    edit_settings(folder, "  constraints: []", "  constraints: [{metric: mean_length, at_most: 0}]")
    ended, _ = evolve(searched, Goal(candidates=CANDIDATES))
    # The new winner may be confirmed on fresh seeds, which adds runs; the runs of the search exist.
    fresh = Experiment.load(searched).protocol.confirmation_seeds
    assert set(FakeBackend.trained) <= {(name, seed) for name in (ended.best, ROOT) for seed in fresh}
    for candidate in searched.genealogy():
        metrics = candidate.metrics_under(protocol)
        assert metrics is not None
        assert metrics.utility is not None
        length = metrics.further["mean_length"].value
        assert metrics.utility.value == pytest.approx(0.5 * metrics.values["reuse"].value - 0.05 * length, abs=1e-5)
        (violation,) = metrics.violations
        assert violation.excess.n == len(metrics.seeds)
        if len(metrics.seeds) == 2:
            assert violation.excess.value == pytest.approx(length)


def test_a_search_interrupted_after_any_step_ends_the_same(searched: Archive, fake_archive: Archive) -> None:
    """L4: an interrupt at the first report of every step, one after the other, on one archive."""
    stopped_at = set[str]()

    def stop(event: Event) -> None:
        step = repr(event)
        if not isinstance(event, JobProgress | Preparing) and step not in stopped_at:
            stopped_at.add(step)
            raise KeyboardInterrupt

    interrupts = 0
    while True:
        try:
            with open_session(Experiment.load(fake_archive), stop, workers=2) as session:
                loop.evolve(session, Goal(candidates=CANDIDATES))
            break
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts > 4 * CANDIDATES
    assert result(fake_archive) == result(searched)
    require_every_candidate_accounted_for(fake_archive)


@pytest.mark.slow
def test_a_search_killed_at_any_moment_ends_the_same(searched: Archive, fake_archive: Archive) -> None:
    """L4, with SIGKILL to the whole process group, so that nothing gets to clean up."""
    command = [sys.executable, "-m", PROGRAM, "evolve", str(fake_archive.root), "--json"]
    command += ["--candidates", str(CANDIDATES), "--workers", "2"]
    rng, kills = random.Random(4), 0
    for attempt in range(40):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        # Starting takes longer than searching, so the time counts from the first event.
        process.stdout.readline()
        try:
            # Kill later each time, so that the search ends on a busy machine.
            _, errors = process.communicate(timeout=rng.uniform(0.05, 0.8 * 1.5**attempt))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            git(fake_archive.root, "fsck", "--strict")
            continue
        assert process.returncode == 0, errors
        break
    else:
        pytest.fail("never came to an end")
    assert kills >= 3
    assert result(fake_archive) == result(searched)


def test_uncertain_leaders_are_replicated_once_even_after_an_interruption(
    fake_archive: Archive, archive_templates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    checks_read: None,
) -> None:  # fmt: skip
    """A replication only runs further seeds, makes the gain more certain, and is resumed like any other step."""
    monkeypatch.setattr("poise_git.search.selection.tree.UNCERTAIN", 0.0)
    evolve(fake_archive, Goal(candidates=5))
    experiment = Experiment.load(fake_archive)
    again = [name for data in fake_archive.rounds() for name in data["again"]]
    assert again
    assert len(set(again)) == len(again)
    further = experiment.protocol.further_seeds
    assert {run.seed for run in experiment.runs(ROOT, further)} == set(further)
    for name, (_, metrics) in experiment.evaluated().items():
        assert metrics.utility is not None
        assert metrics.utility.n == (4 if name in again else 2)

    stopped = copy_of(archive_templates["fake"], tmp_path / "stopped")

    def stop(event: Event) -> None:
        if isinstance(event, RunEnded) and event.seed in further:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), open_session(Experiment.load(stopped), stop, workers=2) as session:
            loop.evolve(session, Goal(candidates=5))
    evolve(stopped, Goal(candidates=5))
    assert result(stopped) == result(fake_archive)


def test_a_candidate_that_fails_in_training_fails_once_and_the_search_continues(
    searched_once: tuple[Archive, SearchResult], fake_archive: Archive, checks_read: None
) -> None:
    """L6"""
    first = next(name for name in names_of(searched_once[0]) if name != ROOT)
    FakeBackend.failing.add(first)
    _, seen = evolve(fake_archive, Goal(candidates=2))
    failures = [event for event in seen if isinstance(event, CandidateFailed)]
    assert [(event.name, event.stage, event.reason) for event in failures] == [(first, "train", "it fails here")]
    assert status_of(fake_archive, first) is Status.FAILED
    assert {event.name for event in seen if isinstance(event, CandidateEvaluated)} - {ROOT} == {
        name for name in names_of(fake_archive) if name not in (ROOT, first)
    }
    require_every_candidate_accounted_for(fake_archive)
    FakeBackend.trained.clear()
    evolve(fake_archive, Goal(candidates=2))
    assert FakeBackend.trained == [], "a failed candidate is not tried again"


def test_a_used_up_budget_of_hours_ends_a_search_without_confirmation(fake_archive: Archive, checks_read: None) -> None:
    ended, _ = evolve(fake_archive, Goal(candidates=1, hours=0.0))
    assert ended.out_of_budget
    assert (ended.evaluated, ended.confirmation) == (0, None)
    assert {seed for _, seed in FakeBackend.trained} == set(Experiment.load(fake_archive).protocol.seeds)


BAD = {
    "does-not-parse": "def compute_advantages(:\n",
    "returns-nan": "def scale(signal, rollouts):\n    return torch.zeros_like(signal)\n",
    "mutates-its-input": (
        "def shape_token_advantages(advantages, old_log_prob, response_mask):\n    return advantages.mul_(2.0)\n"
    ),
    "wrong-shape": "def shape_advantages(advantages, rollouts):\n    return advantages[:-1]\n",
    "sleeps-for-ever": "def reward_signal(rollouts):\n    while True:\n        pass\n",
    "prints-a-gigabyte": (
        "def reward_signal(rollouts):\n    for _ in range(1000):\n        print('x' * 1_000_000)\n"
        "    return rollouts.score\n"
    ),
}


class BadAgent:
    """Proposes algorithms that are broken, each in its own way."""

    name = "bad"

    def __init__(self) -> None:
        self.left = dict(BAD)
        self.library = LibraryAgent()

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        if not self.left:
            return self.library.propose(context, directions, seed)
        name, text = self.left.popitem()
        return (Proposal(name, ROOT, name, "it is broken", "broken", self.name, plan={"text": text}),)

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        return tuple(Opinion(1.0, 1.0, 0.5, True, "why not") for _ in proposals)

    def implement(self, proposal: Proposal, context: Context) -> str:
        if proposal.agent != self.name:
            return self.library.implement(proposal, context)
        return context.source + "\n\n" + str(proposal.plan["text"])

    def __getattr__(self, name: str) -> object:
        return getattr(self.library, name)


@pytest.mark.slow
def test_broken_algorithms_become_failed_entries(fake_archive: Archive) -> None:
    edit_settings(fake_archive.root, "  wall_seconds: 900", "  wall_seconds: 8")
    before = children_of_this_process()
    evolve(fake_archive, Goal(rounds=3), agent=BadAgent())
    protocol = Experiment.load(fake_archive).protocol.hash
    genealogy = fake_archive.genealogy()
    reasons = {}
    for name in BAD:
        metrics = genealogy[name].metrics_under(protocol)
        assert metrics is not None
        assert metrics.status is Status.FAILED
        assert "\n" not in metrics.reason
        reasons[name] = f"{metrics.stage}: {metrics.reason}"
    assert "line" in reasons["does-not-parse"]
    assert "finite" in reasons["returns-nan"] or "nan" in reasons["returns-nan"].lower()
    assert "mutat" in reasons["mutates-its-input"] or "chang" in reasons["mutates-its-input"]
    assert "limit" in reasons["sleeps-for-ever"]
    assert children_of_this_process() == before
    git(fake_archive.root, "fsck", "--strict")


def test_a_bad_candidate_is_not_trained_after_a_kill_before_its_verdict(
    fake_archive: Archive, checks_read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4: a kill between the commit of a candidate and the verdict of its checks."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    agent = BadAgent()
    agent.left = {"does-not-parse": BAD["does-not-parse"]}
    with monkeypatch.context() as patch:
        patch.setattr(Session, "fail", die)
        with pytest.raises(KeyboardInterrupt):
            evolve(fake_archive, Goal(rounds=1), agent=agent)
    evolve(fake_archive, Goal(rounds=1), agent=agent)
    assert status_of(fake_archive, "does-not-parse") is Status.FAILED


class Copyist(BadAgent):
    """Proposes only the parent's own algorithm."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        self.count += 1
        name = f"copy-{self.count}"
        return (Proposal(name, ROOT, name, "it is the same", "copy", self.name, plan={"n": self.count}),)

    def implement(self, proposal: Proposal, context: Context) -> str:
        return context.source + "\n# a comment\n"


def test_a_search_that_finds_nothing_ends(fake_archive: Archive) -> None:
    with pytest.raises(PoiseError, match="brought no candidate with figures"):
        evolve(fake_archive, Goal(candidates=1), agent=Copyist())
    assert fake_archive.count_rounds() == BARREN_ROUNDS


def test_duplicates_are_refused_in_the_journal_and_rounds_continue(fake_archive: Archive) -> None:
    agent = Copyist()
    evolve(fake_archive, Goal(rounds=1), agent=agent)
    evolve(fake_archive, Goal(rounds=1), agent=agent)
    rounds = fake_archive.rounds()
    assert len(rounds) == 2
    entries = [entry for data in rounds for slot in data["slots"] for entry in slot["proposals"]]
    assert {(entry["verdict"], entry["gate"], entry["reason"]) for entry in entries} == {
        ("rejected", "duplicate", "the same algorithm as grpo")
    }
    assert [entry["attempt"] for entry in entries] == [2, 1, 0] * 6
    assert [candidate.name for candidate in fake_archive.genealogy()] == [ROOT]


def test_a_failed_root_is_tried_again(fake_archive: Archive, checks_read: None) -> None:
    FakeBackend.failing.add(ROOT)
    with pytest.raises(PoiseError, match="evolve tries it again"):
        evolve(fake_archive, Goal(rounds=1))
    assert status_of(fake_archive, ROOT) is Status.FAILED
    FakeBackend.failing.clear()
    evolve(fake_archive, Goal(rounds=1))
    assert status_of(fake_archive, ROOT) is Status.EVALUATED


def test_handmade_branches_that_are_no_candidates_do_no_harm(fake_archive: Archive, checks_read: None) -> None:
    root = fake_archive.root
    git(root, "switch", "-qc", "poise/no-algorithm", "poise/grpo")
    git(root, "rm", "-q", "recipe/algorithm.py")
    git(root, "commit", "-qm", "nothing left")
    git(root, "switch", "-qc", "poise/other-rollouts", "poise/grpo")
    (root / "recipe" / "rollouts.py").write_text("")
    git(root, "commit", "--no-verify", "-qam", "other helpers")
    git(root, "switch", "-q", "main")
    evolve(fake_archive, Goal(rounds=1))
    with open_session(Experiment.load(fake_archive), lambda event: None) as session:
        assert not verify_branch(session, "no-algorithm")
        assert not verify_branch(session, "other-rollouts")
    assert status_of(fake_archive, "other-rollouts") is Status.FAILED


def names_of(archive: Archive) -> list[str]:
    return [candidate.name for candidate in archive.genealogy()]


def status_of(archive: Archive, name: str) -> Status:
    return archive.genealogy()[name].status_under(Experiment.load(archive).protocol.hash)


def children_of_this_process() -> set[int]:
    """Child processes except git's persistent one, which runs while an archive is open."""
    time.sleep(0.2)
    found = {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    return {pid for pid in found if not Path(f"/proc/{pid}/comm").read_text().startswith("git")}
