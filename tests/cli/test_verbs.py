"""The output of the commands on one small search, and the same steps with plain git."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from poise_git.archive import Archive
from poise_git.cli.main import VERBS, cli
from tests import sentences
from tests.conftest import git
from tests.layers import without_warning

pytestmark = pytest.mark.slow


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def json_of(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def archive(archive_templates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One evolved archive for the whole module; tests only read it."""
    folder = tmp_path_factory.mktemp("verbs") / "search"
    shutil.copytree(archive_templates["short"], folder, symlinks=True)
    (folder / "ended.txt").write_text(run("evolve", folder, "--candidates", "4", "--workers", "2").stdout)
    return folder


def test_evolve_ends_with_lineage_best_and_next_commands(archive: Path) -> None:
    text = (archive / "ended.txt").read_text()
    assert "├─" in text or "└─" in text
    assert " ± " in text
    assert "next:" in text
    assert "lineage" in text


def test_log_agrees_with_git_lineage(archive: Path) -> None:
    tree = run("-C", archive, "log").stdout
    lineage = git(archive, "lineage")
    candidates = json_of("-C", archive, "log")
    assert len(candidates) >= 5
    for candidate in candidates:
        assert candidate["name"] in tree
        assert f"poise/{candidate['name']}" in lineage
        if candidate["status"] == "evaluated":
            utility = candidate["metrics"]["utility"]
            assert set(utility) == {"value", "se", "n"}
            assert f"{utility['value']:.4f}" in tree
            assert f"{utility['value']:.4f}"[:5] in lineage


def test_show_has_proposal_metrics_trajectory_and_reflection(archive: Path) -> None:
    name = next(
        entry["name"] for entry in json_of("-C", archive, "log") if entry["status"] == "evaluated" and entry["parents"]
    )
    document = json_of("-C", archive, "show", name)
    assert document["name"] == name
    assert document["proposal"]["claims"]
    assert document["reflection"]["facts"]["verdict"] in ("better", "worse", "within noise")
    assert len(document["runs"]) == 2
    figures = ("reward", "entropy", "response_length", "gradient_norm", "kl", "clip_fraction", "valid_rate")
    recorded = document["runs"][0]["series"]
    assert {f"{regime}/{figure}" for regime in ("composite", "reuse") for figure in figures} <= set(recorded)
    assert set(document["metrics"]["values"]) == {"composite", "reuse"}
    screening = document["screening"]
    assert screening["round"] >= 1
    assert [entry["verdict"] for entry in screening["proposals"]].count("chosen") == 1
    chosen = next(entry for entry in screening["proposals"] if entry["verdict"] == "chosen")
    assert chosen["proposal"] == document["proposal"]
    text = run("-C", archive, "show", f"poise/{name}").stdout
    for entry in screening["proposals"]:
        direction = sentences.SHOW_DIRECTION.format(kind=entry["proposal"]["direction"]["kind"])
        assert f"{entry['verdict']}: {entry['reason']}{direction}" in text
    assert "entropy" in text
    assert document["reflection"]["prose"].strip().splitlines()[0] in text
    assert run("-C", archive, "show", document["commit"][:10]).stdout == text


def test_diff_equals_git_diff(archive: Path) -> None:
    entry = next(entry for entry in json_of("-C", archive, "log") if entry["parents"])
    patch = run("-C", archive, "diff", entry["name"]).stdout
    assert patch == git(archive, "diff", f"poise/{entry['parents'][0]}", f"poise/{entry['name']}")
    assert json_of("-C", archive, "diff", entry["name"], "grpo")["against"] == "grpo"


def test_select_shows_terms_and_parents(archive: Path) -> None:
    document = json_of("-C", archive, "select")
    assert set(document["candidates"][0]["terms"]) == {"pareto", "perf", "div", "bayes"}
    assert len(document["choices"]) == 3
    assert document["knowledge"]["statement"]
    assert "round" in run("-C", archive, "select").stdout


def test_propose_shows_every_proposal_with_its_verdict_and_writes_nothing(archive: Path) -> None:
    parent = json_of("-C", archive, "best")["name"]
    refs = git(archive, "for-each-ref")
    document = json_of("-C", archive, "propose", parent)
    assert document["parent"] == parent
    assert document["proposals"]
    verdicts = [entry["verdict"] for entry in document["proposals"]]
    assert set(verdicts) <= {"chosen", "passed", "rejected"}
    assert all(entry["proposal"]["parent"] == parent for entry in document["proposals"])
    text = run("-C", archive, "propose", parent).stdout
    for entry in document["proposals"]:
        assert entry["proposal"]["name"] in text
    assert git(archive, "for-each-ref") == refs


