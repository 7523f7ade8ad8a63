from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import yaml

from poise_git.errors import SettingsError
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.settings import (
    ArithmeticChainSettings,
    ReasoningGymSettings,
    TestbedSettings,
    parse_settings,
)
from poise_git.pipeline.protocol import Protocol

SHARED: dict[str, Any] = {
    "revision": 2,
    "task": {"name": "arithmetic-chain", "worlds": [7], "training_mix": {"chain-1": 1.0}, "known": {"sums": 0.6}},
    "warm_start": {
        "demonstrations": 9, "strength": 0.3, "steps": 8, "ema_decay": 0.9, "batch": 4, "learning_rate": 0.01,
    },
    "reward": {"valid_wrong": 0.4},
    "training": {"steps": 10, "prompts": 4, "group_size": 8, "minibatches": 2, "learning_rate": 0.001},
    "evaluation": {
        "points": 2, "suites": ["chain-2"], "problems": 8, "samples": 2, "final_samples": 4, "pass_at": [2, 4],
    },
}  # fmt: skip


def settings_with(**regimes: Any) -> TestbedSettings:
    """Parse the shared sections with these regimes."""
    return parse_settings(protocol_with(SHARED | {"regimes": regimes}), "x.yaml")


def protocol_with(settings: dict[str, Any]) -> Protocol:
    return Protocol(
        name="x",
        backend="testbed",
        seeds=(0,),
        suites=dict.fromkeys(settings["regimes"], 1.0),
        estimator="final",
        settings=settings,
    )


def changed(protocol: Protocol, path: str, value: Any) -> Protocol:
    data = yaml.safe_load(yaml.safe_dump(protocol.model_dump(mode="json")))
    *parents, last = path.split(".")
    place = data
    for part in parents:
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
    place[last] = value
    return Protocol.model_validate(data)


def test_the_shipped_protocol_and_those_of_tests_are_valid(shipped: Protocol, short: Protocol, tiny: Protocol) -> None:
    for protocol in (shipped, short, tiny):
        TestbedBackend().validate(protocol, "x.yaml")


def test_a_regime_overrides_only_the_settings_that_it_states() -> None:
    """Compare with the regime written out in full, section by section."""
    own = {
        "training": {"steps": 6, "epochs": 2},
        "reward": {"valid_wrong": 0.1},
        "task": {"idle_tokens": 3, "known": {"tags": 0.9}},
    }
    settings = settings_with(plain=None, other=own)
    plain, other = settings.regimes["plain"], settings.regimes["other"]
    assert plain == settings_with(alone={}).regimes["alone"], "the settings of one regime do not affect another"
    expected = plain.model_dump(mode="json")
    expected["training"] |= {"steps": 6, "epochs": 2}
    expected["reward"]["valid_wrong"] = 0.1
    expected["task"]["idle_tokens"] = 3.0
    expected["task"]["known"]["tags"] = 0.9
    assert other.model_dump(mode="json") == expected
    assert expected["task"]["known"]["sums"] == 0.6
    assert settings_with(other=own, plain={}).regimes["plain"] == plain


def test_a_mix_is_replaced_as_a_whole() -> None:
    mix = {"chain-3": 0.5, "chain-4": 0.5}
    settings = settings_with(plain={}, other={"task": {"training_mix": mix}})
    tasks = [regime.task for regime in settings.regimes.values()]
    assert [task.training_mix for task in tasks if isinstance(task, ArithmeticChainSettings)] == [{"chain-1": 1.0}, mix]


def test_the_task_and_the_config_of_a_data_set_are_replaced_as_a_whole() -> None:
    gym = {"name": "reasoning-gym", "dataset": "chain_sum", "config": {"min_terms": 2, "max_terms": 3}}
    mixed = settings_with(plain={}, gym={"task": gym})
    task = mixed.regimes["gym"].task
    assert isinstance(task, ReasoningGymSettings)
    # The arithmetic worlds do not apply to the data set.
    assert task.worlds == (0,)
    regimes = {"plain": {}, "other": {"task": {"config": {"max_digits": 1}}}}
    gyms = parse_settings(protocol_with(SHARED | {"task": gym, "regimes": regimes}), "x.yaml").regimes
    configs = [regime.task.config for regime in gyms.values() if isinstance(regime.task, ReasoningGymSettings)]
    assert configs == [gym["config"], {"max_digits": 1}]


