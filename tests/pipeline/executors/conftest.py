"""The smallest jobs of the testbed; the template's recipe is slowed down if a test needs to interfere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poise_git.archive.entries import Run
from poise_git.pipeline.interface import Job
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests.layers import containment

ROOT = Path(__file__).parents[3]
SIGNAL = "    return rollouts.score\n"
MakeJob = Callable[..., Job]


@pytest.fixture(scope="session")
def protocol() -> Protocol:
    file = ROOT / "tests" / "protocols" / "tiny.yaml"
    return load_protocol(file.read_text(encoding="utf-8"), file.name)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings()) as sandbox:
        yield sandbox


@pytest.fixture
def make_job(protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
    """A job whose reward signal runs `line` first, at every step."""

    def make(seed: int = 0, candidate: str = "grpo", line: str = "") -> Job:
        folder = ROOT / "recipe_template" / "recipe"
        recipe = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.py")}
        assert SIGNAL in recipe["algorithm.py"]
        recipe["algorithm.py"] = recipe["algorithm.py"].replace(SIGNAL, f"    {line or 'pass'}\n{SIGNAL}")
        scratch = tmp_path_factory.mktemp("scratch")
        return Job(candidate, recipe, protocol, seed, scratch, containment=containment())

    return make


def figures(run: Run | None) -> dict[str, object]:
    """The parts of a run that must not depend on the executor."""
    assert run is not None
    return {name: value for name, value in run.to_data().items() if name != "cpu_seconds"}
