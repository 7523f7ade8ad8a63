"""Run every benchmark at its smallest size, to keep it working; these measurements mean nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TINY = str(HERE.parent / "protocols" / "tiny.yaml")
# Script -> its arguments; "RESULTS" is a new file. Searches on shipped protocols take hours; they print an estimate.
SMALLEST = {
    "archive_speed": ["--sizes", "8"],
    "boundary_cost": ["--help"],
    "ceiling": ["search", "--results", "RESULTS", "--protocol", TINY, "--regime", "composite", "--generations", "1",
                "--workers", "1"],
    "context_cost": ["--sizes", "8"],
    "external_validity": ["--results", "RESULTS", "--protocol", TINY],
    "gradient_similarity": ["--protocol", TINY, "--regimes", "composite", "--algorithms", "soft-gate"],
    "live_comparison": ["--help"],
    "published_comparisons": [],
    "recorded_lineage": ["deceptiveness"],
    "round_cost": ["--against", str(HERE.parents[1]), "--sizes", "8", "--rounds", "1", "--results", "RESULTS"],
    "sandbox_start": [],
    "search_efficiency": ["run", "--results", "RESULTS", "--worlds", "1", "--workers", "1", "--policies", "tree",
                          "--landscapes", "smooth"],
    "selection_cost": ["--sizes", "8"],
    "steering": ["--help"],
    "testbed_resolution": ["run", "--results", "RESULTS", "--protocol", TINY, "--seeds", "0-0", "--algorithms", "grpo"],
    "testbed_speed": ["--protocol", TINY],
    "twins_cost": ["--candidates", "4"],
}  # fmt: skip
SCRIPTS = {path.stem for path in HERE.glob("*.py") if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")}

pytestmark = pytest.mark.slow


def test_every_benchmark_has_a_smallest_size() -> None:
    assert SMALLEST.keys() == SCRIPTS - {Path(__file__).stem}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs_at_its_smallest_size(name: str, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    given = [str(results) if word == "RESULTS" else word for word in SMALLEST[name]]
    command = [sys.executable, str(HERE / f"{name}.py"), *given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout or results.exists()
