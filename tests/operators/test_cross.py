"""Real crossover: git merges two candidates, and an agent resolves conflicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import Proposal, Status
from poise_git.experiment import Experiment
from tests.agents.anthropic.models import SCALE
from tests.agents.anthropic.server import serving, tool_use
from tests.conftest import edit_settings, git
from tests.in_process import poise_git
from tests.layers import without_warning

pytestmark = pytest.mark.slow


def add(archive: Archive, name: str, old: str, new: str, parent: str = "grpo") -> None:
    source = archive.recipe(parent)["algorithm.py"]
    assert source.count(old) == 1
    archive.add_candidate(Proposal(name, parent, f"{new} for {old}", "", "test", "human"), source.replace(old, new))


@pytest.fixture
def archive(tiny_archive: Archive) -> Archive:
    add(tiny_archive, "wide", "clip_high: float = 0.2", "clip_high: float = 0.28")
    add(tiny_archive, "small", "epsilon: float = 1e-6", "epsilon: float = 1e-2")
    add(tiny_archive, "large", "epsilon: float = 1e-6", "epsilon: float = 0.5")
    add(tiny_archive, "child", "dual_clip: float = 3.0", "dual_clip: float = 4.0", parent="wide")
    return tiny_archive


def cross(archive: Archive, *arguments: str) -> subprocess.CompletedProcess[str]:
    return poise_git("-C", archive.root, "cross", *arguments)


def cross_as_a_process(archive: Archive, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "poise_git", "-C", str(archive.root), "cross", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_git_merges_two_lineages(archive: Archive) -> None:
    done = cross(archive, "child", "small", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == {"name": "small-child", "parents": ["child", "small"], "passed": True}
    text = archive.recipe("small-child")["algorithm.py"]
    for part in ("clip_high: float = 0.28", "epsilon: float = 1e-2", "dual_clip: float = 4.0"):
        assert part in text
    parents = git(archive.root, "log", "-1", "--format=%P", "poise/small-child").split()
    assert parents == [archive.genealogy()[name].commit for name in ("child", "small")]
    git(archive.root, "fsck", "--strict")
    path = [candidate.commit for candidate in archive.genealogy().path("small-child")[1:]]
    git(archive.root, "switch", "-q", "--detach", "poise/grpo")
    git(archive.root, "cherry-pick", "-m", "1", *path)
    assert git(archive.root, "show", "HEAD:recipe/algorithm.py") == text


def test_a_single_lineage_has_nothing_to_merge(archive: Archive) -> None:
    for pair in (("child", "wide"), ("wide", "child"), ("wide", "wide"), ("grpo", "small")):
        done = cross(archive, *pair)
        assert done.returncode == 2, pair
        assert "nothing to merge" in done.stderr
        assert len(without_warning(done.stderr).strip().splitlines()) == 1


def test_a_conflict_is_reported_or_resolved(archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = cross(archive, "small", "large")
    assert done.returncode == 1
    assert "change the same lines" in done.stderr
    assert "large-small" not in archive.genealogy()

    def both(request: dict[str, object]) -> object:
        if "implements" in json.dumps(request["tools"]):
            return tool_use({"implements": True, "reason": "Both are there.", "unproven": []})
        assert "epsilon: float = 1e-2" in json.dumps(request)
        assert "epsilon: float = 0.5" in json.dumps(request)
        return tool_use({"functions": [SCALE.format(floor=0.5)], "patch": [], "explanation": ""})

    edit_settings(archive.root, "  effort: null", "  effort: low")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(both) as server:  # type: ignore[arg-type]
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        done = cross_as_a_process(archive, "small", "large", "--name", "both", "--agent", "anthropic")
    assert done.returncode == 0, done.stderr
    assert "floor: float = 0.5" in archive.recipe("both")["algorithm.py"]
    assert archive.genealogy()["both"].parents == ("small", "large")
    assert archive.genealogy()["both"].status_under(Experiment.load(archive).protocol.hash) is Status.PENDING
