"""Commands in a container without user namespaces: shipped code runs with a warning, other code needs permission."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from poise_git.archive import Archive
from tests import containers, sentences
from tests.conftest import git

pytestmark = pytest.mark.slow

NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
WARNING = "WARNING: the sandbox lacks "
ALLOW = "git config --global poise.missingLayers allow, or POISE_MISSING_LAYERS=allow"
SHIPPED = sentences.SHIPPED_CODE_ALONE


@dataclass(frozen=True)
class Container:
    """Runs poise-git on one archive where no user namespace can be created."""

    root: Path

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        line = containers.command(sys.executable, "-m", "poise_git", "-C", str(self.root), *arguments)
        return subprocess.run(
            line, env=containers.environment(**variables), capture_output=True, text=True, check=False
        )

    def isolation(self, name: str) -> list[dict[str, object]]:
        return [run["isolation"] for run in json.loads(self("show", name, "--json").stdout)["runs"]]


@pytest.fixture(scope="module")
def container(archive_templates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """An archive with a candidate committed by hand; changes by a container do not affect the machine."""
    containers.require()
    before = NAMESPACES.read_text()
    root = tmp_path_factory.mktemp("container") / "search"
    shutil.copytree(archive_templates["tiny"], root, symlinks=True)
    git(root, "switch", "-qc", "poise/by-hand", "poise/grpo")
    algorithm = root / "recipe" / "algorithm.py"
    algorithm.write_text(algorithm.read_text().replace("spread + epsilon", "2.0 * spread + epsilon"))
    git(root, "commit", "-q", "--no-verify", "-am", "x\n\nPoise-Candidate: by-hand\nPoise-Parent: grpo")
    git(root, "switch", "-q", "main")
    # An archive that tries to allow everything.
    settings = root / "poise.yaml"
    assert "require_isolation: false" in settings.read_text()
    git(root, "config", "poise.missingLayers", "allow")
    yield Container(root)
    assert NAMESPACES.read_text() == before


def test_a_search_with_shipped_cards_runs_and_lists_missing_layers(container: Container) -> None:
    done = container("evolve", "--candidates", "1", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    warnings = [line for line in done.stdout.splitlines() if WARNING in line]
    assert len(warnings) == 1
    assert "user namespace" in warnings[0]
    assert SHIPPED in warnings[0]
    (left_out,) = [
        line for line in done.stdout.splitlines() if sentences.CANDIDATE_SKIPPED.format(name="by-hand") in line
    ]
    assert ALLOW in left_out
    assert all("user namespace" in run["missing"] and not run["trusted"] for run in container.isolation("grpo"))  # type: ignore[operator]
    assert "figures unverified: a run was trained without " in container("show", "grpo").stdout
    again = container("reproduce", "grpo")
    assert again.returncode == 0, again.stderr
    # The candidate of the search has figures; the handwritten one has none.
    statuses = {each.name: bool(each.metrics) for each in Archive.open(container.root).genealogy()}
    assert statuses.pop("by-hand") is False
    assert len(statuses) == 2
    assert all(statuses.values())


def test_other_code_is_refused_in_one_line(container: Container) -> None:
    for verb in (("check", "by-hand"), ("check", "by-hand", "--json"), ("evaluate", "by-hand")):
        done = container(*verb)
        assert done.returncode == 1, verb
        lines = [line for line in done.stderr.splitlines() if WARNING not in line]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("poise-git: the sandbox lacks ")
        assert ALLOW in lines[0]
    found = container("check", "--all")
    assert found.returncode == 1
    assert [line.partition(":")[0] for line in found.stdout.splitlines()] == ["poise/by-hand"]
    assert ALLOW in found.stdout
    shipped = container("check", "grpo")
    assert shipped.returncode == 0
    assert SHIPPED in shipped.stderr
    assert len(shipped.stderr.splitlines()) == 1


def test_the_permission_of_the_user_is_recorded(container: Container) -> None:
    checked = container("check", "by-hand", POISE_MISSING_LAYERS="allow")
    assert checked.returncode == 0, checked.stderr
    assert sentences.LAYERS_ALLOWED in checked.stderr
    done = container("evaluate", "by-hand", POISE_MISSING_LAYERS="allow")
    assert done.returncode == 0, done.stderr
    assert all("user namespace" in run["missing"] for run in container.isolation("by-hand"))  # type: ignore[operator]


def test_trust_is_recorded(tiny_archive: Archive) -> None:
    environment = containers.environment()
    line = [sys.executable, "-m", "poise_git", "-C", str(tiny_archive.root)]
    done = subprocess.run(
        [*line, "evaluate", "grpo", "--trust"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run([*line, "show", "grpo"], env=environment, capture_output=True, text=True, check=True)
    assert "figures unverified: " in shown.stdout
    assert all(run.isolation is not None and run.isolation.trusted for run in tiny_archive.runs("grpo"))


def test_an_archive_may_require_isolation(container: Container, tmp_path: Path) -> None:
    root = tmp_path / "strict"
    shutil.copytree(container.root, root, symlinks=True)
    settings = root / "poise.yaml"
    settings.write_text(settings.read_text().replace("require_isolation: false", "require_isolation: true"))
    git(root, "commit", "-q", "--no-verify", "-am", "settings: strict")
    done = Container(root)("check", "grpo", POISE_MISSING_LAYERS="allow")
    assert done.returncode == 1
    assert "poise.yaml requires every layer" in done.stderr