def test_propose_prints_context_next_commands_and_message_template_for_a_person(archive: Path) -> None:
    text = run("-C", archive, "propose", "grpo", "--agent", "human").stdout
    context = run("-C", archive, "context", "grpo").stdout
    assert text.startswith(context.rstrip("\n"))
    assert "git switch -c poise/NAME poise/grpo" in text
    assert text.endswith((archive / "candidate-message.txt").read_text())
    document = json_of("-C", archive, "propose", "poise/grpo", "--agent", "human")
    assert document["tokens"] > 0
    assert document["next"].startswith(sentences.NEXT_COMMANDS)


def test_status_prints_the_detectable_difference(archive: Path) -> None:
    document = json_of("-C", archive, "status")
    assert document["candidates"]["evaluated"] == 4
    assert document["resolution"]["own"]["difference"] > 0
    assert document["resolution"]["comparisons"] >= 1
    assert sentences.STATUS_DETECTS.format(seeds=2) in run("-C", archive, "status").stdout


def test_best_has_the_highest_utility_and_its_path_can_be_cherry_picked(archive: Path, tmp_path: Path) -> None:
    best = json_of("-C", archive, "best")
    utilities = [
        entry["metrics"]["utility"]["value"]
        for entry in json_of("-C", archive, "log")
        if entry["status"] == "evaluated"
    ]
    assert best["metrics"]["utility"]["value"] == max(utilities)
    commits = run("-C", archive, "best", "--path").stdout.split()
    run("init", tmp_path / "fresh")
    git(tmp_path / "fresh", "fetch", "-q", str(archive), "refs/heads/poise/*:refs/other/*")
    if commits:
        git(tmp_path / "fresh", "cherry-pick", "-m", "1", *commits)
    assert git(tmp_path / "fresh", "show", "HEAD:recipe/algorithm.py") == git(
        archive, "show", f"{best['commit']}:recipe/algorithm.py"
    )


def test_check_reflect_and_doctor_succeed(archive: Path) -> None:
    name = next(
        entry["name"] for entry in json_of("-C", archive, "log") if entry["status"] == "evaluated" and entry["parents"]
    )
    checked = json_of("-C", archive, "check", name)
    assert len(checked["passed"]) >= 10
    assert checked["failure"] is None
    assert json_of("-C", archive, "reflect", name)["facts"]["verdict"]
    assert json_of("-C", archive, "doctor")["findings"] == []


def test_help_has_examples() -> None:
    for verb in VERBS:
        text = CliRunner().invoke(cli, [verb, "--help"]).output
        assert "Example" in text, verb


def test_a_handwritten_candidate_is_checked_and_evaluated(short_archive: Archive) -> None:
    """Plain git and two commands: branch, edit, commit, check, evaluate."""
    root = short_archive.root
    git(root, "switch", "-qc", "poise/half-scale", "poise/grpo")
    algorithm = root / "recipe" / "algorithm.py"
    algorithm.write_text(algorithm.read_text().replace("return spread + epsilon", "return 2.0 * spread + epsilon"))
    git(root, "commit", "-qam", "Divide by twice the deviation")
    git(root, "switch", "-q", "main")
    run("-C", root, "check", "poise/half-scale")
    document = json_of("-C", root, "evaluate", "half-scale", "--workers", "2")
    assert document["status"] == "evaluated"
    assert document["parents"] == ["grpo"]
    assert "evidence(half-scale): U " in git(root, "log", "-1", "--format=%s", "evidence/half-scale")


def test_a_used_up_budget_exits_with_3_and_keeps_paid_work(tiny_archive: Archive) -> None:
    command = [sys.executable, "-m", "poise_git", "evolve", str(tiny_archive.root), "--budget-hours", "0.000001"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert len(without_warning(done.stderr).splitlines()) == 1
    assert "budget" in done.stderr
    assert "next:" in done.stdout
    assert len(tiny_archive.runs("grpo")) == 2


READS = """
import sys
from poise_git.cli.main import cli
for line in sys.argv[2:]:
    cli(["-C", sys.argv[1], *line.split()], standalone_mode=False)
sys.exit("torch" in sys.modules)
"""


def test_commands_that_read_load_no_torch(archive: Path) -> None:
    lines = ("status", "log", "show grpo", "best", "select", "context grpo", "doctor", "check --all", "evaluate --help")
    done = subprocess.run([sys.executable, "-c", READS, archive, *lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
