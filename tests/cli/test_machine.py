"""Output before anything starts: costs, the protocols that this machine can run, the protocol of a new archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from poise_git.archive import Archive
from poise_git.cli.main import cli
from poise_git.errors import UsageError
from poise_git.experiment import Experiment
from poise_git.pipeline.backends import BACKENDS
from tests import sentences
from tests.conftest import git


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def json_of(*arguments: object) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def quantity(estimate: Any, name: str) -> tuple[float, float]:
    (found,) = [each for each in estimate["run"]["quantities"] if each["name"] == name]
    return found["low"], found["high"]


def test_an_estimate_needs_no_archive_and_no_candidate(tmp_path: Path) -> None:
    found = json_of("-C", tmp_path, "evaluate", "--protocol", "paper", "--estimate")
    assert found["protocol"]["name"] == "paper"
    assert found["runs"] == {"candidate": 1, "confirmation": 6}
    steps = 8 * (5000 // 256)
    assert quantity(found, "training steps") == (steps, steps)
    assert quantity(found, "rollouts") == (steps * 256 * 8,) * 2
    assert quantity(found, "sampled tokens") == pytest.approx((steps * 2048 * 600, steps * 2048 * 3000))
    assert quantity(found, "parameters") == (1.5e9, 1.5e9)
    # 8 N D: 2 for the log-probabilities of the samples, 6 to learn from them.
    low, high = quantity(found, "training")
    trained = quantity(found, "trained tokens, prompts included")
    assert (low, high) == pytest.approx((8 * 1.5e9 * trained[0], 8 * 1.5e9 * trained[1]))
    assert quantity(found, "evaluation responses") == (32 * (30 + 30 + 83) + 500 + 272 + 675,) * 2
    assert all(0 < cost["low"] < cost["high"] for cost in found["run"]["costs"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", ["paper", "one-gpu", "cpu-smoke", "testbed"])
def test_an_estimate_is_printed_as_text(tmp_path: Path, protocol: str) -> None:
    done = run("-C", tmp_path, "evaluate", "--protocol", protocol, "--estimate")
    assert done.exit_code == 0, done.output
    for word in (protocol, "training steps", "rollouts", "hours" if protocol == "paper" else "m", "note"):
        assert word in done.stdout


def test_an_estimate_of_an_unknown_protocol_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cpu-smoke, large, one-gpu, paper, quick, screening, testbed"):
        run("-C", tmp_path, "evaluate", "--protocol", "nope", "--estimate")


def test_evaluate_without_a_candidate_is_refused(tiny_archive: Archive) -> None:
    with pytest.raises(UsageError, match=sentences.NAME_A_CANDIDATE):
        run("-C", tiny_archive.root, "evaluate")


def test_a_protocol_of_the_archive_is_estimated(tiny_archive: Archive) -> None:
    found = json_of("-C", tiny_archive.root, "evaluate", "--estimate")
    assert found["protocol"]["name"] == "tiny"
    assert found["protocol"]["hash"] == Experiment.load(tiny_archive).protocol.hash


def test_gpu_check_works_outside_an_archive(tmp_path: Path) -> None:
    found = json_of("-C", tmp_path, "gpu-check")
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory_gb"] > 0
    assert set(found["packages"]) == {"verl", "verl-cpu"}
    assert found["protocols"]["testbed"] == {"runs": True, "obstacles": []}
    assert set(found["protocols"]) == {"cpu-smoke", "large", "one-gpu", "paper", "quick", "screening", "testbed"}
    # The files of this protocol do not exist here.
    assert any("data/aime24.jsonl" in line for line in found["protocols"]["paper"]["obstacles"])
    assert {"name", "up", "detail"} <= set(found["sandbox"][0])


def test_gpu_check_lists_the_protocols_of_an_archive_despite_an_invalid_one(tiny_archive: Archive) -> None:
    wrong = Path(tiny_archive.root, "protocols/wrong.yaml")
    wrong.write_text("name: wrong\nbackendd: testbed\n")
    git(tiny_archive.root, "add", str(wrong))
    git(tiny_archive.root, "commit", "-qm", "a wrong protocol")
    found = json_of("-C", tiny_archive.root, "gpu-check")["protocols"]
    assert found["tiny"]["runs"]
    assert found["wrong"]["runs"] is False
    text = run("-C", tiny_archive.root, "gpu-check").stdout
    assert "cannot run here: protocols/wrong.yaml" in text
    assert "runs here" in text


def test_a_new_archive_has_the_requested_protocol(tmp_path: Path) -> None:
    assert run("init", tmp_path / "a", "--protocol", "one-gpu").exit_code == 0
    assert "\nprotocol: one-gpu\n" in (tmp_path / "a" / "poise.yaml").read_text()
    assert run("init", tmp_path / "b").exit_code == 0
    assert "\nprotocol: testbed\n" in (tmp_path / "b" / "poise.yaml").read_text()


@pytest.mark.skipif("verl" not in BACKENDS, reason="the backend verl is not registered")
def test_every_backend_has_a_default_protocol(tmp_path: Path) -> None:
    assert run("init", tmp_path / "a", "--backend", "verl").exit_code == 0
    assert "\nprotocol: cpu-smoke\n" in (tmp_path / "a" / "poise.yaml").read_text()


def test_backend_and_protocol_must_agree(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="paper runs on verl, not on testbed"):
        run("init", tmp_path / "a", "--backend", "testbed", "--protocol", "paper")
    with pytest.raises(UsageError, match="no protocol 'nope' in the template"):
        run("evolve", tmp_path / "a", "--protocol", "nope")
    assert not (tmp_path / "a").exists()
    run("init", tmp_path / "b", "--protocol", "one-gpu")
    with pytest.raises(UsageError, match="one-gpu runs on verl, not on testbed"):
        run("evolve", tmp_path / "b", "--backend", "testbed", "--candidates", "1")
