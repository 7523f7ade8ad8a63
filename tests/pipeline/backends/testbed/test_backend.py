from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from _pytest.tmpdir import TempPathFactory

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed
from poise_git.pipeline.backends.testbed.backend import WHOLE, TestbedBackend
from poise_git.pipeline.backends.testbed.base_policies import base_policies, cached_file
from poise_git.pipeline.backends.testbed.evaluation import evaluate
from poise_git.pipeline.backends.testbed.settings import ArithmeticChainSettings, parse_settings
from poise_git.pipeline.backends.testbed.task import Split
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import SERIES, load_policy, weights_file
from poise_git.pipeline.boundary.hosting import Containment
from poise_git.pipeline.interface import Cancelled, Job, Progress
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox
from tests import sentences
from tests.layers import containment

pytestmark = pytest.mark.slow

RunTestbed = Callable[..., Run]

# Lines of the template's algorithm; each test replaces one of them.
ADVANTAGES = "    return advantages, advantages\n"
LOSS = "    return loss, metrics\n"
SIGNAL = "    return rollouts.score\n"
FUNCTION = "def reward_signal("


def test_a_run_has_every_figure(run_testbed: RunTestbed, tiny: Protocol) -> None:
    reports: list[Progress] = []
    run = run_testbed(on_progress=reports.append)
    assert run.protocol == tiny.hash
    assert run.values.keys() == tiny.suites.keys() == run.details.keys() == {"composite", "accuracy"}
    for details in run.details.values():
        assert set(details) == {
            "greedy", "pass@2", "pass@4", "mean_length", "valid_rate", "chain-2", "early", "final",
        }  # fmt: skip
    lengths = {name: len(values) for name, values in run.series.items()}
    assert lengths == {
        f"{regime}/{name}": steps for regime, steps in (("composite", 3), ("accuracy", 2)) for name in SERIES
    }
    assert [point["point"] for point in run.curve] == [0, 1, 2]
    assert run.values["accuracy"] == pytest.approx(sum(point["accuracy"] for point in run.curve[1:]) / 2)
    assert run.curve[0]["overall"] == pytest.approx((run.curve[0]["composite"] + run.curve[0]["accuracy"]) / 2)
    assert run.cpu_seconds > 0
    for stage, total in (("train", 3 + 2), ("evaluate", 3 + 3)):
        reported = [(report.done, report.total) for report in reports if report.stage == stage]
        assert reported == [(done, total) for done in range(1, total + 1)]
    assert all(set(report.values) == set(SERIES) for report in reports if report.stage == "train")
    assert Run.from_data(run.to_data()) == run


def test_the_seed_determines_the_numbers(run_testbed: RunTestbed) -> None:
    one, again, other = run_testbed(seed=0), run_testbed(seed=0), run_testbed(seed=2)
    assert (one.values, one.details, one.series, one.curve) == (again.values, again.details, again.series, again.curve)
    assert one.series != other.series


def test_draws_of_a_candidate_are_seeded_and_do_not_change_sampling(run_testbed: RunTestbed) -> None:
    plain = run_testbed()
    drawing = run_testbed((ADVANTAGES, "    torch.randn(7)\n" + ADVANTAGES))
    assert drawing.series == plain.series
    noisy = (ADVANTAGES, "    advantages = advantages + torch.randn(advantages.shape) * response_mask\n" + ADVANTAGES)
    one, again = run_testbed(noisy), run_testbed(noisy)
    assert one.series == again.series
    assert one.series != plain.series


def test_the_candidates_own_algorithm_trains(run_testbed: RunTestbed) -> None:
    still = run_testbed((LOSS, "    loss = (log_prob * 0.0).sum()\n" + LOSS))
    assert still.series["composite/gradient_norm"] == (0.0, 0.0, 0.0)
    assert still.curve[0]["overall"] == still.curve[1]["overall"]
    pushed = run_testbed((LOSS, "    loss = log_prob.sum()\n" + LOSS))
    assert min(pushed.series["composite/gradient_norm"]) > 0.0


# Where a candidate can remember something from one call to the next.
MEMORIES = {
    "its own module": ("CALLS: list[int] = []\n\n\n", "CALLS"),
    "another module of the recipe": (
        "from . import rollouts as shared\n\n\n",
        "shared.__dict__.setdefault('calls', [])",
    ),
    "torch itself": ("", "torch.__dict__.setdefault('calls', [])"),
}


