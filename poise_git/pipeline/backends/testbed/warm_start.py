"""The base policy: supervised on imperfect demonstrations, so that it is sometimes valid and seldom right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import sample
from poise_git.pipeline.backends.testbed.settings import TestbedSettings
from poise_git.pipeline.backends.testbed.task import Problems, Task
from poise_git.pipeline.backends.testbed.tasks import build_task

WEIGHTS_FILE = "base.pt"
WARMUP_STEPS = 50
LENGTH_BUCKETS = 3
# How often, and on how many training prompts, strength is measured.
PROBE_EVERY = 20
PROBES = 1024


def train_base_policy(arguments: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> None:
    """Child process: train the base policy of one world and leave its weights in the working directory.

    Args:
        arguments: `settings` (of the testbed) and `world`.
        send: gets {"done": steps, "loss": nats a token}; it may jump to the total when the base is strong enough.
    """
    torch.set_num_threads(1)
    settings = TestbedSettings.model_validate(arguments["settings"])
    world = int(arguments["world"])
    policy = warm_start(settings, build_task(settings, world), world, send)
    torch.save(policy.state_dict(), Path(WEIGHTS_FILE))


def warm_start(settings: TestbedSettings, task: Task, world: int, send: Callable[[Mapping[str, Any]], None]) -> Policy:
    """The base policy of `task`; every random number comes from `world`."""
    chosen, vocabulary = settings.warm_start, task.vocabulary
    numbers = torch.Generator().manual_seed(world)
    prompts, responses = task.demonstrations(chosen.demonstrations, np.random.default_rng([world, 2]))
    lengths = (responses != vocabulary.pad).sum(1)
    probe = task.training_problems(PROBES, np.random.default_rng([world, 5]))
    policy = Policy(settings.policy, vocabulary, numbers)
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=chosen.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )

    def step(rate: float) -> float:
        """One optimizer step at `rate` of the learning rate; the loss in nats a token."""
        for group in optimizer.param_groups:
            group["lr"] = chosen.learning_rate * rate
        rows = torch.randint(0, len(prompts), (chosen.batch,), generator=numbers)
        # Rows of similar length share a forward pass, so that few positions are padding.
        rows = rows[lengths[rows].argsort()]
        losses = [_loss(policy, prompts[part], responses[part], lengths[part]) for part in rows.chunk(LENGTH_BUCKETS)]
        loss = torch.stack(losses).sum() / lengths[rows].sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    for number in range(1, chosen.steps + 1):
        loss = step(min(1.0, number / WARMUP_STEPS))
        if number % PROBE_EVERY == 0:
            send({"done": number, "loss": loss})
            if _correct_rate(policy, task, probe, numbers) >= chosen.correct_rate:
                break
    for number in range(chosen.cooldown_steps):
        loss = step(1.0 - number / chosen.cooldown_steps)
    send({"done": chosen.total_steps, "loss": loss})
    return policy


def _correct_rate(policy: Policy, task: Task, problems: Problems, numbers: torch.Generator) -> float:
    """The share of correct ones among responses sampled to `problems`, one each."""
    responses = sample(
        policy, problems.prompts, torch.rand(len(problems), task.vocabulary.response_length, generator=numbers)
    )
    return float(task.verify(problems, responses.tokens, responses.lengths)[1].mean())


def _loss(policy: Policy, prompts: torch.Tensor, responses: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the responses, summed over their tokens."""
    responses = responses[:, : int(lengths.max())]
    cache, first = policy.encode(prompts)
    logits = torch.cat([first.unsqueeze(1), policy.extend(responses[:, :-1], cache, torch.arange(len(prompts)))], 1)
    return F.cross_entropy(
        logits.flatten(0, 1), responses.flatten(), ignore_index=policy.vocabulary.pad, reduction="sum"
    )
