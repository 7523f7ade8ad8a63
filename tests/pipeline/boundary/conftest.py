"""Real hosts in real sandboxes, and sockets at which a test plays the part of a candidate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from poise_git.package_data import template_files
from poise_git.pipeline.boundary.door import CANDIDATE, Door
from poise_git.pipeline.boundary.hosting import host
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

RECIPE = {name: template_files()[f"recipe/{name}"] for name in ("algorithm.py", "rollouts.py")}
OpenDoor = Callable[..., Door]

# Entry points for candidates that do not define them.
ENTRY_POINTS = """import torch


def compute_advantages(token_level_rewards, response_mask, index, config=None):
    return token_level_rewards * response_mask, token_level_rewards


def policy_loss(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None,
                rollout_is_weights=None):
    return -(log_prob * advantages * response_mask).sum(), {}
"""


def with_text(text: str) -> Mapping[str, str]:
    """A recipe of plain entry points followed by `text`, which may redefine them."""
    return {"algorithm.py": f"{ENTRY_POINTS}\n\n{text}\n", "rollouts.py": RECIPE["rollouts.py"]}


@pytest.fixture(scope="session")
def boundary_sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings()) as sandbox:
        yield sandbox


@pytest.fixture
def open_door(boundary_sandbox: Sandbox) -> Iterator[OpenDoor]:
    """Starts a host of recipes and returns its door, as a trusted child gets it."""
    with ExitStack() as stack:

        def opened(recipe: Mapping[str, str] = RECIPE, **others: Mapping[str, str]) -> Door:
            recipes = {CANDIDATE: recipe, **others}
            running = stack.enter_context(host(boundary_sandbox, recipes, may_lack_layers=True))
            return Door(os.dup(running.door))

        yield opened
