"""The loop, for real at a small size: git, child processes, training. Its invariants:

L1  Every candidate is one commit on top of its parent's, which changes recipe/algorithm.py and nothing else.
L2  Every candidate is accounted for: evaluated, or failed with stage and reason; and every round is in the journal.
L3  The same seed gives the same search, number for number.
L4  A search that is killed at any moment and started again ends as one that was never killed.
L5  Asking for what is there already changes nothing.
L6  What cannot be trained becomes a failed entry with its reason, and the search goes on.
L7  Another objective is another utility of the same runs: nothing is trained again.
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
from poise_git.events import Event, RunEnded
from poise_git.experiment import Experiment
from poise_git.loop import Goal, SearchResult
from poise_git.search.context.context import Context
from poise_git.search.proposals.screening import Opinion
from poise_git.steps.session import Session
from poise_git.steps.verify import verify_branch
from tests.conftest import copy_of, edit_settings, git

pytestmark = pytest.mark.slow


def evolve(archive: Archive, goal: Goal, *, agent: Agent | None = None) -> tuple[SearchResult, list[Event]]:
    seen: list[Event] = []
    with open_session(Experiment.load(archive), seen.append, workers=2) as session:
        if agent is not None:
            session.agent = agent
        return loop.evolve(session, goal), seen


def result(archive: Archive) -> dict[str, tuple[object, ...]]:
    """What a search has found, without the times at which it did."""
    experiment = Experiment.load(archive)
    found = {}
    for candidate in archive.genealogy():
        metrics = candidate.metrics_under(experiment.protocol.hash)
        source = archive.recipe(candidate.name)["algorithm.py"]
        figures = (metrics.status, metrics.utility, metrics.gain, metrics.stage) if metrics else ()
        found[candidate.name] = (candidate.parents, source, *figures)
    return found


def test_a_search_keeps_its_invariants(
    short_archive: Archive, archive_templates: dict[str, Path], tmp_path: Path
) -> None:
    ended, _ = evolve(short_archive, Goal(candidates=4))
    folder, genealogy = short_archive.root, short_archive.genealogy()
    protocol = Experiment.load(short_archive).protocol.hash

    for candidate in genealogy:  # L1
        changed = git(folder, "diff-tree", "--no-commit-id", "--name-only", "-r", candidate.commit).split()
        assert changed == ["recipe/algorithm.py"]
        parents = git(folder, "rev-list", "--parents", "-n1", candidate.commit).split()[1:]
        assert parents == [genealogy[parent].commit for parent in candidate.parents] or candidate.name == ROOT

    statuses = [candidate.status_under(protocol) for candidate in genealogy]  # L2
    assert statuses.count(Status.EVALUATED) == 4 + 1
    assert Status.PENDING not in statuses
    for candidate in genealogy:
        files = git(folder, "ls-tree", "-r", "--name-only", f"evidence/{candidate.name}", f"evidence/{candidate.name}/")
        assert f"evidence/{candidate.name}/metrics.yaml" in files
    rounds = short_archive.rounds()
    assert [data["round"] for data in rounds] == list(range(1, len(rounds) + 1))
    journalled = {entry["proposal"]["name"] for data in rounds for slot in data["slots"] for entry in slot["proposals"]}
    assert {candidate.name for candidate in genealogy} - {ROOT} <= journalled
    assert ended.evaluated == 4
    git(folder, "fsck", "--strict")
    assert git(folder, "status", "--porcelain") == ""

    again = copy_of(archive_templates["short"], tmp_path / "again")  # L3
    evolve(again, Goal(candidates=4))
    assert result(again) == result(short_archive)

    refs = git(folder, "for-each-ref")  # L5
    evolve(short_archive, Goal(candidates=4))
    assert git(folder, "for-each-ref") == refs

    shorter = "  metrics: {reuse: 1, mean_length: {direction: minimise, scale: 10}}"  # L7
    edit_settings(folder, "  metrics: {}", shorter)
    edit_settings(folder, "  constraints: []", "  constraints: [{metric: mean_length, at_most: 0}]")
    runs = git(folder, "rev-parse", "refs/notes/poise/trajectory")
    ended, _ = evolve(short_archive, Goal(candidates=4))
    # The new winner may meet the root on fresh seeds, which adds runs; the search's own are there.
    fresh = git(folder, "diff", "--name-only", runs.strip(), "refs/notes/poise/trajectory").split()
    notes = {git(folder, "rev-parse", f"poise/{name}").strip() for name in (ended.best, ROOT)}
    assert {path.replace("/", "") for path in fresh} <= notes
    for candidate in short_archive.genealogy():
        metrics = candidate.metrics_under(protocol)
        assert metrics is not None
        assert metrics.utility is not None
        length = metrics.further["mean_length"].value
        assert metrics.utility.value == pytest.approx(0.5 * metrics.values["reuse"].value - 0.05 * length, abs=1e-5)
        (violation,) = metrics.violations
        assert violation.excess.n == len(metrics.seeds)
        if len(metrics.seeds) == 2:
            assert violation.excess.value == pytest.approx(length)


def test_killed_at_any_moment_it_ends_the_same(
    short_archive: Archive, archive_templates: dict[str, Path], tmp_path: Path
) -> None:
    """L4, with SIGKILL to the whole process group, so that nothing gets to clean up."""
    evolve(short_archive, Goal(candidates=4))
    killed = copy_of(archive_templates["short"], tmp_path / "killed")
    command = [sys.executable, "-m", "poise_git", "evolve", str(killed.root), "--candidates", "4", "--workers", "2"]
    rng, kills = random.Random(4), 0
    for attempt in range(40):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            # Later and later, so that it ends on a machine with much else to do.
            process.wait(timeout=rng.uniform(2.0, 9.0 * 1.2**attempt))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            git(killed.root, "fsck", "--strict")
            continue
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
        break
    else:
        pytest.fail("never came to an end")
    assert kills >= 3
    assert result(Archive.open(killed.root)) == result(short_archive)


def test_uncertain_leaders_are_measured_again_once_also_after_an_interruption(
    short_archive: Archive, archive_templates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring again costs runs of further seeds alone, makes the gain more certain, and is resumed like all else."""
    monkeypatch.setattr("poise_git.search.selection.tree.UNCERTAIN", 0.0)
    evolve(short_archive, Goal(candidates=5))
    experiment = Experiment.load(short_archive)
    again = [name for data in short_archive.rounds() for name in data["again"]]
    assert again
    assert len(set(again)) == len(again)
    further = experiment.protocol.further_seeds
    assert {run.seed for run in experiment.runs(ROOT, further)} == set(further)
    for name, (_, metrics) in experiment.evaluated().items():
        assert metrics.utility is not None
        assert metrics.utility.n == (4 if name in again else 2)

    stopped = copy_of(archive_templates["short"], tmp_path / "stopped")

    def stop(event: Event) -> None:
        if isinstance(event, RunEnded) and event.seed in further:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), open_session(Experiment.load(stopped), stop, workers=2) as session:
            loop.evolve(session, Goal(candidates=5))
    evolve(stopped, Goal(candidates=5))
    assert result(stopped) == result(short_archive)


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


