"""The cost of the search for duplicates: without a cache, from the cache file, and in later rounds.

The figures are seconds of processor time of this process, so that a busy machine does not matter.

Run: python tests/benchmarks/twins_cost.py [--candidates 1000]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Proposal
from poise_git.package_data import hook_files, template_files
from poise_git.pipeline.checks import normal_form
from poise_git.pipeline.checks.duplicates import DuplicateFinder


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--candidates", type=int, default=1000)
    count = arguments.parse_args().candidates
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        archive = Archive.create(Path(scratch) / "archive", template_files(), hook_files())
        source = archive.recipe(ROOT)["algorithm.py"]
        for number in range(count):
            proposal = Proposal(f"candidate-{number}", ROOT, f"mechanism {number}", "h", "f", "library")
            archive.add_candidate(proposal, source.replace("clip_low: float = 0.2", f"clip_low: float = 0.2{number}"))
        genealogy, twins = archive.genealogy(), DuplicateFinder(archive)
        found = {"candidates": float(len(genealogy))}
        for label, asked in (("first_s", twins), ("from_file_s", DuplicateFinder(archive)), ("later_s", twins)):
            start = time.process_time()
            assert asked.find(f"{source}\n\nx = 1\n\n\ndef policy_loss(x):\n    return x\n", genealogy, {}) is None
            found[label] = time.process_time() - start
        start = time.process_time()
        normal_form(source)
        found["one_form_ms"] = 1e3 * (time.process_time() - start)
        print(json.dumps({key: round(value, 4) for key, value in found.items()}))


if __name__ == "__main__":
    main()
