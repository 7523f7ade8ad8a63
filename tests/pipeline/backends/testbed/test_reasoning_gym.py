from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from poise_git.errors import SettingsError
from poise_git.executors.stages import carry_out
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.reasoning_gym import END, MARKER, PAD, ReasoningGym, is_held_out
from poise_git.pipeline.backends.testbed.settings import ReasoningGymSettings
from poise_git.pipeline.interface import Job
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox

CONFIG = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
TASK = {"name": "reasoning-gym", "dataset": "chain_sum", "config": CONFIG}


def gym_protocol(tiny: Protocol, **task: object) -> Protocol:
    data = tiny.model_dump(mode="json")
    data["suites"] = {"chain_sum": 1.0}
    data["settings"]["task"] = TASK | task
    return Protocol.model_validate(data)


@pytest.fixture
def sums() -> ReasoningGym:
    pytest.importorskip("reasoning_gym")
    return ReasoningGym(0, ReasoningGymSettings(name="reasoning-gym", dataset="chain_sum", config=CONFIG))


def test_held_out_questions_are_not_trained_on(sums: ReasoningGym, generator: np.random.Generator) -> None:
    held_out = {item["question"] for item in sums.held_out_problems("chain_sum", 100, generator).solutions}
    seen = {item["question"] for item in sums.training_problems(500, generator).solutions}
    assert all(map(is_held_out, held_out))
    assert not held_out & seen
    prompts = {tuple(row) for row in sums.held_out_problems("chain_sum", 100, generator).prompts.tolist()}
    assert not prompts & {tuple(row) for row in sums.demonstrations(500, generator)[0].tolist()}


def test_what_all_questions_share_is_left_out_of_the_prompt(sums: ReasoningGym) -> None:
    assert sums.vocabulary.prompt_length <= len("9 + 9 =?") + 1


def test_demonstrations_are_right_and_well_formed_as_often_as_stated(
    sums: ReasoningGym, generator: np.random.Generator
) -> None:
    n = 2000
    state = np.random.default_rng(5)
    prompts, responses = sums.demonstrations(n, state)
    problems = sums.training_problems(n, np.random.default_rng(5))
    assert torch.equal(prompts, problems.prompts)
    lengths = (responses != PAD).sum(1)
    valid, correct = sums.verify(problems, responses, lengths)
    assert valid.mean() == pytest.approx(0.7, abs=0.04)
    # Another question's answer is right by chance now and then.
    assert correct[valid].mean() == pytest.approx(0.5, abs=0.08)


def test_the_data_sets_own_verifier_decides(sums: ReasoningGym, generator: np.random.Generator) -> None:
    problems = sums.held_out_problems("chain_sum", 1, generator)
    answer = sums._encode(problems.solutions[0]["answer"])
    responses = [[MARKER, *answer, END], [MARKER, *answer, answer[-1], END], [*answer, END], [MARKER, END], [END]]
    longest = max(map(len, responses))
    padded = torch.tensor([row + [PAD] * (longest - len(row)) for row in responses])
    valid, correct = sums.verify(problems.repeat(5), padded, torch.tensor(list(map(len, responses))))
    assert valid.tolist() == [True, True, False, False, False]
    assert correct.tolist() == [True, False, False, False, False]


@pytest.mark.slow
def test_a_run_end_to_end(tiny: Protocol, recipe: Mapping[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    protocol = gym_protocol(tiny)
    TestbedBackend().validate(protocol, "gym.yaml")
    job = Job("grpo", recipe, protocol, 0, tmp_path)
    run = carry_out(TestbedBackend(), job, sandbox, lambda progress: None, threading.Event())
    assert run.values.keys() == {"chain_sum"}
    # The tiny base policy already has the form, which is a marker, some digits and the end.
    assert max(run.series["valid_rate"]) > 0.2


@pytest.mark.parametrize(
    ("task", "what"),
    [({"dataset": "no_such_set"}, "no_such_set"), ({"config": {"min_terms": -1}}, "chain_sum")],
)
def test_a_wrong_data_set_is_named(tiny: Protocol, task: dict[str, object], what: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(SettingsError, match=what):
        TestbedBackend().validate(gym_protocol(tiny, **task), "gym.yaml")


def test_a_missing_package_is_one_line(tiny: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(SettingsError, match=r"pip install 'poise-git\[tasks\]'$"):
        TestbedBackend().validate(gym_protocol(tiny), "gym.yaml")
