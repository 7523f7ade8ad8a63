"""The same seed finds the same candidates, with the same figures, as the search that commit 4ea6386 recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import Status
from poise_git.experiment import Experiment
from tests.conftest import copy_of, git
from tests.in_process import poise_git

pytestmark = pytest.mark.slow

BUNDLE = Path(__file__).parent / "archive" / "archive-4ea6386.bundle"
# Metrics in notes are rounded to six digits.
ROUNDED = 1e-5
# The search of the bundle; its fifth candidate was added and evaluated by hand later.
OPTIONS = (
    "--candidates",
    "3",
    "--parents",
    "2",
    "--proposals",
    "2",
    "--seed",
    "1",
    "--directive",
    "accurate and concise",
)
BY_HAND = "zero-grpo"


def found(archive: Archive) -> tuple[dict[str, tuple[object, ...]], dict[str, list[float | None]]]:
    """Parents and status of each candidate, and its figures: utility and gain, with standard error and seeds."""
    protocol = Experiment.load(archive).protocol.hash
    candidates: dict[str, tuple[object, ...]] = {}
    figures: dict[str, list[float | None]] = {}
    for node in archive.genealogy():
        metrics = node.metrics_under(protocol)
        if node.name != BY_HAND and metrics:
            estimates = [each for each in (metrics.utility, metrics.gain) if each]
            candidates[node.name] = (node.parents, node.status_under(protocol))
            figures[node.name] = [figure for each in estimates for figure in (each.value, each.se, each.n)]
    return candidates, figures


@pytest.mark.filterwarnings("ignore::poise_git.errors.SettingRenamed")
def test_a_seed_gives_the_same_search_as_an_earlier_version(archive_templates: dict[str, Path], tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(BUNDLE), "earlier")
    earlier = Archive.complete(tmp_path / "earlier")
    earlier.repair({})
    searched = copy_of(archive_templates["short"], tmp_path / "search")
    done = poise_git("evolve", searched.root, *OPTIONS, "--workers", "2")
    assert done.returncode == 0, done.stderr
    (recorded, old_figures), (candidates, figures) = found(earlier), found(searched)
    assert len(recorded) == 4
    assert {status for _, status in recorded.values()} == {Status.EVALUATED}
    assert candidates == recorded
    for name, expected in old_figures.items():
        assert figures[name] == pytest.approx(expected, abs=ROUNDED), name
    # The verdicts use the objective into which this search translated the directive.
    assert "scored with another objective" not in done.stdout
