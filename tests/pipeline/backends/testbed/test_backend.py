from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from _pytest.tmpdir import TempPathFactory

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.base_policies import cached_file
from poise_git.pipeline.backends.testbed.evaluation import evaluate
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import SERIES, load_policy, weights_file
from poise_git.pipeline.interface import Cancelled, Progress
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox

RunTestbed = Callable[..., Run]

# Where the template's algorithm computes what; each test replaces one of these lines.
ADVANTAGES = "    return advantages, advantages\n"
LOSS = "    return loss, metrics\n"
SIGNAL = "    return rollouts.score\n"
FUNCTION = "def reward_signal("


def test_a_run_has_every_figure(run_testbed: RunTestbed, tiny: Protocol) -> None:
    reports: list[Progress] = []
    run = run_testbed(on_progress=reports.append)
    assert run.protocol == tiny.hash
    assert run.values.keys() == tiny.suites.keys() == run.details.keys()
    assert set(run.details["chain-2"]) == {"acc@1", "pass@2", "pass@4", "mean_length", "valid_rate"}
    assert set(run.series) == set(SERIES)
    assert all(len(values) == 3 for values in run.series.values())
    assert [point["step"] for point in run.curve] == [0, 2, 3]
    assert run.values["chain-3"] == pytest.approx(sum(point["chain-3"] for point in run.curve[1:]) / 2)
    assert run.curve[0]["overall"] == pytest.approx((run.curve[0]["chain-2"] + run.curve[0]["chain-3"]) / 2)
    assert run.cpu_seconds > 0
    trained = [report for report in reports if report.stage == "train"]
    assert [(report.done, report.total) for report in trained] == [(1, 3), (2, 3), (3, 3)]
    assert set(trained[-1].values) == set(SERIES)
    assert Run.from_data(run.to_data()) == run


def test_same_seed_same_numbers_and_another_seed_others(run_testbed: RunTestbed) -> None:
    one, again, other = run_testbed(seed=0), run_testbed(seed=0), run_testbed(seed=2)
    assert (one.values, one.details, one.series, one.curve) == (again.values, again.details, again.series, again.curve)
    assert one.series != other.series


def test_what_a_candidate_draws_is_seeded_and_shifts_no_sampling(run_testbed: RunTestbed) -> None:
    plain = run_testbed()
    drawing = run_testbed((ADVANTAGES, "    torch.randn(7)\n" + ADVANTAGES))
    assert drawing.series == plain.series
    noisy = (ADVANTAGES, "    advantages = advantages + torch.randn(advantages.shape) * response_mask\n" + ADVANTAGES)
    one, again = run_testbed(noisy), run_testbed(noisy)
    assert one.series == again.series
    assert one.series != plain.series


def test_the_candidates_own_algorithm_trains(run_testbed: RunTestbed) -> None:
    still = run_testbed((LOSS, "    loss = (log_prob * 0.0).sum()\n" + LOSS))
    assert still.series["gradient_norm"] == (0.0, 0.0, 0.0)
    assert still.curve[0]["overall"] == still.curve[1]["overall"]
    pushed = run_testbed((LOSS, "    loss = log_prob.sum()\n" + LOSS))
    assert pushed.series["gradient_norm"] > still.series["gradient_norm"]