def test_broken_algorithms_become_failed_entries(tiny_archive: Archive) -> None:
    edit_settings(tiny_archive.root, "  wall_seconds: 900", "  wall_seconds: 8")
    before = children_of_this_process()
    evolve(tiny_archive, Goal(rounds=3), agent=BadAgent())
    protocol = Experiment.load(tiny_archive).protocol.hash
    genealogy = tiny_archive.genealogy()
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
    git(tiny_archive.root, "fsck", "--strict")


def test_killed_before_its_verdict_a_bad_candidate_is_not_trained(
    tiny_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4: between the commit of a candidate and the verdict of its checks there is a moment to be killed in."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    agent = BadAgent()
    agent.left = {"returns-nan": BAD["returns-nan"]}
    with monkeypatch.context() as patch:
        patch.setattr(Session, "fail", die)
        with pytest.raises(KeyboardInterrupt):
            evolve(tiny_archive, Goal(rounds=1), agent=agent)
    evolve(tiny_archive, Goal(rounds=1), agent=agent)
    assert status_of(tiny_archive, "returns-nan") is Status.FAILED


class Copyist(BadAgent):
    """Has no idea but its parent's."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        self.count += 1
        name = f"copy-{self.count}"
        return (Proposal(name, ROOT, name, "it is the same", "copy", self.name, plan={"n": self.count}),)

    def implement(self, proposal: Proposal, context: Context) -> str:
        return context.source + "\n# a comment\n"


def test_duplicates_are_refused_in_the_journal_and_rounds_go_on(tiny_archive: Archive) -> None:
    agent = Copyist()
    evolve(tiny_archive, Goal(rounds=1), agent=agent)
    evolve(tiny_archive, Goal(rounds=1), agent=agent)
    rounds = tiny_archive.rounds()
    assert len(rounds) == 2
    entries = [entry for data in rounds for slot in data["slots"] for entry in slot["proposals"]]
    assert {(entry["verdict"], entry["gate"], entry["reason"]) for entry in entries} == {
        ("rejected", "twin", "the same algorithm as grpo")
    }
    assert [entry["attempt"] for entry in entries] == [2, 1, 0] * 6
    assert [candidate.name for candidate in tiny_archive.genealogy()] == [ROOT]


def test_a_root_that_failed_is_tried_again(tiny_archive: Archive) -> None:
    edit_settings(tiny_archive.root, "  memory_mb: 4096", "  memory_mb: 1")
    with pytest.raises(PoiseError, match="evolve tries it again"):
        evolve(tiny_archive, Goal(rounds=1))
    assert status_of(tiny_archive, ROOT) is Status.FAILED
    edit_settings(tiny_archive.root, "  memory_mb: 1", "  memory_mb: 4096")
    evolve(tiny_archive, Goal(rounds=1))
    assert status_of(tiny_archive, ROOT) is Status.EVALUATED


def test_branches_by_hand_that_are_no_candidates_harm_nobody(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    git(root, "switch", "-qc", "poise/no-algorithm", "poise/grpo")
    git(root, "rm", "-q", "recipe/algorithm.py")
    git(root, "commit", "-qm", "nothing left")
    git(root, "switch", "-qc", "poise/other-rollouts", "poise/grpo")
    (root / "recipe" / "rollouts.py").write_text("")
    git(root, "commit", "--no-verify", "-qam", "other helpers")
    git(root, "switch", "-q", "main")
    evolve(tiny_archive, Goal(rounds=1))
    with open_session(Experiment.load(tiny_archive), lambda event: None) as session:
        assert not verify_branch(session, "no-algorithm")
        assert not verify_branch(session, "other-rollouts")
    assert status_of(tiny_archive, "other-rollouts") is Status.FAILED


def status_of(archive: Archive, name: str) -> Status:
    return archive.genealogy()[name].status_under(Experiment.load(archive).protocol.hash)


def children_of_this_process() -> set[int]:
    """Child processes but git's own, which answers for as long as an archive is open."""
    time.sleep(0.2)
    found = {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    return {pid for pid in found if not Path(f"/proc/{pid}/comm").read_text().startswith("git")}
