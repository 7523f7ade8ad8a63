"""A winner and the root on fresh seeds, each at its best learning rate."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from poise_git import loop
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT
from poise_git.cli.sessions import open_session
from poise_git.errors import RunFailed
from poise_git.experiment import Experiment
from poise_git.loop import Goal
from poise_git.measurement.figures import UTILITY
from poise_git.pipeline.interface import Job, Trained
from poise_git.steps.confirm import confirm
from tests.conftest import git
from tests.fake_backend import FakeBackend
from tests.in_process import poise_git

FACTORS = (1.0, 0.5, 2.0)


@pytest.fixture
def archive(fake_archive: Archive, checks_read: None) -> Archive:
    """An archive with one candidate, whose protocol has named further learning rates only after the search."""
    state_in_protocol(fake_archive, "settings: {training: {learning_rate: 0.01}}\n")
    with open_session(Experiment.load(fake_archive), lambda event: None, workers=1) as session:
        loop.evolve(session, Goal(candidates=1))
    state_in_protocol(fake_archive, "finalist_learning_rates: [0.5, 2]\n")
    return fake_archive


def state_in_protocol(archive: Archive, lines: str) -> None:
    file = Path(archive.root, "protocols/fake.yaml")
    file.write_text(file.read_text() + lines)
    git(archive.root, "commit", "-qam", lines)


def winner_of(archive: Archive) -> str:
    (name,) = [candidate.name for candidate in archive.genealogy() if candidate.name != ROOT]
    return name


def confirm_again(archive: Archive) -> None:
    with open_session(Experiment.load(archive), lambda event: None, workers=1) as session:
        confirm(session, winner_of(archive))


def utility(experiment: Experiment, name: str, factor: float, seeds: tuple[int, ...]) -> float:
    at = experiment.at_learning_rate(factor)
    found = at.objective.figures(at.runs(name, seeds))[UTILITY]
    assert len(found) == len(seeds)
    return statistics.fmean(found.values())


def test_each_is_compared_at_its_best_learning_rate(archive: Archive) -> None:
    confirm_again(archive)
    experiment, name = Experiment.load(archive), winner_of(archive)
    assert len({experiment.at_learning_rate(factor).protocol.hash for factor in FACTORS}) == 3
    best = {}
    for each in (name, ROOT):
        by_rate = {factor: utility(experiment, each, factor, experiment.protocol.seeds) for factor in FACTORS}
        best[each] = max(by_rate, key=lambda factor: by_rate[factor])
        assert experiment.best_learning_rate(each) == best[each]
    gain = experiment.confirmation(name)
    fresh = experiment.protocol.confirmation_seeds
    assert gain is not None
    assert gain.value == pytest.approx(
        utility(experiment, name, best[name], fresh) - utility(experiment, ROOT, best[ROOT], fresh)
    )


def test_a_confirmation_is_carried_out_once(archive: Archive) -> None:
    confirm_again(archive)
    FakeBackend.trained.clear()
    confirm_again(archive)
    assert FakeBackend.trained == []
    protocol = Experiment.load(archive).protocol
    runs = [run for each in (winner_of(archive), ROOT) for run in archive.runs(each)]
    # Those of the search come on top.
    assert len(runs) - 2 * len(protocol.seeds) <= protocol.confirmation_runs


def test_a_rate_at_which_training_fails_is_not_the_best(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, train = Experiment.load(archive), FakeBackend.train
    fast = experiment.at_learning_rate(2.0).protocol.hash

    def diverging(self: FakeBackend, job: Job, *arguments: Any) -> Trained:
        if job.protocol.hash == fast:
            raise RunFailed("train", "gradient norm is not finite")
        return train(self, job, *arguments)

    monkeypatch.setattr(FakeBackend, "train", diverging)
    confirm_again(archive)
    assert {experiment.best_learning_rate(each) for each in (winner_of(archive), ROOT)} <= {0.5, 1.0}
    assert experiment.confirmation(winner_of(archive)) is not None


def test_the_verdict_names_the_learning_rates(archive: Archive) -> None:
    name = winner_of(archive)
    done = poise_git("-C", archive.root, "confirm", name)
    assert done.returncode == 0, done.stderr
    experiment = Experiment.load(archive)
    own, root = (experiment.best_learning_rate(each) for each in (name, ROOT))
    assert f"each at its best of 3 learning rates ({name} ×{own:g}, {ROOT} ×{root:g})" in done.stdout