@pytest.mark.parametrize("memory", MEMORIES)
def test_memory_between_calls_ends_the_run(run_testbed: RunTestbed, memory: str) -> None:
    """A second process, which has no memory of the first call, answers the second call."""
    definition, calls = MEMORIES[memory]
    remembering = (
        f"    calls = {calls}\n    calls.append(1)\n    advantages = advantages + len(calls) * response_mask\n"
    )
    with pytest.raises(RunFailed, match=sentences.OTHER_NUMBERS):
        run_testbed((FUNCTION, definition + FUNCTION), (ADVANTAGES, remembering + ADVANTAGES))


def test_random_draws_of_a_candidate_do_not_count_as_memory(run_testbed: RunTestbed) -> None:
    """Both processes get the same seed."""
    run_testbed((ADVANTAGES, "    advantages = advantages + torch.rand(()) * response_mask\n" + ADVANTAGES))


def test_a_regime_gives_the_same_figures_alone_and_among_others(run_testbed: RunTestbed, tiny: Protocol) -> None:
    def run(*regimes: str) -> Run:
        data = tiny.model_dump(mode="json")
        data["suites"] = dict.fromkeys(regimes, 1.0)
        data["settings"]["regimes"] = {name: tiny.settings["regimes"][name] for name in regimes}
        return run_testbed(protocol=Protocol.model_validate(data))

    together = run("composite", "accuracy")
    for name in ("composite", "accuracy"):
        alone = run(name)
        assert {series: values for series, values in together.series.items() if series.startswith(name)} == alone.series
        assert [point[name] for point in together.curve] == [point[name] for point in alone.curve]
        assert together.values[name] == alone.values[name]
        assert together.details[name] == alone.details[name]


def test_the_boundary_changes_no_figure(run_testbed: RunTestbed) -> None:
    drawing = (ADVANTAGES, "    advantages = advantages + torch.randn(advantages.shape) * response_mask\n" + ADVANTAGES)
    behind, without = run_testbed(drawing), run_testbed(drawing, contained=Containment(trusted=True))
    for figures in ("values", "details", "series", "curve"):
        assert getattr(behind, figures) == getattr(without, figures)
    assert behind.isolation is not None
    assert not behind.isolation.trusted


