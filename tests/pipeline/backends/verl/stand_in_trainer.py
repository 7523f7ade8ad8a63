"""A process that ends as a trainer of verl's may: by argument. It writes the files that one writes."""

from __future__ import annotations

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
    elif how == "memory":
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB")
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "garbage":
        with Path(os.environ["VERL_FILE_LOGGER_PATH"]).open("a") as file:
            file.write("[1, 2]\n")
        log(2)
        time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