@pytest.mark.parametrize(
    ("line", "before", "reason"),
    [
        (LOSS, "    loss = loss * float('nan')\n", "loss is NaN at step 1"),
        (LOSS, "    loss = (log_prob - 1.0).abs().sum() * float('inf')\n", "loss is infinite at step 1"),
        (LOSS, "    loss = (log_prob * 0).sqrt().sum()\n", "gradient is NaN at step 1"),
        (LOSS, "    loss = log_prob\n", "policy_loss returned a tensor (16, "),
        (LOSS, "    loss = torch.tensor(1.0)\n", "does not depend on log_prob at step 1"),
        (LOSS, "    return loss\n", "not (loss, metrics) at step 1"),
        (ADVANTAGES, "    advantages = advantages / 0\n", "advantage is NaN at step 1"),
        (ADVANTAGES, "    advantages = advantages[:, :1]\n", "compute_advantages returned a tensor (32, 1), not"),
        (ADVANTAGES, "    return advantages\n", "not (advantages, returns) at step 1"),
        (SIGNAL, "    raise ValueError('no\\nway')\n", "compute_advantages raised ValueError: no way at step 1"),
        (SIGNAL, "    raise SystemExit\n", "compute_advantages raised SystemExit"),
        (FUNCTION, "import nowhere\n\n\n", "importing recipe/algorithm.py raised ModuleNotFoundError"),
        ("def policy_loss(", "def policy_gradient_loss(): ...\n\n\ndef the_policy_loss(", "no function policy_loss"),
    ],
)
def test_a_bad_candidate_fails_with_one_line(run_testbed: RunTestbed, line: str, before: str, reason: str) -> None:
    replaced = before if line.startswith("def policy") else before + line
    with pytest.raises(RunFailed) as caught:
        run_testbed((line, replaced))
    assert caught.value.stage == "train"
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason


def test_cancelled_stops(run_testbed: RunTestbed) -> None:
    cancelled = threading.Event()
    with pytest.raises(Cancelled):
        run_testbed(on_progress=lambda progress: cancelled.set(), cancelled=cancelled)


def test_preparing_trains_each_world_once(tiny: Protocol, sandbox: Sandbox) -> None:
    settings = parse_settings(tiny, "tiny.yaml")
    TestbedBackend().prepare(tiny, sandbox, lambda progress: None, workers=2)
    files = [cached_file(settings, world) for world in settings.task.worlds]
    first = [file.stat().st_mtime_ns for file in files]
    reports: list[Progress] = []
    TestbedBackend().prepare(tiny, sandbox, reports.append, workers=2)
    assert [file.stat().st_mtime_ns for file in files] == first
    assert reports == []


def test_two_at_once_train_a_world_once(
    tiny: Protocol, sandbox: Sandbox, tmp_path_factory: TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    reports: list[list[Progress]] = [[], []]
    threads = [
        threading.Thread(target=TestbedBackend().prepare, args=(tiny, sandbox, report.append, 1)) for report in reports
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settings = parse_settings(tiny, "tiny.yaml")
    finished = [one for report in reports for one in report if one.done % (one.total // 2) == 0]
    assert len(finished) == len(settings.task.worlds)
    folder = cached_file(settings, settings.task.worlds[0]).parent
    assert len(list(folder.glob("*.pt"))) == 2
    assert [path for path in folder.iterdir() if path.is_dir()] == []


def test_another_warm_start_is_another_base_policy(tiny: Protocol) -> None:
    settings = parse_settings(tiny, "tiny.yaml")
    warm_start = settings.warm_start.model_copy(update={"steps": 7})
    training = settings.training.model_copy(update={"steps": 7})
    file = cached_file(settings, 7)
    assert cached_file(settings.model_copy(update={"warm_start": warm_start}), 7) != file
    assert cached_file(settings, 8) != file
    assert cached_file(settings.model_copy(update={"training": training}), 7) == file


@pytest.mark.parametrize("damage", ["missing tensor", "wrong shape", "not finite", "not tensors", "code"])
def test_the_evaluator_refuses_weights_that_are_not(
    tiny: Protocol, sandbox: Sandbox, tmp_path_factory: TempPathFactory, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    settings = parse_settings(tiny, "tiny.yaml")
    TestbedBackend().prepare(tiny, sandbox, lambda progress: None, workers=2)
    base = cached_file(settings, 7)
    weights = load_policy(settings, build_task(settings, 7), base).state_dict()
    if damage == "missing tensor":
        del weights["head.weight"]
    elif damage == "wrong shape":
        weights["head.weight"] = weights["head.weight"][:-1]
    elif damage == "not finite":
        weights["norm.weight"] = weights["norm.weight"] * float("nan")
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.chdir(scratch)
    content = {"not tensors": 3, "code": threading.Thread}.get(damage, weights)
    torch.save(content, weights_file(0))
    arguments = {"settings": settings.model_dump(mode="json"), "seed": 0, "suites": ["chain-2"]}
    answer = evaluate(arguments, lambda message: None)
    assert answer["failure"].startswith("cannot read the policy after step 0: ")
