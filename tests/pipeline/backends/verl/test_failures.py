"""Failed trainings: each ending has a name and a reason of one line."""

from __future__ import annotations

import math

import pytest

from poise_git.pipeline.backends.verl.failures import RULES, EarlyStops, Ending, TrainingEnded, crash, require_numbers
from poise_git.pipeline.backends.verl.settings import EarlyStop, EarlyStopSettings

HEALTHY = {"entropy": 1.0, "kl": 0.001, "length_limit_rate": 0.1, "gradient_norm": 1.0, "valid_rate": 0.9}


def ending(stops: EarlyStops, step: int, **values: float) -> TrainingEnded | None:
    try:
        stops.look(step, HEALTHY | values)
    except TrainingEnded as ended:
        return ended
    return None


@pytest.mark.parametrize(
    ("field", "threshold", "series", "value", "expected"),
    [
        ("entropy_below", 0.05, "entropy", 0.01, Ending.ENTROPY_COLLAPSE),
        ("kl_above", 0.5, "kl", 0.7, Ending.KL_EXPLOSION),
        ("length_at_limit_share_above", 0.8, "length_limit_rate", 0.9, Ending.LENGTH_EXPLOSION),
        ("gradient_norm_above", 100.0, "gradient_norm", 101.0, Ending.GRADIENT_EXPLOSION),
        ("valid_rate_below", 0.1, "valid_rate", 0.05, Ending.VALIDITY_COLLAPSE),
    ],
)
def test_a_collapse_ends_the_run_after_its_patience(
    field: str, threshold: float, series: str, value: float, expected: Ending
) -> None:
    settings = EarlyStopSettings(**{field: EarlyStop(threshold=threshold, patience=2)})
    stops = EarlyStops(settings)
    assert ending(stops, 1) is None
    assert ending(stops, 2, **{series: value}) is None, "one step is not a series"
    assert ending(stops, 3) is None, "a healthy step resets the count"
    assert ending(stops, 4, **{series: value}) is None
    ended = ending(stops, 5, **{series: value})
    assert ended is not None
    assert ended.ending is expected
    assert str(ended).startswith(f"{expected}: {series} {value:g} at step 5")


def test_every_setting_has_a_rule() -> None:
    assert set(RULES) == set(EarlyStopSettings.model_fields)


def test_rules_that_are_off_end_nothing() -> None:
    assert ending(EarlyStops(EarlyStopSettings()), 1, entropy=0.0, kl=1e9, gradient_norm=1e9, valid_rate=0.0) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_ends_the_run(value: float) -> None:
    require_numbers(1, HEALTHY)
    with pytest.raises(TrainingEnded, match=r"not a number: kl at step 7") as caught:
        require_numbers(7, HEALTHY | {"kl": value})
    assert caught.value.ending is Ending.NOT_A_NUMBER


RAY_TRACEBACK = """Traceback (most recent call last):
  File "verl/trainer/main_ppo.py", line 90, in main
ray.exceptions.RayTaskError(ValueError): \x1b[36mray::TaskRunner.run()\x1b[39m (pid=1, ip=127.0.0.1)
  File "x.py", line 1, in f
ValueError: the batch is empty
"""


@pytest.mark.parametrize(
    ("exit_code", "log", "kind", "said"),
    [
        (1, RAY_TRACEBACK, Ending.CRASH, "ValueError: the batch is empty (exit status 1)"),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", Ending.OUT_OF_MEMORY, "2 GiB"),
        (1, "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory\n", Ending.OUT_OF_MEMORY, ""),
        (1, "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory\n",
         Ending.OUT_OF_MEMORY, "node running low"),
        (-9, "step 3\nstep 4\n", Ending.CRASH, "killed by signal 9"),
        (3, "", Ending.CRASH, "exit status 3"),
    ],
)  # fmt: skip
def test_a_crash_reports_its_cause(exit_code: int, log: str, kind: Ending, said: str) -> None:
    ended = crash(exit_code, log)
    assert ended.ending is kind
    assert said in str(ended)
    assert "\n" not in str(ended)
