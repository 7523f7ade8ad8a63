"""Protocols at three sizes, the template's recipe, one sandbox for all tests of the testbed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from poise_git.archive.entries import Run
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, parse_settings
from poise_git.pipeline.backends.testbed.task import Task
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.boundary.hosting import Containment
from poise_git.pipeline.executors.stages import carry_out
from poise_git.pipeline.interface import Job, Progress
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests.layers import containment

ROOT = Path(__file__).parents[4]
RunTestbed = Callable[..., Run]


def read_protocol(path: Path) -> Protocol:
    return load_protocol(path.read_text(encoding="utf-8"), path.name)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings()) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def tiny() -> Protocol:
    return read_protocol(ROOT / "tests" / "protocols" / "tiny.yaml")


@pytest.fixture(scope="session")
def short() -> Protocol:
    return read_protocol(ROOT / "tests" / "protocols" / "short.yaml")


@pytest.fixture(scope="session")
def shipped() -> Protocol:
    return read_protocol(ROOT / "recipe_template" / "protocols" / "testbed.yaml")


@pytest.fixture(scope="session")
def settings(short: Protocol) -> RegimeSettings:
    """A regime with a policy and prompts of the real size."""
    return parse_settings(short, "short.yaml").regimes["composite"]


@pytest.fixture(scope="session")
def task(settings: RegimeSettings) -> Task:
    return build_task(settings, settings.task.worlds[0])


@pytest.fixture
def policy(settings: RegimeSettings, task: Task) -> Policy:
    """An untrained policy whose logits are spread out, so that responses end at different lengths."""
    policy = Policy(settings.policy, task.vocabulary, torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.head.weight.mul_(0.5)
        # With the norm's output summing to about 0, a constant row would do nothing; this one is the mean of some.
        policy.head.weight[task.vocabulary.end] = 1.5 * policy.head.weight[:40].sum(0)
    return policy


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def recipe() -> Mapping[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "recipe_template/recipe").glob("*.py")}


@pytest.fixture(scope="session")
def run_testbed(
    tiny: Protocol, recipe: Mapping[str, str], sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> RunTestbed:
    """Run the template's recipe under the tiny protocol; both can be replaced."""

    def run(
        *replace: tuple[str, str],
        seed: int = 0,
        protocol: Protocol = tiny,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        cancelled: threading.Event | None = None,
        contained: Containment | None = None,
    ) -> Run:
        files = dict(recipe)
        for old, new in replace:
            assert old in files["algorithm.py"]
            files["algorithm.py"] = files["algorithm.py"].replace(old, new)
        scratch = tmp_path_factory.mktemp("scratch")
        job = Job("candidate", files, protocol, seed, scratch, containment=contained or containment())
        return carry_out(TestbedBackend(), job, sandbox, on_progress, cancelled or threading.Event())

    return run
