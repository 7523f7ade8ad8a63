"""The strength of base policies when training begins."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

from poise_git.errors import RunFailed
from poise_git.pipeline.backends.testbed.base_policies import cached_file, ensure_base_policies, ensure_base_policy
from poise_git.pipeline.backends.testbed.evaluation import figures, problems_of_suites
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, TestbedSettings, parse_settings
from poise_git.pipeline.backends.testbed.task import Split, Task
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import load_policy
from poise_git.pipeline.backends.testbed.warm_start import TooWeak, warm_start
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox
from tests import sentences
from tests.pipeline.backends.testbed.conftest import ROOT, read_protocol

Train = Callable[..., tuple[Policy, list[Mapping[str, Any]]]]


@pytest.fixture
def train(tiny: Protocol) -> Train:
    settings = parse_settings(tiny, "tiny.yaml").regimes["composite"]

    def train(**changes: float | None) -> tuple[Policy, list[Mapping[str, Any]]]:
        own = settings.model_copy(update={"warm_start": settings.warm_start.model_copy(update=changes)})
        sent: list[Mapping[str, Any]] = []
        return warm_start(own, build_task(own, 7), 7, sent.append), sent

    return train


def distance(one: Policy, other: Policy) -> float:
    weights, others = (torch.nn.utils.parameters_to_vector(policy.parameters()).detach() for policy in (one, other))
    return float((weights - others).norm())


@pytest.mark.slow
def test_a_warm_start_stops_as_soon_as_the_policy_is_strong_enough(train: Train) -> None:
    _, sent = train(strength=0.0, steps=60)
    assert [message["done"] for message in sent] == [10, 60]


@pytest.mark.slow
def test_a_warm_start_without_a_strength_takes_all_steps(train: Train) -> None:
    _, sent = train(strength=None, steps=60)
    assert [message["done"] for message in sent] == [10, 20, 30, 40, 50, 60]


@pytest.mark.slow
def test_a_base_policy_that_stays_too_weak_is_an_error(train: Train, tiny: Protocol, sandbox: Sandbox) -> None:
    with pytest.raises(TooWeak):
        train(strength=1.0, steps=60)
    own = parse_settings(tiny, "tiny.yaml").regimes["composite"]
    weak = own.model_copy(update={"warm_start": own.warm_start.model_copy(update={"strength": 0.9, "steps": 30})})
    with pytest.raises(RunFailed) as failed:
        ensure_base_policy(weak, 7, sandbox, lambda steps, loss: None)
    assert re.fullmatch(sentences.TOO_WEAK.format(place="warm start"), str(failed.value))
    assert not cached_file(weak, 7).exists()
    both = TestbedSettings(revision=1, regimes={"strong": own, "weak": weak})
    with pytest.raises(RunFailed) as failed:
        ensure_base_policies(both, sandbox, lambda file, steps, loss: None, workers=1)
    assert re.fullmatch(sentences.TOO_WEAK.format(place="warm start of regime weak"), str(failed.value))


@pytest.mark.slow
def test_a_settling_policy_ends_nearer_to_what_its_demonstrators_know(train: Train) -> None:
    """The last steps at a falling rate remove the noise of the last steps at the full rate."""
    rough, sent = train(strength=None, steps=60, settling_steps=0)
    settled, longer = train(strength=None, steps=60, settling_steps=200)
    assert longer[-1]["done"] == 260
    assert longer[-1]["loss"] < sent[-1]["loss"]
    assert distance(rough, settled) > 0.1


@pytest.mark.slow
def test_the_base_policy_is_the_average_of_the_weights(train: Train) -> None:
    first, _ = train(strength=None, steps=1, ema_decay=0.5)
    last, _ = train(strength=None, steps=20, ema_decay=1e-6)
    slow, _ = train(strength=None, steps=20, ema_decay=1 - 1e-6)
    between, _ = train(strength=None, steps=20, ema_decay=0.9)
    assert distance(slow, first) < 1e-3 < 0.1 < distance(last, first)
    assert 0.1 < distance(between, first) < distance(last, first)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell's background jobs ignore the signal, and their children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_warm_start(tiny: Protocol, sandbox: Sandbox) -> None:
    """The warm start would take hours, but ends within the time limit of a test."""
    settings = parse_settings(tiny, "tiny.yaml")
    own = settings.regimes["composite"]
    endless = own.model_copy(update={"warm_start": own.warm_start.model_copy(update={"steps": 10**6, "strength": 1.0})})
    with pytest.raises(KeyboardInterrupt):
        ensure_base_policies(
            settings.model_copy(update={"regimes": {"composite": endless}}),
            sandbox,
            lambda *_: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT),
            workers=1,
        )
    assert not cached_file(endless, endless.task.worlds[0]).exists()


@pytest.mark.slow
def test_the_base_policy_is_as_strong_as_the_protocol_says(
    settings: RegimeSettings, task: Task, sandbox: Sandbox
) -> None:
    """Check demonstrated and held-out prompts: the policy has not memorized single prompts."""
    wanted = settings.warm_start.strength
    file = ensure_base_policy(settings, settings.task.worlds[0], sandbox, lambda steps, loss: None)
    policy = load_policy(settings, task, file)
    for split in Split:
        problems = problems_of_suites(task, settings.evaluation.suites, split, 1500, seed=5)
        found = figures(policy, task, problems, settings.evaluation, seed=5)["value"]
        assert found == pytest.approx(wanted, rel=0.25), split


def test_the_large_policy_has_ten_times_the_weights(shipped: Protocol) -> None:
    large = parse_settings(read_protocol(ROOT / "recipe_template" / "protocols" / "large.yaml"), "large.yaml")
    own = parse_settings(shipped, "testbed.yaml").regimes["mild"]
    vocabulary = build_task(own, 8).vocabulary
    sizes = [
        sum(weight.numel() for weight in Policy(of.policy, vocabulary, torch.Generator()).parameters())
        for of in (large.regimes["mild"], own)
    ]
    assert sizes[0] / sizes[1] == pytest.approx(10.0, rel=0.05)
    assert large.regimes["mild"].training.model_copy(update={"learning_rate": 3e-4}) == own.training
