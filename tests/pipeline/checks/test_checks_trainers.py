"""The demands of trainers on a candidate: split batches, restarts, another device and other types."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from poise_git.pipeline.checks import CheckReport, batches, runner
from poise_git.pipeline.checks.amplification import amplification
from tests import sentences
from tests.agents.library.support import load

pytestmark = pytest.mark.slow

Edit = Callable[..., Mapping[str, str]]
Check = Callable[..., CheckReport]

SIGNAL = "    return rollouts.score\n"
MODULE = "# Advantages: computed once"
PENALTY = "    penalty = torch.zeros_like(log_prob)\n"
TOKENS = 'from the log-probabilities when sampled; here nothing. (N, T)"""\n    return advantages\n'
SPREAD = "    spread = torch.where(rollouts.group_size() > 1, rollouts.group_std(signal), torch.ones_like(signal))\n"
LOSS = "    loss = aggregate_loss(losses, response_mask, loss_aggregation(loss_agg_mode), config)\n"


def tokens(body: str) -> tuple[str, str]:
    return TOKENS, TOKENS.replace("    return advantages\n", body)


def penalty(body: str) -> tuple[str, str]:
    return PENALTY, PENALTY + body


def remembering(line: str, change: tuple[str, str]) -> list[tuple[str, str]]:
    return [(MODULE, f"{line}\n\n{MODULE}"), change]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(tokens("    return advantages / advantages.abs().max().clamp(min=1e-3)\n"), id="maximum"),
        pytest.param(tokens("    return advantages * (10.0 / len(advantages))\n"), id="number of rows"),
        pytest.param(
            tokens(
                "    top = torch.quantile(advantages[response_mask > 0].abs(), 0.9)\n"
                "    return advantages.clamp(-top, top)\n"
            ),
            id="quantile",
        ),
        pytest.param(
            penalty(
                "    entropy = masked_mean(-old_log_prob, response_mask)\n"
                "    penalty = penalty + 0.01 * (entropy - 1.0) * log_prob * response_mask\n"
            ),
            id="entropy of the batch",
        ),
        pytest.param(
            penalty(
                "    if masked_mean((log_prob - old_log_prob).abs(), response_mask) > 1.0:\n"
                "        penalty = penalty + log_prob * response_mask\n"
            ),
            id="acts when the batch is far off the policy",
        ),
        pytest.param((LOSS, "    loss = masked_mean(losses, response_mask)\n"), id="own mean"),
        pytest.param(
            ("losses * rollout_is_weights", "losses * (rollout_is_weights / rollout_is_weights.mean())"),
            id="weights normalized",
        ),
    ],
)
def test_statistics_of_the_batch_in_the_loss_are_refused(check: Check, edited: Edit, change: tuple[str, str]) -> None:
    failure = check(edited(change)).failure
    assert failure is not None
    assert failure.check == "micro-batches"
    assert sentences.NEEDS_WHOLE_BATCH in failure.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            [
                *remembering("_LAST = {}", (SIGNAL, "    _LAST['rate'] = rollouts.correct.mean()\n" + SIGNAL)),
                tokens("    return advantages * (1.0 + _LAST.get('rate', 0.0))\n"),
            ],
            "policy_loss gives another loss",
            id="told to the loss",
        ),
        pytest.param(
            [
                *remembering("_LAST = {}", (SIGNAL, "    _LAST['rate'] = rollouts.correct.mean()\n" + SIGNAL)),
                tokens("    return advantages * (1.0 + _LAST['rate'])\n"),
            ],
            sentences.LOSS_NEEDS_MEMORY,
            id="needed by the loss",
        ),
        pytest.param(
            remembering(
                "_FIRST = {}",
                (
                    SIGNAL,
                    "    first = _FIRST.setdefault(len(rollouts.score), rollouts.score.mean())\n"
                    "    return rollouts.score * (1.0 + first)\n",
                ),
            ),
            "compute_advantages gives other numbers after earlier calls",
            id="first batch of a shape",
        ),
        pytest.param(
            remembering(
                "_CALLS = []",
                (SIGNAL, "    _CALLS.append(1)\n    return rollouts.score * (0.5 if len(_CALLS) > 60 else 1.0)\n"),
            ),
            "compute_advantages gives other numbers after earlier calls",
            id="counter",
        ),
    ],
)
def test_memory_between_calls_is_refused(
    check: Check, edited: Edit, changes: list[tuple[str, str]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judge its behavior without the static checks, which refuse most of these texts."""
    monkeypatch.setattr(runner, "STATIC", ())
    failure = check(edited(*changes)).failure
    assert failure is not None
    assert (failure.check, reason in failure.reason) == ("memory", True), failure.reason


@pytest.mark.parametrize(
    ("change", "function", "stage"),
    [
        (penalty("    penalty = penalty + torch.full(log_prob.shape, 0.1)\n"), "torch.full", "regularizer"),
        (tokens("    return advantages * 0.9 ** torch.arange(advantages.shape[1])\n"), "torch.arange", "shape_token"),
        ((SIGNAL, "    return rollouts.score + torch.eye(len(rollouts.score)).sum(0) - 1\n"), "torch.eye", "reward"),
    ],
)
def test_a_tensor_made_on_the_cpu_is_named(
    check: Check, edited: Edit, change: tuple[str, str], function: str, stage: str
) -> None:
    failure = check(edited(change)).failure
    assert failure is not None
    assert failure.check == "device"
    assert f"{function} made without device=..." in failure.reason
    assert f"in {stage}" in failure.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            (SIGNAL, "    return torch.tensor(rollouts.score.tolist(), device=rollouts.score.device)\n"),
            "must be float64",
        ),
        (
            ("torch.clamp(log_prob - old_log_prob,", "torch.clamp((log_prob + 1e4) - (old_log_prob + 1e4),"),
            "float32 loses digits",
        ),
    ],
)
def test_types_follow_the_inputs(check: Check, edited: Edit, change: tuple[str, str], reason: str) -> None:
    failure = check(edited(change)).failure
    assert failure is not None
    assert (failure.check, reason in failure.reason) == ("dtype", True), failure.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            [
                (
                    SPREAD,
                    "    others = (rollouts.group_size() - 1).clamp(min=1.0)\n"
                    "    mean = (rollouts.group_sum(signal) - signal) / others\n"
                    "    square = (rollouts.group_sum(signal**2) - signal**2) / others\n"
                    "    spread = (square - mean**2).clamp(min=0.0).sqrt()\n"
                    "    spread = torch.where(spread > 0, spread, torch.ones_like(spread))\n",
                )
            ],
            "an advantage of",
            id="leave-one-out deviation",
        ),
        pytest.param(
            [("(signal - baseline(signal, rollouts))", "(2 * signal - 1)")], "an advantage of", id="no baseline"
        ),
        pytest.param([tokens("    return advantages / old_log_prob.exp()\n")], "a gradient", id="over the probability"),
    ],
)
def test_amplified_residue_is_refused(check: Check, edited: Edit, changes: list[tuple[str, str]], reason: str) -> None:
    failure = check(edited(*changes)).failure
    assert failure is not None
    assert failure.check == "amplification"
    assert failure.reason.startswith(reason)


@pytest.mark.parametrize("factor", [30.0, 0.01])
def test_amplification_is_judged_by_size_alone(edited: Edit, factor: float) -> None:
    """The root's largest advantage is 7.87: 30 times that is more than 100, a hundredth is not."""
    recipe = edited(
        (SIGNAL, f"    return {factor} * rollouts.score\n"), ("return spread + epsilon", "return 1.0 + 0 * spread")
    )
    small = amplification(load(recipe["algorithm.py"]))
    assert small is None
    recipe = edited(("signal - baseline(signal, rollouts)", f"{factor} * (signal - baseline(signal, rollouts))"))
    large = amplification(load(recipe["algorithm.py"]))
    assert (large is not None) == (factor * 7.87 > 100)


def test_a_restarted_trial_has_the_same_recipe_and_no_memory(edited: Edit) -> None:
    changes = remembering("_CALLS = []", (SIGNAL, "    _CALLS.append(1)\n    return rollouts.score * len(_CALLS)\n"))
    trial = load(edited(*changes, ("return spread + epsilon", "return 1.0 + 0 * spread"))["algorithm.py"])
    batch = batches.mixed()
    first = trial.advantages(batch)
    torch.testing.assert_close(trial.advantages(batch), 2 * first)
    assert torch.equal(trial.restarted().advantages(batch), first)
