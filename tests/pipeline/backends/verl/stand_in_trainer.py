"""A process that ends in one of the ways in which verl's trainer can end; the argument selects it.

It writes the same files as the trainer. With "works" it calls the candidate as a worker does, by the functions in
verl's registries.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

METRICS = {
    "critic/score/mean": 0.5,
    "actor/entropy": 2.0,
    "response_length/mean": 7.0,
    "response_length/clip_ratio": 0.25,
    "actor/grad_norm": 1.5,
    "actor/ppo_kl": 0.01,
    "actor/pg_clipfrac": 0.125,
}


def log(step: int, **changed: float) -> None:
    with Path(os.environ["POISE_ROLLOUTS_FILE"]).open("a") as file:
        file.write(json.dumps({"correct_rate": 0.4, "valid_rate": 0.6, "all_fail_rate": 0.2}) + "\n")
    with Path(os.environ["VERL_FILE_LOGGER_PATH"]).open("a") as file:
        file.write(json.dumps({"step": step, "data": METRICS | changed}) + "\n")


def main(how: str) -> None:
    log(1)
    if how == "well":
        for step in range(2, 31):
            log(step)
    elif how == "short":
        log(2)
    elif how == "hangs":
        time.sleep(600)
    elif how == "nan":
        log(2, **{"actor/grad_norm": float("nan")})
        time.sleep(600)
    elif how == "gradient":
        for step in (2, 3, 4):
            log(step, **{"actor/grad_norm": 5000.0})
        time.sleep(600)
    elif how == "candidate":
        Path(os.environ["POISE_FAILURE_FILE"]).write_text("policy_loss raised ValueError: no")
        time.sleep(600)
    elif how == "works":
        work()
    elif how == "memory":
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB")
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "garbage":
        with Path(os.environ["VERL_FILE_LOGGER_PATH"]).open("a") as file:
            file.write("[1, 2]\n")
        log(2)
        time.sleep(600)


def work() -> None:
    """The calls of every step, with the metrics that verl would log."""
    from poise_git.pipeline.backends.verl.broken_packages import hide_broken_packages

    hide_broken_packages()
    import torch
    from verl.trainer.ppo import core_algos

    importlib.import_module("poise_git.pipeline.backends.verl.worker.registration")
    rewards, mask = torch.zeros(4, 3), torch.ones(4, 3, dtype=torch.int64)
    rewards[0, 2], rewards[3, 2] = 1.0, 0.1
    for step in range(2, 31):
        advantages, _ = core_algos.get_adv_estimator_fn("poise")(
            token_level_rewards=rewards, response_mask=mask, index=["a", "a", "b", "b"], config={}
        )
        old = torch.full((4, 3), -1.0)
        loss, metrics = core_algos.get_policy_loss_fn("poise")(
            old_log_prob=old,
            log_prob=(old + 0.1).requires_grad_(),
            advantages=advantages,
            response_mask=mask,
            loss_agg_mode="token-mean",
            config=None,
            rollout_is_weights=None,
        )
        loss.backward()
        log(step, **metrics)


if __name__ == "__main__":
    main(sys.argv[1])
