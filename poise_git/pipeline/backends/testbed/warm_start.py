"""The base policy: supervised on imperfect demonstrations, so that it is sometimes valid and seldom right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from poise_git.pipeline.backends.testbed.evaluation import figures, problems_of_suites
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import score
from poise_git.pipeline.backends.testbed.settings import RegimeSettings
from poise_git.pipeline.backends.testbed.task import Split, Task
from poise_git.pipeline.backends.testbed.tasks import build_task

WEIGHTS_FILE = "base.pt"
WARMUP_STEPS = 50
# How often strength is measured, on how many prompts of each suite, and on how many once it may be enough.
PROBE_EVERY = 10
QUICK_PROBES, PROBES = 128, 2048


class TooWeak(Exception):
    """The base policy has not reached its strength; one line that says what to change."""


def train_base_policy(arguments: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> dict[str, str] | None:
    """Child process: train the base policy of one world and leave its weights in the working directory.

    Args:
        arguments: `settings` (of a regime) and `world`.
        send: gets {"done": steps, "loss": nats a token}; it may jump to the total when the base is strong enough.

    Returns:
        None, or {"failure": one line}.
    """
    torch.set_num_threads(1)
    settings = RegimeSettings.model_validate(arguments["settings"])
    world = int(arguments["world"])
    try:
        policy = warm_start(settings, build_task(settings, world), world, send)
    except TooWeak as error:
        return {"failure": str(error)}
    torch.save(policy.state_dict(), Path(WEIGHTS_FILE))
    return None


def warm_start(settings: RegimeSettings, task: Task, world: int, send: Callable[[Mapping[str, Any]], None]) -> Policy:
    """The base policy of `task`; every random number comes from `world`. Raises TooWeak."""
    chosen, vocabulary = settings.warm_start, task.vocabulary
    numbers = torch.Generator().manual_seed(world)
    prompts, responses = task.demonstrations(chosen.demonstrations, np.random.default_rng([world, 2]))
    lengths = (responses != vocabulary.pad).sum(1)
    policy = Policy(settings.policy, vocabulary, numbers)
    average = AveragedModel(policy, multi_avg_fn=get_ema_multi_avg_fn(chosen.ema_decay))  # type: ignore[no-untyped-call]
    averaged = cast(Policy, average.module)
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=chosen.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )

    def step(rate: float) -> float:
        """One optimizer step at `rate` of the learning rate; the loss in nats a token."""
        for group in optimizer.param_groups:
            group["lr"] = chosen.learning_rate * rate
        rows = torch.randint(0, len(prompts), (chosen.batch,), generator=numbers)
        log_probs, _ = score(policy, prompts[rows], torch.arange(len(rows)), responses[rows], lengths[rows])
        loss = -log_probs.sum() / lengths[rows].sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(policy)
        return float(loss.detach())

    def is_strong() -> bool:
        return chosen.strength is not None and all(
            strength_of(averaged, settings, task, probes, world) >= share * chosen.strength
            for probes, share in ((QUICK_PROBES, 0.8), (PROBES, 1.0))
        )

    for number in range(1, chosen.steps + 1):
        loss = step(min(1.0, number / WARMUP_STEPS))
        if number % PROBE_EVERY == 0:
            if number < chosen.all_steps:
                send({"done": number, "loss": loss})
            if is_strong():
                break
    else:
        if chosen.strength is not None:
            reached = strength_of(averaged, settings, task, PROBES, world)
            raise TooWeak(
                f"the base policy of world {world} reached a figure of {reached:.3f} in {chosen.steps} steps, not the "
                f"strength {chosen.strength:g}: state a lower strength, more steps, or demonstrations that know more"
            )
    for number in range(1, chosen.settling_steps + 1):
        loss = step(1.0 - number / (chosen.settling_steps + 1))
        if number % PROBE_EVERY == 0 and number < chosen.settling_steps:
            send({"done": chosen.steps + number, "loss": loss})
    send({"done": chosen.all_steps, "loss": loss})
    return averaged


def strength_of(policy: Policy, settings: RegimeSettings, task: Task, n: int, world: int) -> float:
    """The figure that runs begin with, but on `n` demonstrated prompts of each suite."""
    problems = problems_of_suites(task, settings.evaluation.suites or task.suites, Split.TRAINING, n, world)
    return figures(policy, task, problems, settings.evaluation, world)["value"]
