"""Steps of the trainer, in this process, with the template's algorithm, which here rewards long responses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poise_git.package_data import template_files
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import Trainer
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.protocol import Protocol

STEPS = 4
# An untrained policy is never right, but its responses differ in length, so it learns from the first step on.
RECIPE = {
    name: template_files()[f"recipe/{name}"].replace("return rollouts.score", "return rollouts.length")
    for name in ("algorithm.py", "rollouts.py")
}


@pytest.fixture
def regime(tiny: Protocol) -> RegimeSettings:
    """One update a step, so that fresh rollouts come from exactly the policy that learns from them."""
    own = parse_settings(tiny, "tiny.yaml").regimes["composite"]
    return own.model_copy(update={"training": own.training.model_copy(update={"steps": STEPS, "minibatches": 1})})


def kl_of_each_step(regime: RegimeSettings, lag: int) -> list[float]:
    """The mean log-ratio to the policy that sampled, before each update."""
    own = regime.model_copy(update={"training": regime.training.model_copy(update={"lag": lag})})
    task = build_task(own, 7)
    policy = Policy(own.policy, task.vocabulary, torch.Generator().manual_seed(0))
    trainer = Trainer(own, task, policy, seed=0)
    algorithm = trusted_algorithm(RECIPE)
    return [trainer.step(step, algorithm)["kl"] for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("lag", [0, 1, 2, STEPS])
def test_rollouts_are_as_old_as_the_lag(regime: RegimeSettings, lag: int) -> None:
    """The first step has no earlier policy; after it, rollouts lag behind by up to `lag` updates."""
    kl = np.abs(kl_of_each_step(regime, lag))
    assert kl[0] < 1e-6
    assert ((kl[1:] > 1e-6) == (lag > 0)).all()
    if lag == STEPS:
        # All rollouts come from the base policy, and the policy moves away from it.
        assert kl[1] < kl[-1]


def test_a_lag_changes_nothing_in_the_first_step(regime: RegimeSettings) -> None:
    def first(lag: int) -> dict[str, float]:
        own = regime.model_copy(update={"training": regime.training.model_copy(update={"lag": lag})})
        task = build_task(own, 7)
        policy = Policy(own.policy, task.vocabulary, torch.Generator().manual_seed(0))
        return Trainer(own, task, policy, seed=0).step(1, trusted_algorithm(RECIPE))

    assert first(0) == first(2)
