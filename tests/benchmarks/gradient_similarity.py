"""How much loss mechanisms change GRPO's gradient, on GRPO's own updates in a regime.

python tests/benchmarks/gradient_similarity.py --regimes mild stale --algorithms soft-gate cispo [--seed 0]

GRPO trains. At each update every algorithm gets the same log-probabilities and GRPO's advantages. The table shows the
mean cosine between its derivatives by log-probability and GRPO's, and the spread of the log-ratios. A mechanism whose
cosine is nearly 1 can only act as another learning rate. Algorithms that differ in their advantages look alike here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from calibration import ROOT, TEMPLATE, recipe_of
from torch import Tensor

from poise_git.pipeline.backends.testbed.base_policies import cached_file, ensure_base_policies
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, TestbedSettings, parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import Trainer, load_policy
from poise_git.pipeline.boundary.interface import Algorithm, BatchSizes, Gradient
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.protocol import load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings


@dataclass
class Compared:
    """GRPO, whose gradients are compared with those of `others` at the same inputs.

    `cosines` has a list for each of them, and `spreads` the standard deviation of the log-ratios, for each update.
    """

    grpo: Algorithm
    others: dict[str, Algorithm]
    cosines: dict[str, list[float]] = field(default_factory=dict)
    spreads: list[float] = field(default_factory=list)

    def advantages(
        self, rewards: Tensor, mask: Tensor, index: Sequence[Any], sizes: BatchSizes | None = None
    ) -> Tensor:
        return self.grpo.advantages(rewards, mask, index, sizes)

    def gradient(
        self,
        old_log_probs: Tensor,
        log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        aggregation: str,
        sizes: BatchSizes | None = None,
        rollout_is_weights: Tensor | None = None,
    ) -> Gradient:
        own = self.grpo.gradient(old_log_probs, log_probs, advantages, mask, aggregation, sizes)
        self.spreads.append(float((log_probs.detach() - old_log_probs)[mask.bool()].std()))
        for name, other in self.others.items():
            found = other.gradient(old_log_probs, log_probs, advantages, mask, aggregation, sizes)
            cosine = torch.cosine_similarity(own.by_log_probs.flatten(), found.by_log_probs.flatten(), dim=0)
            self.cosines.setdefault(name, []).append(float(cosine))
        return own


def compare(settings: RegimeSettings, names: Sequence[str], seed: int) -> Compared:
    world = settings.world(seed)
    task = build_task(settings, world)
    trainer = Trainer(settings, task, load_policy(settings, task, cached_file(settings, world)), seed)
    others: dict[str, Algorithm] = {name: trusted_algorithm(recipe_of(name)) for name in names}
    algorithm = Compared(trusted_algorithm(recipe_of(ROOT)), others)
    for step in range(1, settings.training.steps + 1):
        trainer.step(step, algorithm)
    return algorithm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", type=Path, default=TEMPLATE / "protocols" / "testbed.yaml")
    parser.add_argument("--regimes", nargs="+", required=True)
    parser.add_argument("--algorithms", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    protocol = load_protocol(given.protocol.read_text(encoding="utf-8"), given.protocol.name)
    regimes = parse_settings(protocol, given.protocol.name).regimes
    chosen = {name: regimes[name] for name in given.regimes}
    with Sandbox(SandboxSettings()) as sandbox:
        ensure_base_policies(TestbedSettings(revision=1, regimes=chosen), sandbox, lambda file, steps, loss: None, 1)
    print(f"| regime | log-ratio, deviation | {' | '.join(given.algorithms)} |")
    print("|---" * (2 + len(given.algorithms)) + "|")
    for name, settings in chosen.items():
        found = compare(settings, given.algorithms, given.seed)
        cosines = " | ".join(f"{_mean(found.cosines[each]):.3f}" for each in given.algorithms)
        print(f"| {name} | {_mean(found.spreads):.3f} | {cosines} |")


def _mean(values: Sequence[float]) -> float:
    """Over updates; an update without any advantage has no direction."""
    known = [value for value in values if value == value]
    return sum(known) / len(known)


if __name__ == "__main__":
    main()
