"""How a training run is followed to its end. verl itself is in test_end_to_end; here a process ends as it may."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from poise_git.pipeline.backends.verl import training
from poise_git.pipeline.backends.verl.series import SERIES
from tests.pipeline.backends.verl.conftest import changed, require_verl, shipped

STAND_IN = Path(__file__).with_name("stand_in_trainer.py")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    require_verl()
    monkeypatch.chdir(tmp_path)

    def train(how: str, **settings: Any) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
        monkeypatch.setattr(training, "python", lambda *_: [sys.executable, str(STAND_IN), how])
        protocol = shipped("cpu-smoke")
        for path, value in settings.items():
            protocol = changed(protocol, f"settings.{path.replace('__', '.')}", value)
        arguments = {"settings": protocol.settings, "seed": 0, "gpus": []}
        places = dict.fromkeys(("recipe", "model", "training_data"), str(tmp_path))
        sent: list[Mapping[str, Any]] = []
        return training.run_trainer({**arguments, **places}, sent.append), sent

    return train


def test_a_good_end_brings_the_whole_trajectory(run: Any) -> None:
    result, sent = run("well")
    assert set(result["series"]) == set(SERIES)
    assert {len(values) for values in result["series"].values()} == {30}
    assert [message["done"] for message in sent] == list(range(1, 31))


@pytest.mark.parametrize(
    ("how", "settings", "ending", "said"),
    [
        ("short", {}, "CRASH", "the trainer ended without metrics of step 3"),
        ("hangs", {"limits__stall_minutes": 0.03}, "STALL", "stall: no step for 0.03 minutes"),
        ("hangs", {"limits__hours": 0.0005}, "TIME_LIMIT", "time limit: not done after 0.0005 hours"),
        ("nan", {}, "NOT_A_NUMBER", "not a number: gradient_norm at step 2"),
        ("gradient", {}, "GRADIENT_EXPLOSION", "gradient explosion: gradient_norm 5000 at step 4, above 1000"),
        ("candidate", {}, "CANDIDATE", "candidate error: policy_loss raised ValueError: no"),
        ("memory", {}, "OUT_OF_MEMORY", "out of memory: torch.OutOfMemoryError: CUDA out of memory"),
        ("killed", {}, "CRASH", "killed by signal 9"),
        ("garbage", {}, "CRASH", "line 2 of the trainer's metrics is not what verl writes"),
    ],
)
def test_every_other_end_has_its_name_and_reason(
    run: Any, how: str, settings: dict[str, Any], ending: str, said: str
) -> None:
    result, _ = run(how, **settings)
    assert result["ending"] == ending
    assert said in result["failure"]
    assert "\n" not in result["failure"]
