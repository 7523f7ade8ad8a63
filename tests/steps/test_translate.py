"""A directive becomes an objective: shown, journaled, committed, edited; unknown words change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from poise_git.archive import Archive
from poise_git.cli.main import cli
from poise_git.experiment import Experiment
from poise_git.settings import PoiseSettings, load_settings
from tests import sentences
from tests.conftest import edit_settings, git

pytestmark = pytest.mark.slow


def run(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def objective_of(archive: Archive) -> dict[str, Any]:
    return Experiment.load(archive).objective.stated.to_data()


def test_evolve_translates_a_directive_once_and_keeps_later_edits(fake_archive: Archive, checks_read: None) -> None:
    root = fake_archive.root
    before = (root / "poise.yaml").read_text()
    shown = run("evolve", root, "--directive", "accurate and concise", "--rounds", 1, "--proposals", 1).stdout
    found = objective_of(fake_archive)
    assert list(found["metrics"]) == ["overall", "mean_length"]
    assert found["metrics"]["mean_length"]["direction"] == "minimize"
    assert found["constraints"] == [{"metric": "overall", "at_least": "root"}]
    assert "objective: maximize overall, minimize mean_length" in shown
    assert shown.index("objective:") < shown.index("round 1")

    text = git(root, "show", "main:poise.yaml")
    assert (root / "poise.yaml").read_text() == text, "the work tree follows"
    assert git(root, "status", "--porcelain") == ""
    assert [line for line in text.splitlines() if "#" in line] == [line for line in before.splitlines() if "#" in line]
    assert load_settings(text, PoiseSettings, "poise.yaml").directive == "accurate and concise"
    assert "directive(1): accurate and concise" in git(root, "log", "-1", "--format=%s", "main")
    (journaled,) = fake_archive.directives()
    assert journaled["directive"] == "accurate and concise"
    assert journaled["agent"] == "library"
    assert journaled["objective"] == found
    assert journaled["reasons"]
    assert {metrics.objective for node in fake_archive.genealogy() for metrics in node.metrics.values()} == {
        Experiment.load(fake_archive).objective.fingerprint
    }, "the root is scored by it too"

    edit_settings(root, "{overall: 1.0, mean_length: {weight: 0.3", "{overall: 1.0, mean_length: {weight: 0.1")
    run("evolve", root, "--directive", "accurate and concise", "--rounds", 1, "--proposals", 1)
    assert objective_of(fake_archive)["metrics"]["mean_length"]["weight"] == 0.1
    assert len(fake_archive.directives()) == 1
    other = run("evolve", root, "--directive", "explore", "--rounds", 1, "--proposals", 1)
    assert "poise-git directive explore --commit" in other.stderr
    assert objective_of(fake_archive)["metrics"]["mean_length"]["weight"] == 0.1


def test_an_unknown_directive_is_reported_and_changes_nothing(fake_archive: Archive, checks_read: None) -> None:
    root = fake_archive.root
    shown = run("evolve", root, "--directive", "witty", "--rounds", 1, "--proposals", 1).stdout
    assert sentences.DIRECTIVE_UNKNOWN_WORDS.format(strange="witty", known="accura…") in shown
    assert sentences.OBJECTIVE_UNCHANGED in shown
    assert objective_of(fake_archive) == {"metrics": {"overall": 1.0}, "constraints": []}
    assert fake_archive.directives()[0]["not_understood"] == ["witty"]


def test_the_command_directive_shows_and_commits_on_request(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    refused = run("-C", root, "directive", "concise", code=1)
    assert "poise-git evaluate grpo" in str(refused.exception)
    run("-C", root, "evaluate", "grpo")
    refs = git(root, "for-each-ref")
    text = run("-C", root, "directive", "not longer").stdout
    assert "mean_length at most the root's" in text
    assert "objective:\n" in text
    assert git(root, "for-each-ref") == refs
    document = json.loads(run("-C", root, "directive", "not longer", "--json").stdout)
    assert document["objective"]["constraints"] == [{"metric": "mean_length", "at_most": "root"}]
    git(root, "switch", "-qc", "elsewhere")
    run("-C", root, "directive", "not longer", "--commit")
    assert objective_of(tiny_archive)["constraints"] == [{"metric": "mean_length", "at_most": "root"}]
    assert git(root, "status", "--porcelain") == ""
