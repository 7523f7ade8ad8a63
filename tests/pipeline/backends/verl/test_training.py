"""Following a training run to its end. test_end_to_end tests verl itself; here a stand-in ends in each possible way."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from poise_git.package_data import template_files
from poise_git.pipeline.backends.verl import training
from poise_git.pipeline.backends.verl.series import SERIES
from poise_git.pipeline.boundary.door import Door
from poise_git.pipeline.boundary.hosting import Containment, contain
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests import sentences
from tests.pipeline.backends.verl.conftest import changed, require_verl, shipped

STAND_IN = Path(__file__).with_name("stand_in_trainer.py")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings()) as sandbox:
        yield sandbox


@pytest.fixture
def trusted(request: pytest.FixtureRequest) -> bool:
    return bool(getattr(request, "param", False))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, trusted: bool) -> Any:
    require_verl()
    monkeypatch.chdir(tmp_path)

    def train(how: str, recipe: Any = None, **settings: Any) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
        monkeypatch.setattr(training, "python", lambda *_: [sys.executable, str(STAND_IN), how])
        protocol = shipped("cpu-smoke")
        for path, value in settings.items():
            protocol = changed(protocol, f"settings.{path.replace('__', '.')}", value)
        arguments = {"settings": protocol.settings, "seed": 0, "gpus": []}
        places = dict.fromkeys(("model", "training_data"), str(tmp_path))
        sent: list[Mapping[str, Any]] = []
        given = recipe or {"algorithm.py": "", "rollouts.py": RECIPE["rollouts.py"]}
        with contain(sandbox, given, Containment(trusted, may_lack_layers=True)) as candidate:
            if candidate.host is not None:
                door = Door(os.dup(candidate.host.door))
                monkeypatch.setattr(training, "handed_door", lambda: door)
            return training.run_trainer({**arguments, **places, **candidate.arguments}, sent.append), sent

    return train


def test_a_successful_run_returns_the_whole_trajectory(run: Any) -> None:
    result, sent = run("well")
    assert set(result["series"]) == set(SERIES)
    assert {len(values) for values in result["series"].values()} == {30}
    assert [message["done"] for message in sent] == list(range(1, 31))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "settings", "ending", "said"),
    [
        ("short", {}, "CRASH", "the trainer ended without metrics of step 3"),
        ("hangs", {"limits__stall_minutes": 0.03}, "STALL", "stall: no step for 0.03 minutes"),
        ("hangs", {"limits__hours": 0.0005}, "TIME_LIMIT", sentences.NOT_FINISHED.format(hours=0.0005)),
        ("nan", {}, "NOT_A_NUMBER", "not a number: gradient_norm at step 2"),
        ("gradient", {}, "GRADIENT_EXPLOSION", "gradient explosion: gradient_norm 5000 at step 4, above 1000"),
        ("candidate", {}, "CANDIDATE", "candidate error: policy_loss raised ValueError: no"),
        ("memory", {}, "OUT_OF_MEMORY", "out of memory: torch.OutOfMemoryError: CUDA out of memory"),
        ("killed", {}, "CRASH", "killed by signal 9"),
        ("garbage", {}, "CRASH", sentences.METRICS_FORM.format(line=2)),
    ],
)
def test_every_failed_run_has_a_name_and_reason(
    run: Any, how: str, settings: dict[str, Any], ending: str, said: str
) -> None:
    result, _ = run(how, **settings)
    assert result["ending"] == ending
    assert said in result["failure"]
    assert "\n" not in result["failure"]


RECIPE = {name: template_files()[f"recipe/{name}"] for name in ("algorithm.py", "rollouts.py")}
ADVANTAGES = "    return advantages, advantages\n"


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [False, True], indirect=True, ids=["behind the wall", "trusted"])
def test_a_worker_calls_the_candidate(run: Any) -> None:
    result, sent = run("works", RECIPE)
    assert "failure" not in result, result
    assert [message["done"] for message in sent] == list(range(1, 31))
    assert result["series"]["kl"][1:] == pytest.approx([-0.1] * 29)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise ValueError('n\\no')", "compute_advantages raised ValueError: n o (algorithm.py line "),
        ("import os; os._exit(0)", "compute_advantages ended its process"),
        ("import signal; signal.raise_signal(9)", "compute_advantages ended its process"),
        ("import os; os.write(3, b'garbage' * 999)", "compute_advantages sent a header of "),
        # It takes the whole minute.
        pytest.param(
            "import time; time.sleep(900)", "compute_advantages did not answer within 60.", marks=pytest.mark.nightly
        ),
        ("return advantages * float('nan'), None", "advantage is NaN"),
    ],
)
def test_an_error_of_a_candidate_ends_the_run_with_one_line(run: Any, line: str, said: str) -> None:
    text = RECIPE["algorithm.py"].replace(ADVANTAGES, f"    {line}\n{ADVANTAGES}")
    began = time.monotonic()
    result, _ = run("works", {**RECIPE, "algorithm.py": text})
    assert result["ending"] == "CANDIDATE"
    assert result["failure"].startswith(f"candidate error: {said}")
    assert result["failure"].isprintable()
    assert time.monotonic() - began < 180