def test_confirmation_seeds_are_evaluated_on_the_confirmation_side(
    tiny: Protocol, recipe: Mapping[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Protocol.model_validate(tiny.model_dump(mode="json") | {"seeds": [1, 3], "confirmation_seeds": [0]})
    common = {"settings": parse_settings(protocol, "tiny.yaml").model_dump(mode="json"), "device": "cpu"}
    backend, never = TestbedBackend(), threading.Event()
    # Seed 5 is in neither list: other seeds are not evaluated on the confirmation side.
    for seed, side in ((0, Split.CONFIRMATION), (1, Split.SELECTION), (5, Split.SELECTION)):
        job = Job("grpo", recipe, protocol, seed, tmp_path / str(seed), containment=containment())
        job.scratch.mkdir()
        trained = backend.train(job, sandbox, lambda progress: None, never)
        found = backend.evaluate(job, trained, WHOLE, sandbox, lambda progress: None, never).data["points"]
        with monkeypatch.context() as patch:
            patch.chdir(trained.weights)
            expected = {
                split: evaluate({**common, "seed": seed, "split": split.value}, lambda message: None)
                for split in (Split.SELECTION, Split.CONFIRMATION)
            }
        assert [split for split in expected if expected[split]["points"] == found] == [side]


@pytest.mark.parametrize(
    ("line", "before", "reason"),
    [
        (LOSS, "    loss = loss * float('nan')\n", "loss is NaN at step 1 of regime composite"),
        (LOSS, "    loss = (log_prob - 1.0).abs().sum() * float('inf')\n", "loss is infinite at step 1"),
        (LOSS, "    loss = (log_prob * 0).sqrt().sum()\n", "gradient is NaN at step 1"),
        (LOSS, "    loss = log_prob\n", "policy_loss must return a scalar loss, it returned a tensor of shape (16, "),
        (LOSS, "    loss = torch.tensor(1.0)\n", "does not depend on log_prob at step 1"),
        (
            LOSS,
            "    return loss\n",
            "must return (loss, metrics), it returned a tensor of shape () and type ",
        ),
        (ADVANTAGES, "    advantages = advantages / 0\n", "advantage is NaN at step 1"),
        (
            ADVANTAGES,
            "    advantages = advantages[:, :1]\n",
            "returned advantages of shape (32, 1) and type torch.float32, not",
        ),
        (
            ADVANTAGES,
            "    return advantages\n",
            "must return (advantages, returns), it returned a tensor of shape (32",
        ),
        (
            SIGNAL,
            "    raise ValueError('no\\nway')\n",
            "compute_advantages raised ValueError: no way (algorithm.py line 29, in ",
        ),
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
    assert line not in (LOSS, ADVANTAGES, SIGNAL) or caught.value.reason.endswith(" at step 1 of regime composite")


def test_cancellation_stops_a_run(run_testbed: RunTestbed) -> None:
    cancelled = threading.Event()
    with pytest.raises(Cancelled):
        run_testbed(on_progress=lambda progress: cancelled.set(), cancelled=cancelled)


def test_preparing_trains_each_world_once(tiny: Protocol, sandbox: Sandbox) -> None:
    settings = parse_settings(tiny, "tiny.yaml")
    TestbedBackend().prepare(tiny, sandbox, lambda progress: None, workers=2)
    # Both regimes begin with the same base policies.
    files = list(base_policies(settings))
    assert len(files) == len(settings.regimes["composite"].task.worlds) == 2
    first = [file.stat().st_mtime_ns for file in files]
    reports: list[Progress] = []
    TestbedBackend().prepare(tiny, sandbox, reports.append, workers=2)
    assert [file.stat().st_mtime_ns for file in files] == first
    assert reports == []


def test_two_concurrent_runs_train_a_world_once(
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
    files = list(base_policies(settings))
    finished = [one for report in reports for one in report if one.done % (one.total // 2) == 0]
    assert len(finished) == len(files)
    folder = files[0].parent
    assert len(list(folder.glob("*.pt"))) == 2
    assert [path for path in folder.iterdir() if path.is_dir()] == []


def test_other_warm_start_settings_give_another_base_policy(tiny: Protocol) -> None:
    settings = parse_settings(tiny, "tiny.yaml").regimes["composite"]
    warm_start = settings.warm_start.model_copy(update={"steps": 7})
    training = settings.training.model_copy(update={"steps": 7})
    file = cached_file(settings, 7)
    assert cached_file(settings.model_copy(update={"warm_start": warm_start}), 7) != file
    assert cached_file(settings, 8) != file
    assert cached_file(settings.model_copy(update={"training": training}), 7) == file
    assert isinstance(settings.task, ArithmeticChainSettings)
    for own, same in (({"training_mix": {"chain-1": 1.0}}, True), ({"idle_tokens": 1.0}, False)):
        task = settings.task.model_copy(update=own)
        assert (cached_file(settings.model_copy(update={"task": task}), 7) == file) is same, own


@pytest.mark.parametrize("damage", ["missing tensor", "wrong shape", "not finite", "not tensors", "code"])
def test_the_evaluator_refuses_invalid_weights(
    tiny: Protocol, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    settings = parse_settings(tiny, "tiny.yaml")
    regime = settings.regimes["accuracy"]
    TestbedBackend().prepare(tiny, sandbox, lambda progress: None, workers=2)
    weights = load_policy(regime, build_task(regime, 7), cached_file(regime, 7)).state_dict()
    for step in regime.evaluation_steps():
        torch.save(weights, tmp_path / weights_file("accuracy", step))
    for step in settings.regimes["composite"].evaluation_steps():
        torch.save(weights, tmp_path / weights_file("composite", step))
    monkeypatch.chdir(tmp_path)
    arguments = {"settings": settings.model_dump(mode="json"), "device": "cpu", "seed": 0, "split": "selection"}
    assert set(evaluate(arguments, lambda message: None)["points"]) == {"composite", "accuracy"}
    if damage == "missing tensor":
        del weights["head.weight"]
    elif damage == "wrong shape":
        weights["head.weight"] = weights["head.weight"][:-1]
    elif damage == "not finite":
        weights["norm.weight"] = weights["norm.weight"] * float("nan")
    content = {"not tensors": 3, "code": threading.Thread}.get(damage, weights)
    torch.save(content, weights_file("accuracy", 1))
    answer = evaluate(arguments, lambda message: None)
    assert answer["failure"].startswith("cannot read the policy after step 1 of regime accuracy: ")