def test_settings_reach_the_child_unchanged() -> None:
    settings = settings_with(plain={}, other={"training": {"steps": 6}})
    assert TestbedSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(("steps", "points"), [(10, 2), (10, 3), (7, 5), (7, 7), (50, 10), (20, 6), (1, 1)])
def test_evaluation_points_are_evenly_spaced_and_end_with_training(steps: int, points: int) -> None:
    own = {"training": {"steps": steps}, "evaluation": {"points": points}}
    found = settings_with(one=own).regimes["one"].evaluation_steps()
    assert (found[0], found[-1], len(found)) == (0, steps, points + 1)
    gaps = [after - before for before, after in pairwise(found)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_a_regime_can_be_scored_on_its_last_quarter() -> None:
    own = {"training": {"steps": 80}, "evaluation": {"points": 4, "scored_from": 0.75}}
    assert settings_with(one=own).regimes["one"].evaluation_steps() == (0, 65, 70, 75, 80)


def test_a_regimes_own_figure_replaces_the_shared_one() -> None:
    regimes = settings_with(plain={}, other={"evaluation": {"figure": {"pass@1": 2}}}).regimes
    assert {name: regime.evaluation.weights for name, regime in regimes.items()} == {
        "plain": {"greedy": 0.5, "pass@2": 0.5},
        "other": {"pass@1": 1.0},
    }


@pytest.mark.parametrize(
    ("path", "value", "field", "what"),
    [
        ("estimator", "best-of-all", "estimator", "learning-curve-area"),
        ("suites", {"chain-2": 1.0}, "suites", "accuracy, composite"),
        ("suites", {"composite": 1.0}, "suites", "accuracy, composite"),
        ("suites", {"composite": 1.0, "accuracy": 1.0, "sparse": 1.0}, "suites", "no other name"),
        ("settings.trainings", {}, "settings.trainings", "unknown field"),
        ("settings.training.stepz", 3, "settings.training.stepz", "unknown field"),
        ("settings.training.steps", 0, "settings.training.steps", "greater than or equal to 1"),
        ("settings.training.minibatches", 3, "settings.training", "not a multiple of minibatches"),
        ("settings.training.loss_aggregation", "mean", "settings.training.loss_aggregation", "token-mean"),
        ("settings.evaluation.pass_at", [2, 16], "settings.evaluation", "final_samples"),
        ("settings.evaluation.every", 5, "settings.evaluation.every", "unknown field"),
        ("settings.evaluation.suites", ["chain-1"], "settings.evaluation.suites", "chain-2, chain-3, chain-4"),
        ("settings.evaluation.points", 4, "settings.regimes.accuracy", "4 evaluation points need more than 2 steps"),
        (
            "settings.evaluation.scored_from",
            0.9,
            "settings.regimes.accuracy",
            "2 evaluation points need more than 2 steps",
        ),
        ("settings.evaluation.scored_from", 1.0, "settings.evaluation.scored_from", "less than 1"),
        ("settings.evaluation.figure", {"pass@8": 1}, "settings.evaluation", "pass@8 needs as many samples, not 2"),
        ("settings.evaluation.figure", {"greedy": 0}, "settings.evaluation", "sum to a positive, finite"),
        (
            "settings.evaluation.figure",
            {"greedy": 1e308, "pass@1": 1e308},
            "settings.evaluation",
            "sum to a positive, finite",
        ),
        ("settings.evaluation.figure", {"greedy": -1}, "settings.evaluation.figure.greedy", "equal to 0"),
        ("settings.evaluation.figure", {"best": 1}, "settings.evaluation.figure.best.[key]", "pattern"),
        ("settings.evaluation.figure", {}, "settings.evaluation.figure", "at least 1"),
        ("settings.evaluation.temperature", 0.0, "settings.evaluation.temperature", "greater than or equal to 0.05"),
        ("settings.evaluation.temperature", float("nan"), "settings.evaluation.temperature", "number"),
        ("settings.evaluation.final_problems", 9, "settings.evaluation", "more than problems 8"),
        ("settings.training.learning_rate", float("inf"), "settings.training.learning_rate", "finite"),
        ("settings.task.idle_tokens", 1e9, "settings.task.idle_tokens", "less than or equal to 64"),
        ("settings.task.training_mix", {"chain-1": float("inf")}, "settings.task.training_mix.chain-1", "finite"),
        ("settings.training.lag", -1, "settings.training.lag", "equal to 0"),
        ("settings.task.strategies", {"count": 7}, "settings.task.strategies.count", "less than or equal to 6"),
        ("settings.policy.heads", 3, "settings.policy", "not a multiple of heads"),
        ("settings.task.name", "chess", "settings.task", "arithmetic-chain"),
        ("settings.task.worlds", [], "settings.task.worlds", "at least 1"),
        ("settings.task.worlds", [7, -1], "settings.task.worlds.1", "greater than or equal to 0"),
        ("settings.task.training_mix", {"chain-7": 1.0}, "settings.task.training_mix", "chain-7"),
        ("settings.task.training_mix", {"chain-1": 0.0}, "settings.task.training_mix", "positive"),
        ("settings.task.response_cap", 65, "settings.task.response_cap", "less than or equal to 64"),
        ("settings.task.known", {"sum": 0.5}, "settings.task.known.sum", "unknown field"),
        ("settings.reward.valid_wrong", 1.0, "settings.reward.valid_wrong", "less than 1"),
        ("settings.warm_start", {"steps": 5}, "settings.warm_start.demonstrations", "required"),
        ("settings.regimes", {}, "settings.regimes", "at least 1"),
        ("settings.regimes", [], "settings.regimes", "dictionary"),
        ("settings.regimes.composite", 3, "settings.regimes.composite", "dictionary"),
        ("settings.regimes.Big", {}, "settings.regimes.Big.[key]", "pattern"),
        ("settings.regimes.accuracy.name", "x", "settings.regimes.accuracy.name", "unknown field"),
        ("settings.regimes.accuracy.training.stepz", 3, "settings.regimes.accuracy.training.stepz", "unknown field"),
        ("settings.regimes.accuracy.training.steps", 0, "settings.regimes.accuracy.training.steps", "equal to 1"),
        ("settings.regimes.accuracy.training.minibatches", 3, "settings.regimes.accuracy.training", "minibatches"),
        ("settings.regimes.accuracy.reward", {"valid_wrong": 1}, "settings.regimes.accuracy.reward.valid_wrong", "1"),
        ("settings.regimes.accuracy.task.worlds", [], "settings.regimes.accuracy.task.worlds", "at least 1"),
        ("settings.regimes.accuracy.task.name", "go", "settings.regimes.accuracy.task", "arithmetic-chain"),
        ("settings.regimes.accuracy.task.known.tags", 2, "settings.regimes.accuracy.task.known.tags", "less than 1"),
        (
            "settings.regimes.accuracy.evaluation.suites",
            ["chain-9"],
            "settings.regimes.accuracy.evaluation.suites",
            "chain-9",
        ),
        ("settings.regimes.accuracy.evaluation.points", 1, "settings", "evaluation.points must be the same"),
    ],
)
def test_a_wrong_field_is_named_as_in_the_file(tiny: Protocol, path: str, value: Any, field: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TestbedBackend().validate(changed(tiny, path, value), "protocols/tiny.yaml")
    assert caught.value.field == field
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_regime_may_have_the_name_of_a_task() -> None:
    named = {"arithmetic-chain": {"task": {"worlds": []}}}
    with pytest.raises(SettingsError) as caught:
        parse_settings(protocol_with(SHARED | {"regimes": named}), "x.yaml")
    assert caught.value.field == "settings.regimes.arithmetic-chain.task.worlds"
