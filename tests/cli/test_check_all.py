"""`poise-git check --all`: one line for each candidate that bypassed the hooks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from poise_git.archive import Archive
from poise_git.archive.entries import Metrics, Status
from poise_git.cli.main import cli
from tests import sentences
from tests.conftest import git

pytestmark = pytest.mark.slow


def check_all(root: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(root), "check", "--all", *options], catch_exceptions=False)


def edit(root: Path, old: str, new: str) -> None:
    algorithm = root / "recipe" / "algorithm.py"
    text = algorithm.read_text()
    assert old in text
    algorithm.write_text(text.replace(old, new))


def test_candidates_that_bypassed_the_hooks_are_found_with_the_next_command(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    assert check_all(root).stdout.endswith(sentences.CHECK_ALL_PASSED)

    def branch(name: str, off: str = "grpo") -> None:
        git(root, "switch", "-qc", f"poise/{name}", f"poise/{off}")

    def commit(message: str, *arguments: str) -> None:
        git(root, "commit", "-q", "--no-verify", "-a", "-m", message, *arguments)

    branch("wide")
    edit(root, "return spread + epsilon", "return 2.0 * spread + epsilon")
    (root / "README.md").write_text("changed\n")
    commit("algorithm(wide): wide\n\nPoise-Candidate: wide\nPoise-Parent: grpo")
    branch("nameless")
    edit(root, "return spread + epsilon", "return 3.0 * spread + epsilon")
    commit("nobody's")
    branch("reaches-out")
    edit(root, "import torch\n", "import os\nimport torch\n")
    commit("x\n\nPoise-Candidate: reaches-out\nPoise-Parent: grpo")
    branch("not-a-number")
    edit(root, "return spread + epsilon", "return spread * float('nan')")
    commit("x\n\nPoise-Candidate: not-a-number\nPoise-Parent: grpo")
    branch("boasts")
    edit(root, "return spread + epsilon", "return 4.0 * spread + epsilon")
    commit("x\n\nKnobs: scale.epsilon = 5\n\nPoise-Candidate: boasts\nPoise-Parent: grpo")
    branch("measured")
    edit(root, "return spread + epsilon", "return 5.0 * spread + epsilon")
    commit("x\n\nPoise-Candidate: measured\nPoise-Parent: grpo")
    tiny_archive.add_evidence("measured", Metrics(Status.EVALUATED, "p"), None)
    edit(root, "return 5.0 * spread + epsilon", "return 6.0 * spread + epsilon")
    commit("x\n\nPoise-Candidate: measured\nPoise-Parent: grpo", "--amend")
    branch("two-steps")
    edit(root, "return spread + epsilon", "return 7.0 * spread + epsilon")
    commit("one")
    edit(root, "return 7.0 * spread + epsilon", "return 8.0 * spread + epsilon")
    commit("x\n\nPoise-Candidate: two-steps\nPoise-Parent: grpo")
    branch("failed")
    edit(root, "import torch\n", "import os\nimport torch\n")
    commit("x\n\nPoise-Candidate: failed\nPoise-Parent: grpo")
    tiny_archive.add_evidence("failed", Metrics(Status.FAILED, "p", stage="imports", reason="imports os"), None)
    git(root, "switch", "-q", "main")

    done = check_all(root)
    assert done.exit_code == 1
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines.keys() == {
        "poise/wide", "poise/nameless", "poise/reaches-out", "poise/not-a-number", "poise/boasts", "evidence/measured",
        "poise/two-steps",
    }  # fmt: skip
    assert "its commit changes README.md" in lines["poise/wide"]
    assert "no trailer Poise-Candidate" in lines["poise/nameless"]
    assert "check imports fails: line" in lines["poise/reaches-out"]
    assert "fails" in lines["poise/not-a-number"]
    assert "its default in the code is 1e-06" in lines["poise/boasts"]
    assert "it belongs to" in lines["evidence/measured"]
    assert "more than one commit on top of poise/grpo" in lines["poise/two-steps"]
    assert all("; " in line and "git " in line for line in lines.values()), "each line has the next command"

    findings = json.loads(check_all(root, "--json").stdout)["findings"]
    assert [finding["where"].removeprefix("refs/heads/") for finding in findings] == list(lines)
    assert set(findings[0]) == {"where", "what", "advice", "repairable"}

    # The printed command helps.
    (root / "added.txt").write_text("mine\n")
    git(root, "switch", "-q", "poise/wide")
    git(root, "add", "added.txt")
    git(root, "commit", "-q", "--no-verify", "--amend", "--no-edit")
    wide = next(line for line in check_all(root).stdout.splitlines() if line.startswith("poise/wide: "))
    assert "changes README.md, added.txt" in wide
    for command in wide.partition("; ")[2].split(" && "):
        git(root, *command.split()[1:])
    git(root, "switch", "-q", "poise/nameless")
    git(root, "commit", "-q", "--amend", "--no-edit")
    git(root, "switch", "-q", "poise/two-steps")
    git(root, "reset", "-q", "--soft", "poise/grpo")
    git(root, "commit", "-qm", "in one step")
    git(root, "switch", "-q", "main")
    output = check_all(root).stdout
    assert "wide" not in output
    assert "nameless" not in output
    assert "two-steps" not in output


@pytest.mark.parametrize("arguments", [(), ("grpo", "--all"), ("--staged", "--all")])
def test_check_takes_either_one_candidate_or_all(tiny_archive: Archive, arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, ["-C", str(tiny_archive.root), "check", *arguments])
    assert done.exit_code != 0
