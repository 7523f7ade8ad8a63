"""Real bad candidates, each of which fails its check, and mechanisms that must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from poise_git.pipeline.checks import CHECKS, CheckReport, runner
from poise_git.pipeline.checks.numeric import NUMERIC
from poise_git.pipeline.checks.registry import IMPORT
from poise_git.pipeline.checks.static import STATIC
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests import sentences

pytestmark = pytest.mark.slow

Edit = Callable[..., Mapping[str, str]]
Check = Callable[..., CheckReport]

SIGNAL = "    return rollouts.score\n"
SHAPED = "        advantages = to_tokens(shape_advantages(advantages, rollouts), rollouts.mask)\n"
LOSS = "    loss = aggregate_loss(losses, response_mask, loss_aggregation(loss_agg_mode), config)\n"
SHAPE_TOKENS = "    advantages = shape_token_advantages(advantages, old_log_prob, response_mask)\n"
STD = "rollouts.group_std(signal), torch.ones_like(signal))\n    return spread + epsilon"
RATIO = "    return torch.clamp(log_prob - old_log_prob, min=-20.0, max=20.0)\n"


def test_registry_lists_exactly_the_checks() -> None:
    names = [check.name for check in CHECKS]
    assert names == [*(name for name, _ in STATIC), IMPORT, *(name for name, _ in NUMERIC), "claim"]
    assert len(set(names)) == len(names) >= 12


def test_grpo_passes_every_check(check: Check, grpo: Mapping[str, str]) -> None:
    report = check(grpo)
    assert report.failure is None
    assert [name for name, _ in report.passed] == [entry.name for entry in CHECKS]


@pytest.mark.parametrize(
    ("old", "new", "failed", "reason"),
    [
        (SIGNAL, "    return rollouts.scores\n", "attributes", "scores"),
        (SIGNAL, "    return rollouts.score.view(5, 7)\n", "advantage-shape", "RuntimeError: "),
        (SIGNAL, "    return rollouts.score.view(5, 7)\n", "advantage-shape", "(algorithm.py line "),
        (
            "from .rollouts import Rollouts,",
            "from .rollouts import Roll, Rollouts,",
            "imports",
            "Roll",
        ),
        ("    return advantages, advantages\n", "    return advantages\n", "advantage-shape", "it returned a tensor"),
        (SHAPED, SHAPED + "        advantages = advantages[:, :1]\n", "advantage-shape", "must have shape (48, 12)"),
        (SHAPED, SHAPED + "        advantages = advantages.double()\n", "advantage-shape", "torch.float64"),
        (
            SHAPED,
            SHAPED + "        advantages = advantages / advantages.std() * float('nan')\n",
            "advantage-finite",
            "nan",
        ),
        (
            STD,
            STD.replace(" + epsilon", ""),
            "advantage-finite",
            "found nan at [0, 0] on a batch with groups whose rewards",
        ),
        (SHAPED, SHAPED + "        advantages = advantages + 0.1\n", "advantage-padding", "found 0.1"),
        (LOSS, "    loss = losses.mean(-1)\n", "loss-scalar", "a tensor of shape (48,)"),
        (LOSS, LOSS + "    loss = loss.detach()\n", "loss-scalar", "no differentiable path"),
        (
            '.item(),\n        "actor/ppo_kl"',
            ',\n        "actor/ppo_kl"',
            "loss-scalar",
            "found 'actor/pg_clipfrac': a tensor",
        ),
        (RATIO, "    return 5 * (log_prob - old_log_prob)\n", "loss-finite", "log-ratios of +-30"),
        (LOSS, LOSS + "    loss = loss * 0.0\n", "gradient", sentences.NOTHING_LEARNED),
        (LOSS, "    loss = losses.mean() - log_prob.mean()\n", "gradient-padding", "found -0.00"),
        (
            SHAPE_TOKENS,
            "    advantages = advantages.mul_(0.5)\n",
            "inputs-unchanged",
            sentences.MODIFIES_ARGUMENT.format(function="policy_loss", argument="advantages"),
        ),
        (SHAPED, "        token_level_rewards.zero_()\n" + SHAPED, "inputs-unchanged", "argument token_level_rewards"),
        (SIGNAL, "    return rollouts.score + torch.rand_like(rollouts.score)\n", "deterministic", "other numbers"),
        (LOSS, LOSS + "    loss = loss * losses.shape[-1]\n", "padding-invariance", "five more columns of padding"),
        (
            SIGNAL,
            "    return rollouts.score * torch.arange(len(rollouts.score))\n",
            "order-invariance",
            "another order",
        ),
        (
            SHAPED,
            SHAPED + "        advantages = advantages * (1.0 + rollouts.group).unsqueeze(-1)\n",
            "order-invariance",
            "another order",
        ),
        (SHAPED, SHAPED + "        advantages = advantages * len(str(index[0]))\n", "relabelling", "a list of texts"),
        (LOSS, "    losses = losses * (~response_mask == 0)\n" + LOSS, "verl-types", "mask"),
    ],
)
def test_a_bad_candidate_fails_with_the_reason(
    check: Check, edited: Edit, old: str, new: str, failed: str, reason: str
) -> None:
    failure = check(edited((old, new))).failure
    assert failure is not None
    assert (failure.check, "\n" in failure.reason) == (failed, False)
    assert reason in failure.reason


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            [(STD, STD.replace("rollouts.group_std(signal)", "signal.std().expand_as(signal)"))], id="batch-std"
        ),
        pytest.param(
            [("(signal - baseline(signal, rollouts)) / scale(signal, rollouts)", "2 * signal - 1")],
            id="no baseline, no scale",
        ),
        pytest.param(
            [("    return advantages\n\n\n# Loss", "    return advantages.clamp(max=0.0)\n\n\n# Loss")],
            id="negative only",
        ),
        pytest.param(
            [("    return advantages\n\n\n# Loss", "    return advantages * rollouts.valid\n\n\n# Loss")],
            id="valid only",
        ),
        pytest.param([("    return loss_agg_mode\n", '    return "seq-mean-token-sum-norm"\n')], id="Dr.GRPO's loss"),
        pytest.param(
            [
                (
                    RATIO,
                    "    mean = response_mean(log_prob - old_log_prob, response_mask).clamp(-20.0, 20.0)\n"
                    "    return mean.unsqueeze(-1) + log_prob - log_prob.detach()\n",
                ),
                ("masked_mean, to_tokens", "masked_mean, response_mean, to_tokens"),
            ],
            id="sequence-level ratio",
        ),
    ],
)
def test_legitimate_mechanism_passes(check: Check, edited: Edit, changes: list[tuple[str, str]]) -> None:
    assert check(edited(*changes)).failure is None


def test_text_that_does_not_parse_is_not_run(check: Check, edited: Edit) -> None:
    class Unreachable:
        def run(self, *arguments: Any, **options: Any) -> Any:
            raise AssertionError("run")

    failure = check(edited((SIGNAL, "    return (\n")), (), Unreachable()).failure
    assert failure is not None
    assert failure.check == "parse"


@pytest.fixture(scope="module")
def limited() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(wall_seconds=5, file_mb=1, memory_mb=1024)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("    while True:\n        pass\n", "wall time limit of 5 s reached"),
        # Its output is discarded.
        ("    while True:\n        print('x' * 100000)\n", "wall time limit of 5 s reached"),
        ("    torch.zeros(25_000_000_000)\n", "compute_advantages raised RuntimeError: "),
        ("    def deeper():\n        return deeper()\n    deeper()\n", "compute_advantages raised RecursionError: "),
    ],
)
def test_a_hostile_candidate_fails_with_the_reason(
    check: Check, edited: Edit, limited: Sandbox, code: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the static checks, which do not allow print."""
    monkeypatch.setattr(runner, "STATIC", ())
    failure = check(edited((SIGNAL, code + SIGNAL)), (), limited).failure
    assert failure is not None
    assert failure.check == "advantage-shape"
    assert failure.reason.startswith(reason)
    assert "\n" not in failure.reason
