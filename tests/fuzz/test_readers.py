"""Readers of strangers' texts on a sample of the nightly run's cases: python -m tests.fuzz.nightly."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS

SECONDS = 5.0


@pytest.mark.parametrize("name", TARGETS)
def test_well_formed_input_is_accepted(name: str) -> None:
    """Otherwise a fuzzer would reach only the first refusal."""
    accepted = [TARGETS[name].run(seed.encode()) for seed in TARGETS[name].seeds()]
    assert any(accepted), name


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)
@given(
    number=st.integers(0, 2**32), data=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode())
)
def test_a_reader_accepts_or_refuses_any_input(name: str, number: int, data: bytes) -> None:
    target, generator = TARGETS[name], random.Random(number)
    seeds = [seed.encode()[:20_000] for seed in target.seeds()]
    started = time.process_time()
    target.run(data)
    target.run(mutated(generator.choice(seeds), [*seeds, data], generator))
    assert time.process_time() - started < SECONDS


@pytest.mark.slow
def test_the_nightly_run_counts_its_cases_and_resumes(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.nightly",
        "--corpus",
        str(tmp_path),
        "--targets",
        "display",
        "--seed",
        "1",
    ]
    for executions in (400, 800):
        done = subprocess.run([*command, "--executions", str(executions)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "counts.json").read_text())["total"] == executions
