from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from poise_git.errors import SettingsError
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.reasoning_gym import END, MARKER, PAD, ReasoningGym, split_of
from poise_git.pipeline.backends.testbed.settings import ReasoningGymSettings, parse_settings
from poise_git.pipeline.backends.testbed.task import Split
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.executors.stages import carry_out
from poise_git.pipeline.interface import Job
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox
from tests.layers import containment

ROOT = Path(__file__).parents[4]

CONFIG = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
TASK = {"name": "reasoning-gym", "dataset": "chain_sum", "config": CONFIG}


def gym_protocol(tiny: Protocol, **task: object) -> Protocol:
    data = tiny.model_dump(mode="json")
    data["suites"] = {"sums": 1.0}
    data["settings"]["task"] = TASK | task
    data["settings"]["evaluation"]["suites"] = []
    data["settings"]["regimes"] = {"sums": {}}
    return Protocol.model_validate(data)


@pytest.fixture
def sums() -> ReasoningGym:
    pytest.importorskip("reasoning_gym")
    return ReasoningGym(0, ReasoningGymSettings(name="reasoning-gym", dataset="chain_sum", config=CONFIG))


def test_the_splits_share_no_question_and_no_prompt(sums: ReasoningGym, generator: np.random.Generator) -> None:
    """Nearly every question of two digits is drawn: 2 signs, 10 digits each."""
    sides = {
        Split.TRAINING: sums.training_problems(3000, generator),
        Split.SELECTION: sums.suite_problems("chain_sum", Split.SELECTION, 600, generator),
        Split.CONFIRMATION: sums.suite_problems("chain_sum", Split.CONFIRMATION, 600, generator),
    }
    questions, prompts = {}, {}
    for split, problems in sides.items():
        questions[split] = {str(item["question"]) for item in problems.solutions}
        prompts[split] = {tuple(row) for row in problems.prompts.tolist()}
        assert {split_of(question) for question in questions[split]} == {split}
        assert len(prompts[split]) == len(questions[split]) > 5
    for found in (questions, prompts):
        assert sum(map(len, found.values())) == len(set().union(*found.values()))
    shares = [len(questions[split]) / sum(map(len, questions.values())) for split in Split]
    assert shares == pytest.approx([0.75, 0.125, 0.125], abs=0.1)
    demonstrated = {tuple(row) for row in sums.demonstrations(1000, generator)[0].tolist()}
    probed = {tuple(row) for row in sums.suite_problems("chain_sum", Split.TRAINING, 1000, generator).prompts.tolist()}
    held_out = prompts[Split.SELECTION] | prompts[Split.CONFIRMATION]
    assert not held_out & (demonstrated | probed)


def test_text_shared_by_all_questions_is_left_out_of_the_prompt(sums: ReasoningGym) -> None:
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
    # The answer of another question is sometimes right by chance.
    assert correct[valid].mean() == pytest.approx(0.5, abs=0.08)


def test_the_verifier_of_the_data_set_decides(sums: ReasoningGym, generator: np.random.Generator) -> None:
    problems = sums.suite_problems("chain_sum", Split.SELECTION, 1, generator)
    answer = sums._encode(problems.solutions[0]["answer"])
    responses = [[MARKER, *answer, END], [MARKER, *answer, answer[-1], END], [*answer, END], [MARKER, END], [END]]
    longest = max(map(len, responses))
    padded = torch.tensor([row + [PAD] * (longest - len(row)) for row in responses])
    valid, correct = sums.verify(problems.repeat(5), padded, torch.tensor(list(map(len, responses))))
    assert valid.tolist() == [True, True, False, False, False]
    assert correct.tolist() == [True, False, False, False, False]


@pytest.mark.slow
def test_a_run_completes_end_to_end(
    tiny: Protocol, recipe: Mapping[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    pytest.importorskip("reasoning_gym")
    protocol = gym_protocol(tiny)
    TestbedBackend().validate(protocol, "gym.yaml")
    job = Job("grpo", recipe, protocol, 0, tmp_path, containment=containment())
    run = carry_out(TestbedBackend(), job, sandbox, lambda progress: None, threading.Event())
    assert run.values.keys() == {"sums"}
    assert run.details["sums"]["chain_sum"] == run.curve[-1]["sums"]
    # The tiny base policy already has the form, which is a marker, some digits and the end.
    assert max(run.series["sums/valid_rate"]) > 0.2


@pytest.mark.parametrize(
    ("task", "what"),
    [({"dataset": "no_such_set"}, "no_such_set"), ({"config": {"min_terms": -1}}, "chain_sum")],
)
def test_a_wrong_data_set_is_named(tiny: Protocol, task: dict[str, object], what: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(SettingsError, match=what):
        TestbedBackend().validate(gym_protocol(tiny, **task), "gym.yaml")


def test_a_regime_can_have_its_own_task(tiny: Protocol) -> None:
    pytest.importorskip("reasoning_gym")
    data = tiny.model_dump(mode="json")
    data["settings"]["regimes"]["accuracy"] |= {"task": TASK, "evaluation": {"suites": []}}
    TestbedBackend().validate(Protocol.model_validate(data), "mixed.yaml")
    data["settings"]["regimes"]["accuracy"]["task"] = TASK | {"dataset": "no_such_set"}
    with pytest.raises(SettingsError, match="no_such_set") as caught:
        TestbedBackend().validate(Protocol.model_validate(data), "mixed.yaml")
    assert caught.value.field == "settings.regimes.accuracy.task"


def test_the_comment_in_the_shipped_protocol_makes_a_valid_task(shipped: Protocol) -> None:
    """Replace the lines of the file by the three lines of the comment, as the comment states."""
    pytest.importorskip("reasoning_gym")
    text = (ROOT / "recipe_template/protocols/testbed.yaml").read_text(encoding="utf-8")
    lines = yaml.safe_load("\n".join(re.findall(r"^ +#   ((?:suites|task|regimes): .*)$", text, re.MULTILINE)))
    assert set(lines) == {"suites", "task", "regimes"}
    data = shipped.model_dump(mode="json")
    data["suites"] = lines.pop("suites")
    data["settings"] |= lines
    protocol = Protocol.model_validate(data)
    TestbedBackend().validate(protocol, "sums.yaml")
    assert build_task(parse_settings(protocol, "sums.yaml").regimes["sums"], 0).suites == ("chain_sum",)


def test_a_missing_package_is_an_error_of_one_line(tiny: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(SettingsError, match=r"pip install 'poise-git\[tasks\]'$"):
        TestbedBackend().validate(gym_protocol(tiny), "gym.yaml")
