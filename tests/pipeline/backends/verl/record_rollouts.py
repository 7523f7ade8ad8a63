"""Records `recorded_rollouts.json`: one batch of the testbed's GRPO, in its second pass over the same rollouts.

    python tests/pipeline/backends/verl/record_rollouts.py

It takes a minute. Run it again if the form of the testbed's rollouts changes; the numbers do not matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poise_git.package_data import template_files
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import Trainer
from poise_git.pipeline.backends.testbed.warm_start import warm_start
from poise_git.pipeline.boundary.interface import Algorithm, Gradient
from poise_git.pipeline.boundary.loading import ALGORITHM, ROLLOUTS
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.protocol import load_protocol

HERE = Path(__file__).parent
SEED = 0
STEPS = 3


class Recorder:
    """Keeps the arguments of the last calls."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self.record: dict[str, Any] = {}

    def advantages(self, rewards: Tensor, mask: Tensor, index: Sequence[Any], *rest: Any) -> Tensor:
        self.record |= {"rewards": rewards, "group": [int(one) for one in index]}
        return self._algorithm.advantages(rewards, mask, index, *rest)

    def gradient(
        self, old_log_probs: Tensor, log_probs: Tensor, advantages: Tensor, mask: Tensor, *rest: Any
    ) -> Gradient:
        self.record |= {"old_log_probs": old_log_probs, "log_probs": log_probs.detach(), "mask": mask}
        return self._algorithm.gradient(old_log_probs, log_probs, advantages, mask, *rest)


def main() -> None:
    torch.set_num_threads(1)
    file = HERE.parents[2] / "protocols/short.yaml"
    protocol = load_protocol(file.read_text(), file.name)
    protocol.settings["training"] |= {"steps": STEPS, "minibatches": 1, "epochs": 2, "learning_rate": 6e-3}
    settings = parse_settings(protocol, file.name).regimes["composite"]
    task = build_task(settings, settings.world(SEED))
    recipe = {name: template_files()[f"recipe/{name}"] for name in (ALGORITHM, ROLLOUTS)}
    recorder = Recorder(trusted_algorithm(recipe, SEED))
    trainer = Trainer(settings, task, warm_start(settings, task, settings.world(SEED), lambda _: None), SEED)
    for step in range(1, STEPS + 1):
        trainer.step(step, recorder)
    record = recorder.record
    longest = record["mask"].shape[1]
    record["rewards"] = record["rewards"][:, :longest]
    rounded = {
        name: [float(f"{value:.7g}") for value in tensor.flatten().tolist()]
        for name, tensor in record.items()
        if isinstance(tensor, Tensor)
    }
    data = {"shape": list(record["mask"].shape), "group": record["group"], **rounded}
    (HERE / "recorded_rollouts.json").write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
