from __future__ import annotations

from typing import Any

import pytest
import yaml

from poise_git.errors import SettingsError
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.protocol import Protocol


def changed(protocol: Protocol, path: str, value: Any) -> Protocol:
    data = yaml.safe_load(yaml.safe_dump(protocol.model_dump(mode="json")))
    *parents, last = path.split(".")
    place = data
    for part in parents:
        place = place[part]
    place[last] = value
    return Protocol.model_validate(data)


def test_the_shipped_and_the_tiny_protocol_are_valid(shipped: Protocol, tiny: Protocol) -> None:
    for protocol in (shipped, tiny):
        TestbedBackend().validate(protocol, "x.yaml")


@pytest.mark.parametrize(
    ("path", "value", "field", "what"),
    [
        ("estimator", "best-of-all", "estimator", "learning-curve-area"),
        ("suites", {"chain-9": 1.0}, "suites", "chain-2, chain-3, chain-4"),
        ("suites", {"chain-1": 1.0}, "suites", "unknown: chain-1"),
        ("settings.training.stepz", 3, "settings.training.stepz", "unknown field"),
        ("settings.training.steps", 0, "settings.training.steps", "greater than or equal to 1"),
        ("settings.training.minibatches", 3, "settings.training", "not a multiple of minibatches"),
        ("settings.training.loss_aggregation", "mean", "settings.training.loss_aggregation", "token-mean"),
        ("settings.evaluation.pass_at", [2, 16], "settings.evaluation", "final_samples"),
        ("settings.policy.heads", 3, "settings.policy", "not a multiple of heads"),
        ("settings.task.name", "chess", "settings.task", "arithmetic-chain"),
        ("settings.task.worlds", [], "settings.task.worlds", "at least 1"),
        ("settings.task.training_mix", {"chain-7": 1.0}, "settings.task.training_mix", "chain-7"),
        ("settings.task.training_mix", {"chain-1": 0.0}, "settings.task.training_mix", "positive"),
        ("settings.reward.valid_wrong", 1.0, "settings.reward.valid_wrong", "less than 1"),
    ],
)
def test_a_wrong_field_is_named(tiny: Protocol, path: str, value: Any, field: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TestbedBackend().validate(changed(tiny, path, value), "protocols/tiny.yaml")
    assert caught.value.field == field
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)
