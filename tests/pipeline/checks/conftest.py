from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from poise_git.archive.entries import Claim
from poise_git.pipeline.checks import CheckReport, check_candidate
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests.layers import containment

TEMPLATE = Path(__file__).parents[3] / "recipe_template" / "recipe"


@pytest.fixture(scope="session")
def grpo() -> Mapping[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in TEMPLATE.glob("*.py")}


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(wall_seconds=60, file_mb=2)) as sandbox:
        yield sandbox


@pytest.fixture
def edited(grpo: Mapping[str, str]) -> Callable[..., Mapping[str, str]]:
    """GRPO with pieces of its text replaced; each piece must exist."""

    def edit(*changes: tuple[str, str]) -> Mapping[str, str]:
        source = grpo["algorithm.py"]
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        return {**grpo, "algorithm.py": source}

    return edit


@pytest.fixture
def check(sandbox: Sandbox, grpo: Mapping[str, str]) -> Callable[..., CheckReport]:
    def run(recipe: Mapping[str, str], claims: Sequence[Claim] = (), within: Sandbox = sandbox) -> CheckReport:
        with tempfile.TemporaryDirectory() as scratch:
            return check_candidate(recipe, claims, grpo, within, Path(scratch), containment())

    return run
