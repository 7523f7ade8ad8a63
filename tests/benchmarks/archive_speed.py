"""The speed of the archive: adding one candidate, and reading all, compared with a git process per candidate.

Run: python tests/benchmarks/archive_speed.py [--sizes 100 1000]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Estimate, Metrics, Proposal, Reflection, Run, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.package_data import hook_files, template_files

ADDS, READS = 25, 5
METRICS = Metrics(
    Status.EVALUATED,
    "f8a4c9d10e22",
    Estimate(0.752, 0.009, 4),
    Estimate(0.021, 0.006, 4),
    values={f"chain-{length}": Estimate(0.7, 0.01, 4) for length in (2, 3, 4)},
    details={
        f"chain-{length}": {"acc@1": Estimate(0.7, 0.01, 4), "pass@8": Estimate(0.9, 0.01, 4)} for length in (2, 3, 4)
    },
    seeds=(0, 1, 2, 3),
    cpu_seconds=27.5,
)
REFLECTION = Reflection(
    ReflectionFacts.from_data({"verdict": "better", "next": ["try the other scale"]}), "The mechanism held. " * 100
)
RUN = Run(
    METRICS.protocol,
    0,
    {"chain-2": 0.7},
    {"chain-2": {"acc@1": 0.7}},
    {name: tuple(step / 7 for step in range(300)) for name in "abcdefghijkl"},
    (),
    7.0,
)


def add(archive: Archive, source: str, number: int) -> None:
    name, parent = f"candidate-{number}", ROOT if number < 4 else f"candidate-{number // 4}"
    proposal = Proposal(name, parent, f"mechanism {number}", "Because of noise. " * 20, "baseline", "library")
    archive.add_candidate(proposal, f"{source}\n# {number}\n")


def naive_read(folder: Path) -> int:
    """Time a reader that asks git about one candidate at a time."""
    listed = subprocess.run(["git", "-C", folder, "branch", "--list", "poise/*"], capture_output=True, text=True)
    branches = [line.strip("*+ ") for line in listed.stdout.splitlines()]
    for branch in branches:
        command = ["git", "-C", folder, "log", "-1", "--notes=poise/metrics", "--format=%P%n%B%n%N", branch]
        subprocess.run(command, capture_output=True, check=True)
    return len(branches)


def seconds(action: Callable[[], object], times: int) -> float:
    """Median wall time of `action`."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[100, 1000])
    sizes = arguments.parse_args().sizes
    with tempfile.TemporaryDirectory() as scratch:
        archive = Archive.create(Path(scratch) / "archive", template_files(), hook_files())
        source, number = archive.recipe(ROOT)["algorithm.py"], 0
        for size in sizes:
            while number < size:
                number += 1
                add(archive, source, number)
                archive.add_evidence(f"candidate-{number}", METRICS, REFLECTION)
            found = {
                "candidates": size,
                "add_evidence_ms": 1e3
                * seconds(lambda: archive.add_evidence("candidate-7", METRICS, REFLECTION), ADDS),
                "add_run_ms": 1e3 * seconds(lambda: archive.add_run("candidate-7", RUN), ADDS),
                "read_s": seconds(archive.genealogy, READS),
                "naive_read_s": seconds(lambda: naive_read(archive.root), 1),
                "recipes_s": seconds(lambda: [archive.recipe(node.name) for node in archive.genealogy()], 1),
                "objects_mb": sum(path.stat().st_size for path in archive.root.rglob("*")) / 2**20,
            }
            taken = []
            for _ in range(ADDS):
                number += 1
                start = time.perf_counter()
                add(archive, source, number)
                taken.append(1e3 * (time.perf_counter() - start))
            found |= {"add_ms": statistics.median(taken), "add_worst_ms": max(taken)}
            print(json.dumps({key: round(value, 3) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
