"""Milliseconds from `Sandbox.run` to its return for a run that does nothing: fork server against a fresh process.

python tests/benchmarks/sandbox_start.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

PROBE = "poise_git.pipeline.sandbox.sandbox:probe"


def milliseconds(sandbox: Sandbox, scratch: Path) -> float:
    began = time.perf_counter()
    sandbox.run(PROBE, {}, scratch)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch, fresh = Path(folder), []
        for _ in range(3):
            with Sandbox(SandboxSettings()) as sandbox:
                fresh.append(milliseconds(sandbox, scratch))
                warm = [milliseconds(sandbox, scratch) for _ in range(20)]
    print(f"a process of its own: {statistics.median(fresh):7.1f} ms")
    print(f"forked by the server: {statistics.median(warm):7.1f} ms")


if __name__ == "__main__":
    main()
