"""One training run of verl inside the sandbox: start the trainer, follow it, and report how it ended.

The child processes belong to verl, Ray and vLLM. They all live in the sandbox's process namespace, which ends with
this process. This process reaches the candidate through a door that its parent handed over.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poise_git.pipeline.backends.verl.configuration import Places, overrides
from poise_git.pipeline.backends.verl.failures import EarlyStops, Ending, TrainingEnded, crash, require_numbers
from poise_git.pipeline.backends.verl.launching import environment, external_modules, log_tail, python
from poise_git.pipeline.backends.verl.series import COSTS, SERIES, Attempt, Follower, trajectory
from poise_git.pipeline.backends.verl.settings import VerlSettings
from poise_git.pipeline.boundary.broker import broker
from poise_git.pipeline.boundary.door import TRUSTED_RECIPE
from poise_git.pipeline.boundary.opening import handed_door
from poise_git.pipeline.sandbox import kernel
from poise_git.pipeline.sandbox.removal import remove_tree

TRAINER = "verl.trainer.main_ppo"
CHECKPOINTS = "checkpoints"
LOG = "trainer.log"
FAILURE = "candidate-failure.txt"
_POLL_SECONDS = 0.25

Send = Callable[[Mapping[str, Any]], None]


def train(arguments: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """Child process: call `run_trainer`, and keep the pipe to the parent out of reach of all child processes."""
    kernel.process_control(kernel.PR_SET_DUMPABLE, 0)
    return run_trainer(arguments, send)


def run_trainer(arguments: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """Carry out a training run, or the rest of an interrupted one, in the working directory.

    Args:
        arguments: `settings`, `seed`, `gpus` (names), the paths `model` and `training_data`, and a trusted candidate's
            recipe.
        send: gets {"done": steps} and that step's values after every step.

    Returns:
        {"series": name -> one value a step}, or {"failure": one line, "ending": name of an `Ending`}.
    """
    settings = VerlSettings.model_validate(arguments["settings"])
    here = Path.cwd()
    places = Places(
        model=Path(arguments["model"]),
        training_data=Path(arguments["training_data"]),
        checkpoints=here / CHECKPOINTS,
        hydra=here / "hydra",
    )
    _drop_unlogged_checkpoint(here)
    number = len(Attempt.all_in(here)) + 1
    attempt = Attempt.numbered(here, number)
    attempt.metrics.touch()
    (here / FAILURE).unlink(missing_ok=True)
    variables = environment(settings.hardware.device, here, arguments["gpus"], threads=_threads(settings)) | {
        "VERL_USE_EXTERNAL_MODULES": external_modules(settings.hardware.device),
        "VERL_FILE_LOGGER_PATH": str(attempt.metrics),
        "POISE_FAILURE_FILE": str(here / FAILURE),
        "POISE_ROLLOUTS_FILE": str(attempt.rollouts),
        "POISE_SEED": str(arguments["seed"]),
    }
    command = python(TRAINER, *overrides(settings, places, int(arguments["seed"])))
    with (here / LOG).open("ab") as log, _candidate(arguments, here) as candidate:
        variables |= candidate
        trainer = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _follow(trainer, Follower(attempt), settings, send)
            return {"series": trajectory(Attempt.all_in(here), settings.steps)}
        except TrainingEnded as ended:
            return {"failure": str(ended), "ending": ended.ending.name}
        except (ValueError, json.JSONDecodeError) as error:
            return {"failure": str(TrainingEnded(Ending.CRASH, str(error))), "ending": Ending.CRASH.name}
        finally:
            trainer.kill()
            trainer.wait()


@contextmanager
def _candidate(arguments: Mapping[str, Any], here: Path) -> Iterator[dict[str, str]]:
    """Environment variables that tell the trainer's workers where the candidate is."""
    if recipe := arguments.get(TRUSTED_RECIPE):
        file = here / "recipe.json"
        file.write_text(json.dumps(recipe), encoding="utf-8")
        yield {"POISE_TRUSTED_RECIPE": str(file)}
        return
    with broker(handed_door(), here) as door:
        yield {"POISE_DOOR": str(door)}


def _drop_unlogged_checkpoint(here: Path) -> None:
    """Remove a checkpoint whose step was never logged: verl writes it some seconds before the step's metrics."""
    newest = here / CHECKPOINTS / "latest_checkpointed_iteration.txt"
    if not newest.exists():
        return
    logged = {step for attempt in Attempt.all_in(here) for step, _ in Follower(attempt).new_steps()}
    if int(newest.read_text()) not in logged:
        remove_tree(here / CHECKPOINTS)


def _threads(settings: VerlSettings) -> int:
    """Threads of each numerical library of a worker; a device's sampler and trainer share its cores."""
    return max(1, settings.hardware.cpus // (2 * settings.hardware.workers))


def _follow(trainer: subprocess.Popen[bytes], follower: Follower, settings: VerlSettings, send: Send) -> None:
    """Follow the trainer until it ends without an error. Raises TrainingEnded."""
    stops = EarlyStops(settings.early_stops)
    started = newest = time.monotonic()
    while True:
        exit_code = trainer.poll()
        for step, values in follower.new_steps():
            newest = time.monotonic()
            require_numbers(step, {name: values[name] for name in SERIES})
            stops.look(step, values)
            send({"done": step, **{name: values[name] for name in (*SERIES, *COSTS) if name in values}})
        if Path(FAILURE).exists():
            raise TrainingEnded(Ending.CANDIDATE, Path(FAILURE).read_text(encoding="utf-8", errors="replace"))
        if exit_code == 0:
            return
        if exit_code is not None:
            raise crash(exit_code, log_tail(Path(LOG)))
        now = time.monotonic()
        if now - newest > settings.limits.stall_minutes * 60:
            raise TrainingEnded(Ending.STALL, f"no step for {settings.limits.stall_minutes:g} minutes")
        if now - started > settings.limits.hours * 3600:
            raise TrainingEnded(Ending.TIME_LIMIT, f"not finished after {settings.limits.hours:g} hours")
        time.sleep(_POLL_SECONDS)
