"""Reinforcement learning with verifiable rewards and a candidate's algorithm. Runs in a sandboxed child.

Every step samples a group of responses to each prompt, verifies them, lets the candidate compute advantages, and takes
one AdamW step per mini-batch along the gradient of the candidate's loss. The candidate is another process, which sees
only rewards, masks, log-probabilities and advantages. The trainer saves the policy at every evaluation point, and a
third process evaluates it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from poise_git.pipeline.backends.testbed.device import compute_on
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import Responses, sample, score, uniform_numbers
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, TestbedSettings, TrainingSettings
from poise_git.pipeline.backends.testbed.task import Problems, Task
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.interface import Algorithm, clip_fraction
from poise_git.pipeline.boundary.opening import open_algorithm

SERIES = (
    "reward",
    "correct_rate",
    "valid_rate",
    "all_fail_rate",
    "entropy",
    "response_length",
    "gradient_norm",
    "kl",
    "clip_fraction",
)

Send = Callable[[Mapping[str, Any]], None]


def weights_file(regime: str, step: int) -> str:
    """The file in the scratch folder for the policy after `step` training steps in `regime`."""
    return f"{regime}-{step:05d}.pt"


def load_policy(settings: RegimeSettings, task: Task, file: Path) -> Policy:
    """Load the policy with the weights in `file`. Raises ValueError unless they are finite weights of this policy."""
    with torch.device("cpu"):
        policy = Policy(settings.policy, task.vocabulary, torch.Generator())
        policy.load_weights(torch.load(file, weights_only=True, map_location="cpu"))
    return policy.to(torch.get_default_device())


def train(arguments: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """Child process: train a candidate in one regime after the other.

    Args:
        arguments: `settings` (of the testbed), `device` (torch's name), `seed`, `bases` (regime -> the file of its
            base policy), and the arguments of `open_algorithm`.
        send: gets {"done": steps} and the step's series after every step.

    Returns:
        {"series": "regime/name" -> one value per step}, or {"failure": one line}.
    """
    torch.set_num_threads(1)
    settings = TestbedSettings.model_validate(arguments["settings"])
    compute_on(arguments["device"])
    seed = int(arguments["seed"])
    series: dict[str, list[float]] = {}
    done, place = 0, ""
    try:
        # Open the candidate once for all regimes, because opening takes as long as two hundred calls.
        with open_algorithm(arguments, seed) as algorithm:
            for regime, own in settings.regimes.items():
                task = build_task(own, own.world(seed))
                trainer = Trainer(own, task, load_policy(own, task, Path(arguments["bases"][regime])), seed)
                saved_at = set(own.evaluation_steps())
                for step in range(1, own.training.steps + 1):
                    place = f" at step {step} of regime {regime}"
                    if step - 1 in saved_at:
                        torch.save(trainer.policy.state_dict(), weights_file(regime, step - 1))
                    values = trainer.step(step, algorithm)
                    for name in SERIES:
                        series.setdefault(f"{regime}/{name}", []).append(values[name])
                    send({"done": done + step, **values})
                torch.save(trainer.policy.state_dict(), weights_file(regime, own.training.steps))
                done += own.training.steps
    except CandidateFailed as error:
        return {"failure": f"{error}{place}"}
    return {"series": series}


@dataclass
class Trainer:
    """The state of one training run. Every random number comes from `seed`."""

    settings: RegimeSettings
    task: Task
    policy: Policy
    seed: int
    cpu_seconds: dict[str, float] = field(default_factory=lambda: {"sampling": 0.0, "training": 0.0})

    def __post_init__(self) -> None:
        training = self.settings.training
        self._optimizer = torch.optim.AdamW(
            self.policy.parameters(), lr=training.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self._numbers = torch.Generator().manual_seed(self.seed)
        self._problems = self.task.training_problems(
            training.steps * training.prompts, np.random.default_rng([self.seed, 3])
        )
        # Rollouts that wait for their step, the oldest first.
        self._waiting: deque[tuple[Problems, Responses]] = deque()

    def step(self, number: int, algorithm: Algorithm) -> dict[str, float]:
        """Carry out training step `number`, from 1, and return its series. Raises CandidateFailed."""
        training = self.settings.training
        start = time.process_time()
        while (ahead := len(self._waiting)) <= training.lag and number + ahead <= training.steps:
            self._waiting.append(self._sample(number + ahead))
        problems, responses = self._waiting.popleft()
        sampled = time.process_time()
        values = self._update(problems, responses, learning_rate(number, training), algorithm)
        self.cpu_seconds["sampling"] += sampled - start
        self.cpu_seconds["training"] += time.process_time() - sampled
        return values

    def _sample(self, number: int) -> tuple[Problems, Responses]:
        """The prompts of step `number`, and the policy's responses to them."""
        training = self.settings.training
        problems = self._problems[slice((number - 1) * training.prompts, number * training.prompts)]
        uniforms = uniform_numbers(
            training.prompts * training.group_size, self.task.vocabulary.response_length, self._numbers
        )
        return problems, sample(self.policy, problems.prompts, uniforms)

    def _update(self, problems: Problems, responses: Responses, rate: float, algorithm: Algorithm) -> dict[str, float]:
        training = self.settings.training
        size = training.group_size
        valid, correct = self.task.verify(problems.repeat(size), responses.tokens, responses.lengths)
        reward = np.where(correct, 1.0, np.where(valid, self.settings.reward.valid_wrong, 0.0))
        mask = responses.mask()
        token_rewards = torch.zeros_like(mask)
        token_rewards[torch.arange(len(mask)), responses.lengths - 1] = torch.from_numpy(reward).to(mask)
        owner = np.repeat(np.arange(training.prompts), size)
        advantages = algorithm.advantages(token_rewards, mask, owner.tolist())
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        updates = [
            self._minibatch(problems, responses, advantages, part, algorithm)
            for _ in range(training.epochs)
            for part in torch.arange(training.prompts).chunk(training.minibatches)
        ]
        return {
            "reward": float(reward.mean()),
            "correct_rate": float(correct.mean()),
            "valid_rate": float(valid.mean()),
            "all_fail_rate": float((~correct.reshape(-1, size).any(1)).mean()),
            "response_length": float(responses.lengths.float().mean()),
            **{name: float(np.mean([update[name] for update in updates])) for name in updates[0]},
        }

    def _minibatch(
        self, problems: Problems, responses: Responses, advantages: Tensor, part: Tensor, algorithm: Algorithm
    ) -> dict[str, float]:
        """Take one optimizer step on the groups of the consecutive prompts `part`."""
        training = self.settings.training
        first, last = int(part[0]), int(part[-1]) + 1
        rows = slice(first * training.group_size, last * training.group_size)
        lengths = responses.lengths[rows]
        owner = torch.arange(last - first).repeat_interleave(training.group_size)
        log_probs, entropy = score(self.policy, problems.prompts[first:last], owner, responses.tokens[rows], lengths)
        longest = log_probs.shape[1]
        mask = (torch.arange(longest) < lengths.unsqueeze(1)).float()
        old = responses.log_probs[rows, :longest]
        given = advantages[rows, :longest]
        gradient = algorithm.gradient(old, log_probs, given, mask, training.loss_aggregation).by_log_probs
        self._optimizer.zero_grad()
        torch.autograd.backward(log_probs, gradient)
        norm = float(nn.utils.clip_grad_norm_(self.policy.parameters(), training.gradient_clip))
        if not np.isfinite(norm):
            raise CandidateFailed("gradient norm is not finite")
        self._optimizer.step()
        tokens = mask.sum()
        return {
            "entropy": float(entropy.sum() / tokens),
            "gradient_norm": norm,
            "kl": float((old - log_probs.detach()).sum() / tokens),
            "clip_fraction": clip_fraction(gradient, old, log_probs.detach(), given, mask),
        }


def learning_rate(step: int, training: TrainingSettings) -> float:
    """Linear warm-up times a linear decay to the final share; `step` counts from 1."""
    fall = 1.0 - (1.0 - training.final_learning_rate) * (step - 1) / training.steps
    return training.learning_rate * min(1.0, step / training.warmup_steps) * fall
