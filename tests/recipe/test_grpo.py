"""The root candidate against GRPO and PPO's loss written out in plain loops, and against verl's own code."""

from __future__ import annotations

import importlib
import importlib.util
import math
import random
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

LEVELS = (0.0, 0.4, 1.0)
MODES = ("token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")


def batch(seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """Rewards (N, T) at the last token, mask (N, T) and prompt identifiers; groups of several sizes, one of one."""
    rng = random.Random(seed)
    index = [name for name, size in (("a", 8), ("b", 5), ("c", 1), ("d", 2)) for _ in range(size)]
    rng.shuffle(index)
    width = 11
    lengths = [rng.randint(1, width) for _ in index]
    mask = torch.zeros(len(index), width)
    rewards = torch.zeros(len(index), width)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1.0
        rewards[row, length - 1] = 0.4 if index[row] == "d" else rng.choice(LEVELS)
    return rewards, mask, index


def log_probs(seed: int, mask: Tensor, spread: float = 0.4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    old = -3.0 * torch.rand(mask.shape, generator=generator) * mask
    new = old + spread * torch.randn(mask.shape, generator=generator) * mask
    return old, new


def grpo_by_hand(rewards: Tensor, mask: Tensor, index: list[str]) -> list[list[float]]:
    """A_it = (r_i - mean) / (std + 1e-6), std over n - 1; a group of one: r_i / (1 + 1e-6) (arXiv:2402.03300, verl)."""
    scores = [math.fsum(row) for row in rewards.double().tolist()]
    table = []
    for row, prompt in enumerate(index):
        group = [scores[other] for other in range(len(index)) if index[other] == prompt]
        mean, std = 0.0, 1.0
        if len(group) > 1:
            mean = math.fsum(group) / len(group)
            std = math.sqrt(math.fsum((score - mean) ** 2 for score in group) / (len(group) - 1))
        advantage = (scores[row] - mean) / (std + 1e-6)
        table.append([advantage * weight for weight in mask[row].tolist()])
    return table


def loss_by_hand(old: Tensor, new: Tensor, advantages: Tensor, mask: Tensor, mode: str) -> float:
    """PPO's clipped loss with dual clip 3 (arXiv:1707.06347 eq. 7, arXiv:1912.09729 eq. 5)."""
    sums, counts = [], []
    for row in range(mask.shape[0]):
        losses = []
        for column in range(mask.shape[1]):
            if not mask[row, column]:
                continue
            ratio, advantage = math.exp(float(new[row, column] - old[row, column])), float(advantages[row, column])
            loss = max(-advantage * ratio, -advantage * min(max(ratio, 0.8), 1.2))
            losses.append(min(loss, -3.0 * advantage) if advantage < 0 else loss)
        sums.append(math.fsum(losses))
        counts.append(len(losses))
    match mode:
        case "token-mean":
            return math.fsum(sums) / sum(counts)
        case "token-sum":
            return math.fsum(sums)
        case "seq-mean-token-mean":
            return math.fsum(total / count for total, count in zip(sums, counts, strict=True)) / len(sums)
        case "seq-mean-token-sum":
            return math.fsum(sums) / len(sums)
        case _:
            return math.fsum(sums) / len(sums) / mask.shape[1]


@pytest.mark.parametrize("seed", range(5))
def test_advantages_are_grpo(recipe: ModuleType, seed: int) -> None:
    rewards, mask, index = batch(seed)
    advantages, returns = recipe.compute_advantages(rewards, mask, index)
    torch.testing.assert_close(
        advantages.double(), torch.tensor(grpo_by_hand(rewards, mask, index)).double(), atol=1e-6, rtol=1e-6
    )
    assert torch.equal(advantages, returns)
    assert not advantages[mask == 0].any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spread", [0.05, 0.4, 2.0])
def test_loss_is_the_clipped_surrogate(recipe: ModuleType, mode: str, spread: float) -> None:
    rewards, mask, index = batch(7)
    advantages, _ = recipe.compute_advantages(rewards, mask, index)
    old, new = log_probs(1, mask, spread)
    loss, metrics = recipe.policy_loss(old, new, advantages, mask, loss_agg_mode=mode)
    assert loss.item() == pytest.approx(loss_by_hand(old, new, advantages, mask, mode), rel=1e-6, abs=1e-6)
    assert set(metrics) == {"actor/pg_clipfrac", "actor/ppo_kl"}
    assert (metrics["actor/pg_clipfrac"] > 0) == (spread > 0.1)


def test_micro_batches_add_up_to_the_whole_batch(recipe: ModuleType) -> None:
    rewards, mask, index = batch(2)
    advantages, _ = recipe.compute_advantages(rewards, mask, index)
    old, new = log_probs(3, mask)
    for mode in MODES:
        whole, _ = recipe.policy_loss(old, new, advantages, mask, loss_agg_mode=mode)
        info = {
            "dp_size": 1,
            "batch_num_tokens": mask.sum(),
            "global_batch_size": len(index),
            "loss_scale_factor": None,
        }
        parts = 0.0
        for rows in torch.arange(len(index)).split(3):
            part, _ = recipe.policy_loss(
                old[rows], new[rows], advantages[rows], mask[rows].bool(), mode, SimpleNamespace(global_batch_info=info)
            )
            parts += part.item()
        assert parts == pytest.approx(whole.item(), rel=1e-5, abs=1e-6), mode


def test_levels_are_decoded_exactly(recipe: ModuleType) -> None:
    mask = torch.ones(4, 3)
    rewards = torch.zeros(4, 3)
    rewards[:, -1] = torch.tensor([0.0, 0.1, 0.9, 1.0])
    rollouts = recipe.Rollouts.from_rewards(rewards, mask, ["p", "p", "q", "q"])
    assert rollouts.valid.tolist() == [0.0, 1.0, 1.0, 1.0]
    assert rollouts.correct.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert rollouts.pass_rate().tolist() == [0.0, 0.0, 0.5, 0.5]


@pytest.fixture(scope="module")
def core_algos() -> ModuleType:
    """The real verl, if it is installed."""
    if importlib.util.find_spec("verl") is None:
        pytest.skip("pip install 'poise-git[verl-cpu]'")
    return importlib.import_module("verl.trainer.ppo.core_algos")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_advantages_equal_grpo_of_verl(recipe: ModuleType, core_algos: ModuleType, seed: int) -> None:
    import numpy

    rewards, mask, index = batch(seed)
    uids = numpy.array(index, dtype=object)
    theirs, _ = core_algos.compute_grpo_outcome_advantage(rewards, mask.long(), uids)
    ours, _ = recipe.compute_advantages(rewards, mask.long(), uids)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("corrected", [False, True])
def test_loss_equals_the_vanilla_loss_of_verl(
    recipe: ModuleType, core_algos: ModuleType, mode: str, corrected: bool
) -> None:
    config_module = importlib.import_module("verl.workers.config")
    config = config_module.ActorConfig(
        strategy="fsdp",
        rollout_n=8,
        ppo_micro_batch_size_per_gpu=4,
        clip_ratio=0.2,
        clip_ratio_low=0.2,
        clip_ratio_high=0.2,
    )
    rewards, mask, index = batch(5)
    advantages, _ = recipe.compute_advantages(rewards, mask, index)
    old, new = log_probs(4, mask, 1.0)
    weights = 0.5 + torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) if corrected else None
    leaves = [new.clone().requires_grad_() for _ in range(2)]
    ours, our_metrics = recipe.policy_loss(old, leaves[0], advantages, mask.bool(), mode, config, weights)
    theirs, their_metrics = core_algos.compute_policy_loss_vanilla(
        old, leaves[1], advantages, mask.bool(), mode, config, weights
    )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, atol=1e-6, rtol=1e-6)
    for name, value in our_metrics.items():
        assert value == pytest.approx(their_metrics[name], abs=1e-6), name
