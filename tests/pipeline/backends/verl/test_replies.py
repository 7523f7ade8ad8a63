"""A reply from a sandbox is accepted only if it has the stated form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poise_git.errors import RunFailed
from poise_git.pipeline.backends.verl.preparation import assemble_weights
from poise_git.pipeline.backends.verl.replies import EvaluationReply, TrainingReply, is_the_machines
from poise_git.pipeline.backends.verl.series import SERIES
from poise_git.pipeline.replies import Failure, StepReply, parse
from tests import sentences


@pytest.mark.parametrize(
    "reply",
    [None, [], "x", {}, {"series": None}, {"series": {"kl": 5}}, {"series": {"kl": ["x"]}},
     {"series": {"kl": [float("nan")]}}, {"series": {"kl": [1.0]}, "more": 1}, {"failure": 3}],
)  # fmt: skip
def test_an_invalid_reply_fails_only_the_run(reply: Any) -> None:
    with pytest.raises(RunFailed, match=sentences.INVALID_REPLY):
        parse(reply, TrainingReply, "train")


@pytest.mark.parametrize(("missing", "length"), [("kl", 3), (None, 2)])
def test_a_trajectory_has_every_series_and_every_step(missing: str | None, length: int) -> None:
    whole = parse({"series": {name: [0.5] * 3 for name in SERIES}}, TrainingReply, "train")
    assert isinstance(whole, TrainingReply)
    whole.require_whole(3)
    part = TrainingReply(series={name: (0.5,) * length for name in SERIES if name != missing})
    with pytest.raises(RunFailed, match="whole trajectory"):
        part.require_whole(3)


@pytest.mark.parametrize("message", [{}, {"done": "x"}, {"done": -1}, [], None])
def test_an_invalid_message_fails_the_run(message: Any) -> None:
    with pytest.raises(RunFailed):
        parse(message, StepReply, "train")


def test_the_values_of_a_message_are_its_numbers() -> None:
    step = parse({"done": 3, "reward": 0.5, "odd": [1]}, StepReply, "train")
    assert isinstance(step, StepReply)
    assert step.values == {"reward": 0.5}


def test_a_reason_is_one_printable_line() -> None:
    failure = parse({"failure": "crash:\x1b]0;x\x07 a\nb" + "c" * 1000, "ending": "CRASH"}, EvaluationReply, "evaluate")
    assert isinstance(failure, Failure)
    assert failure.reason.isprintable()
    assert len(failure.reason) == 400
    assert is_the_machines(failure)


@pytest.mark.parametrize("linked", ["checkpoints", "checkpoints/global_step_1", "checkpoints/global_step_1/actor"])
def test_weights_behind_a_link_are_refused(tmp_path: Path, linked: str) -> None:
    base, child, elsewhere = (tmp_path / name for name in ("base", "child", "elsewhere"))
    exported = child / "checkpoints" / "global_step_1" / "actor" / "huggingface"
    for folder in (base, child, elsewhere):
        folder.mkdir()
    (base / "config.json").write_text("{}")
    (child / linked).parent.mkdir(parents=True, exist_ok=True)
    (child / linked).symlink_to(elsewhere)
    exported.mkdir(parents=True)
    (exported / "model.safetensors").write_text("another's")
    with pytest.raises(RunFailed, match="behind a link"):
        assemble_weights(base, child, exported, tmp_path / "weights")
    assert (exported / "model.safetensors").read_text() == "another's"


def test_only_tensors_are_read_from_training(tmp_path: Path) -> None:
    base, child = tmp_path / "base", tmp_path / "child"
    exported = child / "huggingface"
    for folder in (base, exported):
        folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors", "evil.py"):
        (base / name).write_text("base")
        (exported / name).write_text("trained")
    assemble_weights(base, child, exported, tmp_path / "weights")
    found = {file.name: file.read_text() for file in (tmp_path / "weights").iterdir()}
    assert found == {"config.json": "base", "tokenizer.json": "base", "model.safetensors": "trained"}
