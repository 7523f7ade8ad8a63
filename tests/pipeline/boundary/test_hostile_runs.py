"""Hostile candidates in whole runs and whole searches: figures stay what they are, and a search goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.experiment import Experiment
from poise_git.pipeline.checks import check_candidate, runner
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests.conftest import git

pytestmark = pytest.mark.slow

TEMPLATE = Path(__file__).parents[3] / "recipe_template/recipe"
GRPO = (TEMPLATE / "algorithm.py").read_text(encoding="utf-8")
# Written to every descriptor and put into its own process: verdicts, a series, a score.
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


def recipe(algorithm: str) -> dict[str, str]:
    return {"algorithm.py": algorithm, "rollouts.py": (TEMPLATE / "rollouts.py").read_text(encoding="utf-8")}


def test_verdicts_cannot_be_forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advantages that are no numbers, in a process that says all passed: the trusted side sees it fail."""
    monkeypatch.setattr(runner, "STATIC", ())
    with Sandbox(SandboxSettings()) as sandbox:
        report = check_candidate(recipe(GRPO + ATTACKS["forges"]), (), recipe(GRPO), sandbox, tmp_path)
    assert report.failure is not None
    assert "NaN" in report.failure.reason or "finite" in report.failure.reason
    assert {"finite", "claim"}.isdisjoint(name for name, _ in report.passed)


def poise(archive: Archive, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "poise_git", "-C", str(archive.root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def commit(archive: Archive, name: str, algorithm: str) -> None:
    """By plain git, with no hook."""
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


def test_hostile_candidates_fail_once_and_the_search_goes_on(tiny_archive: Archive) -> None:
    assert poise(tiny_archive, "evaluate", ROOT).returncode == 0
    for name, attack in ATTACKS.items():
        commit(tiny_archive, name, GRPO + "\n" + attack)
    protocol = Experiment.load(tiny_archive).protocol.hash
    for name in ATTACKS:
        done = poise(tiny_archive, "evaluate", name)
        assert "Traceback" not in done.stderr
        assert done.returncode == 1, (name, done.stdout, done.stderr)
    archive = Archive.open(tiny_archive.root)
    found = {name: archive.genealogy()[name].metrics_under(protocol) for name in ATTACKS}
    for name, metrics in found.items():
        assert metrics is not None, name
        assert metrics.status is Status.FAILED
    refs = git(archive.root, "for-each-ref", "refs/heads/poise", "refs/heads/evidence")
    for verb in (
        ["evolve", "--candidates", "1"],
        ["log"],
        ["status"],
        ["best"],
        ["doctor"],
        *(["show", n] for n in ATTACKS),
        ["context", ROOT],
    ):
        done = poise(tiny_archive, *verb)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
        assert "\x1b]0" not in done.stdout
    kept = git(archive.root, "for-each-ref", "refs/heads/poise", "refs/heads/evidence")
    for line in refs.splitlines():
        if any(line.endswith(f"/{name}") for name in ATTACKS):
            assert line in kept.splitlines()
