"""Hostile candidates in complete runs and searches: figures do not change, and a search continues."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.cli.main import cli
from poise_git.errors import PoiseError
from poise_git.experiment import Experiment
from poise_git.pipeline.boundary.hosting import Containment
from poise_git.pipeline.checks import check_candidate, runner
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests.conftest import git

pytestmark = pytest.mark.slow

TEMPLATE = Path(__file__).parents[3] / "recipe_template/recipe"
GRPO = (TEMPLATE / "algorithm.py").read_text(encoding="utf-8")
# Verdicts, a series and a score, written to every descriptor and into its own process.
FORGER = """
import json, os, sys
for descriptor in range(256):
    for kind in ({"passed": "finite", "seconds": 0}, {"value": {"failure": None, "claims": []}},
                 {"value": {"series": {"composite/reward": [1.0]}}}, {"layers": []}):
        try:
            if descriptor != 3:
                os.write(descriptor, json.dumps(kind).encode() + b"\\n")
        except OSError:
            pass
json.dumps, dumps = lambda content, **keywords: dumps({**content, "value": {"series": {}}}, **keywords), json.dumps
"""
ATTACKS = {
    "leaves": "import os\nos._exit(0)\n",
    "crashes": "import ctypes\nctypes.string_at(0)\n",
    "speaks-to-terminals": 'raise ValueError("\\x1b]0;x\\x07\\x00\\ud800\\u202e\\r\\n\\u2028" * 9)\n',
    "exhausts-memory": "kept = [bytearray(1 << 28) for _ in range(1000)]\n",
    "forges": FORGER + "\ndef compute_advantages(r, m, index, config=None):\n    return r * float('nan'), r\n",
}

REASONS = {
    "leaves": "ended its process: exit status 0",
    "crashes": "killed by signal 11 (SIGSEGV)",
    "speaks-to-terminals": "raised ValueError: \N{REPLACEMENT CHARACTER}]0;x",
    "exhausts-memory": "raised MemoryError",
    "forges": "advantages must be finite, found nan",
}


# Allowed even if the machine lacks a layer, because the verdicts do not depend on it.
ANYWHERE = Containment(may_lack_layers=True)


def recipe(algorithm: str) -> dict[str, str]:
    return {"algorithm.py": algorithm, "rollouts.py": (TEMPLATE / "rollouts.py").read_text(encoding="utf-8")}


def test_verdicts_cannot_be_forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advantages that are NaN, in a process that reports success: the trusted side fails the candidate."""
    monkeypatch.setattr(runner, "STATIC", ())
    with Sandbox(SandboxSettings()) as sandbox:
        report = check_candidate(recipe(GRPO + ATTACKS["forges"]), (), recipe(GRPO), sandbox, tmp_path, ANYWHERE)
    assert report.failure is not None
    assert "NaN" in report.failure.reason or "finite" in report.failure.reason
    assert {"finite", "claim"}.isdisjoint(name for name, _ in report.passed)


def poise(archive: Archive, *arguments: str) -> tuple[int, str]:
    """Run the program in this process, with the static check off. Returns its exit code and its output."""
    done = CliRunner().invoke(cli, ["-C", str(archive.root), *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit | PoiseError), done.exception
    return done.exit_code, done.output


def commit(archive: Archive, name: str, algorithm: str) -> None:
    """Commit with plain git, without hooks."""
    folder = archive.root
    git(folder, "checkout", "-q", "-b", f"poise/{name}", f"poise/{ROOT}")
    (folder / "recipe/algorithm.py").write_text(algorithm, encoding="utf-8")
    git(
        folder,
        "-c",
        "core.hooksPath=/dev/null",
        "commit",
        "-qam",
        f"algorithm({name}): attack\n\nPoise-Candidate: {name}\nPoise-Parent: {ROOT}",
    )
    git(folder, "checkout", "-q", "main")


def test_hostile_candidates_fail_once_and_the_search_continues(
    tiny_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The static check is off, so each candidate fails by its own behavior."""
    monkeypatch.setattr(runner, "STATIC", ())
    for name, attack in ATTACKS.items():
        commit(tiny_archive, name, GRPO + "\n" + attack)
    for name in (ROOT, *ATTACKS):
        code, said = poise(tiny_archive, "evaluate", name)
        assert (code == 0) == (name == ROOT), (name, said)
    genealogy, protocol = tiny_archive.genealogy(), Experiment.load(tiny_archive).protocol.hash
    for name, why in REASONS.items():
        metrics = genealogy[name].metrics_under(protocol)
        assert metrics is not None
        assert metrics.status is Status.FAILED
        assert why in str(metrics.reason)
        assert str(metrics.reason).isprintable()
    before = git(tiny_archive.root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads")
    code, said = poise(tiny_archive, "evolve", "--candidates", "1")
    assert code == 0, said
    for verb in (["log"], ["status"], ["best"], ["context", ROOT], *(["show", name] for name in ATTACKS)):
        code, said = poise(tiny_archive, *verb)
        assert code == 0, (verb, said)
        assert "\x1b]0" not in said
    after = git(tiny_archive.root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads")
    attacked = {line for line in before.splitlines() if line.split()[0].rpartition("/")[2] in ATTACKS}
    assert len(attacked) == 2 * len(ATTACKS)
    assert attacked <= set(after.splitlines())
