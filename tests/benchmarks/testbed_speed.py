"""The cost of a testbed run: CPU seconds of one GRPO run of every regime, by part.

python tests/benchmarks/testbed_speed.py [--protocol FILE] [--workers 2]

Everything is trained and evaluated in this process; `--workers` only makes the base policies.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from calibration import ROOT, TEMPLATE, recipe_of

from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.base_policies import cached_file
from poise_git.pipeline.backends.testbed.evaluation import figures, final_figures, problems_of_suites
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, parse_settings
from poise_git.pipeline.backends.testbed.task import Split
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import Trainer, load_policy
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.interface import Progress
from poise_git.pipeline.protocol import load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

SEED = 0


@dataclass(frozen=True)
class Spent:
    """CPU seconds of one regime's run, and the response tokens that were sampled and learned from."""

    sampling: float
    training: float
    evaluation: float
    tokens: float

    @property
    def together(self) -> float:
        return self.sampling + self.training + self.evaluation


def report(progress: Progress) -> None:
    if progress.done % 100 == 0:
        print(f"{progress.stage} {progress.done}/{progress.total}", flush=True)


def time_regime(settings: RegimeSettings, recipe: Mapping[str, str]) -> Spent:
    """One run, evaluated at the usual points; its base policy exists already."""
    world = settings.world(SEED)
    task = build_task(settings, world)
    trainer = Trainer(settings, task, load_policy(settings, task, cached_file(settings, world)), SEED)
    algorithm, evaluation = trusted_algorithm(recipe, SEED), settings.evaluation
    suites = evaluation.suites or task.suites
    problems = problems_of_suites(task, suites, Split.SELECTION, evaluation.problems, SEED)
    points, steps, seconds, lengths = set(settings.evaluation_steps()), settings.training.steps, 0.0, 0.0
    for step in range(steps + 1):
        if step > 0:
            lengths += trainer.step(step, algorithm)["response_length"]
        if step in points:
            start = time.process_time()
            (final_figures if step == steps else figures)(trainer.policy, task, problems, evaluation, SEED)
            seconds += time.process_time() - start
    rollouts = settings.training.prompts * settings.training.group_size
    return Spent(**trainer.cpu_seconds, evaluation=seconds, tokens=lengths * rollouts)


def show(name: str, spent: Spent) -> None:
    rates = f"{spent.tokens / spent.sampling:9.0f} {spent.tokens / spent.training:9.0f}"
    parts = f"{spent.sampling:9.2f} {spent.training:9.2f} {spent.evaluation:11.2f} {spent.together:9.2f}"
    print(f"{name:<16} {parts} {rates}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", type=Path, default=TEMPLATE / "protocols" / "testbed.yaml")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    protocol = load_protocol(options.protocol.read_text(encoding="utf-8"), options.protocol.name)
    with Sandbox(SandboxSettings()) as sandbox:
        start = time.monotonic()
        TestbedBackend().prepare(protocol, sandbox, report, options.workers)
        print(f"base policies: {time.monotonic() - start:.0f} s")
    torch.set_num_threads(1)
    print(f"{'regime':<16}  sampling  training  evaluation  together  tokens/s: sampled, learned from")
    regimes = parse_settings(protocol, protocol.name).regimes
    spent = [time_regime(settings, recipe_of(ROOT)) for settings in regimes.values()]
    for name, own in zip(regimes, spent, strict=True):
        show(name, own)
    parts = ("sampling", "training", "evaluation", "tokens")
    show("together", Spent(**{part: sum(getattr(own, part) for own in spent) for part in parts}))


if __name__ == "__main__":
    main()
