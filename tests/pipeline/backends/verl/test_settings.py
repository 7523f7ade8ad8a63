from __future__ import annotations

from typing import Any

import pytest

from poise_git.errors import SettingsError
from poise_git.pipeline.backends.verl.estimate import estimate_cost
from poise_git.pipeline.backends.verl.settings import parse_settings
from poise_git.pipeline.protocol import Protocol
from tests import sentences
from tests.pipeline.backends.verl.conftest import changed, shipped


def test_the_shipped_protocols_are_valid(protocol: Protocol) -> None:
    assert protocol.backend == "verl"
    assert set(parse_settings(protocol, "x.yaml").evaluation.suites) == set(protocol.suites)


def test_the_protocol_paper_has_the_numbers_of_the_paper() -> None:
    protocol = shipped("paper")
    settings = parse_settings(protocol, "paper.yaml")
    training = settings.training
    assert settings.model.hub is not None
    assert settings.model.hub.repository == "Qwen/Qwen2.5-Math-1.5B"
    assert (settings.data.rows, training.epochs, training.prompts, training.group_size) == (5000, 8, 256, 8)
    assert (settings.data.max_prompt_tokens, training.max_response_tokens, training.learning_rate) == (1024, 3000, 1e-6)
    assert (settings.hardware.gpus, settings.evaluation.max_tokens) == (8, 4096)
    assert settings.steps == 8 * (5000 // 256)
    assert protocol.suite_weights == pytest.approx(
        {"aime24": 0.2, "aime25": 0.2, "amc": 0.15, "math500": 0.15, "minerva": 0.15, "olympiadbench": 0.15}
    )
    suites = settings.evaluation.suites
    for name in ("aime24", "aime25", "amc"):
        assert (suites[name].metric, suites[name].samples) == ("pass@32", 32)
    for name in ("math500", "minerva", "olympiadbench"):
        assert (suites[name].metric, suites[name].temperature) == ("acc@1", 0.0)


@pytest.mark.parametrize(
    ("path", "value", "field", "what"),
    [
        ("estimator", "learning-curve-area", "estimator", "known: final"),
        ("suites", {"chess": 1.0}, "suites.chess", "settings.evaluation.suites"),
        ("suites", {"math500": 1.0}, "settings.evaluation.suites.amc", "no weight"),
        ("settings.training.stepz", 3, "settings.training.stepz", "unknown field"),
        ("settings.training.epochs", 2, "settings.training", "exactly one of steps, epochs"),
        ("settings.training.minibatch_prompts", 7, "settings.training", "not a multiple of minibatch_prompts"),
        ("settings.training.loss_aggregation", "mean", "settings.training.loss_aggregation", "token-mean"),
        ("settings.model.path", "/models/m", "settings.model", "exactly one of hub, path, generator"),
        ("settings.model.hub.revision", "main", "settings.model.hub.revision", "pattern"),
        ("settings.data.prompt", "Solve it.", "settings.data", "{question}"),
        ("settings.data.rows", 10, "settings", "does not fill one step"),
        ("settings.hardware.device", "cpu", "settings.hardware", "must be 0 with device cpu"),
        ("settings.hardware.gpus", 3, "settings", sentences.DEVICES_UNEVEN.format(devices=3)),
        ("settings.hardware.tensor_parallel", 2, "settings.hardware", "not a multiple of tensor_parallel"),
        ("settings.hardware.micro_batch_tokens", 1000, "settings", sentences.SEQUENCE_TOO_LONG.format(tokens=3072)),
        ("settings.evaluation.shards", {"a": ["chess"]}, "settings.evaluation", "unknown suite chess"),
        ("settings.evaluation.suites.amc.samples", 4, "settings.evaluation.suites.amc", "at least 8 samples"),
        ("settings.early_stops.entropy_below", 0.1, "settings.early_stops.entropy_below", "dictionary"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, field: str, what: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(changed(shipped("one-gpu"), path, value), "protocols/x.yaml")
    assert caught.value.field == field
    assert what in caught.value.what
    assert "\n" not in str(caught.value)


def test_shards_hold_every_suite_once() -> None:
    assert parse_settings(shipped("one-gpu"), "x").evaluation.suites_by_shard() == {"all": ("math500", "amc")}
    partly = changed(shipped("one-gpu"), "settings.evaluation.shards", {"hard": ["amc"]})
    assert parse_settings(partly, "x").evaluation.suites_by_shard() == {"hard": ("amc",), "rest": ("math500",)}
    paper = parse_settings(shipped("paper"), "x").evaluation.suites_by_shard()
    assert sorted(suite for suites in paper.values() for suite in suites) == sorted(shipped("paper").suites)


def test_the_protocol_paper_has_the_weights_of_the_paper() -> None:
    weights = shipped("paper").suite_weights
    assert weights == {
        "aime24": 0.2, "aime25": 0.2, "amc": 0.15, "math500": 0.15, "minerva": 0.15, "olympiadbench": 0.15
    }  # fmt: skip


def test_every_setting_is_in_the_hash() -> None:
    protocol = shipped("one-gpu")
    assert changed(protocol, "settings.hardware.micro_batch_tokens", 24576).hash != protocol.hash


def test_an_estimate_and_the_settings_count_the_same_steps(protocol: Protocol) -> None:
    steps = parse_settings(protocol, "x").steps
    (counted,) = [each for each in estimate_cost(protocol, "x").quantities if each.name == "training steps"]
    assert (counted.low, counted.high) == (steps, steps)
    twice = changed(protocol, "settings.training.prompts", 2 * parse_settings(protocol, "x").training.prompts)
    sampled = {each.name: each.high for each in estimate_cost(twice, "x").quantities}
    before = {each.name: each.high for each in estimate_cost(protocol, "x").quantities}
    epochs = parse_settings(protocol, "x").training.epochs
    assert sampled["rollouts"] == pytest.approx(before["rollouts"] * (1 if epochs else 2), rel=0.06)


def test_tokens_are_counted_for_a_model_of_unknown_size() -> None:
    nameless = changed(shipped("one-gpu"), "settings.model.hub.repository", "someone/nameless")
    estimate = estimate_cost(nameless, "x")
    assert estimate.costs == ()
    assert "size of the model is not known" in estimate.notes[0]
    assert any(each.name == "sampled tokens" for each in estimate.quantities)
