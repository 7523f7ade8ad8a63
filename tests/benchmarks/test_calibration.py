from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from calibration import (
    CATASTROPHIC,
    CHEATS,
    FLIPPED_REWARDS,
    KINDS,
    MILDLY_BAD,
    NOTHING,
    PUBLISHED,
    ROOT,
    SOUND,
    TWINS,
    recipe_of,
)
from calibration_runs import Trainer, read_records
from torch import Tensor

from poise_git.agents.library.surgery import replace_function
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.protocol import load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

SHORT = Path(__file__).parents[1] / "protocols" / "short.yaml"
VALID_WRONG = 0.1
GROUP_SIZE = 8


@pytest.fixture(scope="module")
def advantages() -> Mapping[str, Tensor]:
    """The advantage of each response of one batch, as every algorithm of the set computes it: (N,)."""
    given, mask = rewards().unsqueeze(1), torch.ones(len(rewards()), 1)
    return {name: trusted_algorithm(recipe_of(name), 5).advantages(given, mask, groups())[:, 0] for name in KINDS}


def rewards() -> Tensor:
    """Of 60 groups, the first all valid but wrong, the second all correct."""
    levels = torch.tensor([0.0, VALID_WRONG, 1.0])
    drawn = levels[torch.randint(3, (60, GROUP_SIZE), generator=torch.Generator().manual_seed(1))]
    drawn[0], drawn[1] = VALID_WRONG, 1.0
    return drawn.flatten()


def groups() -> list[int]:
    return [number for number in range(60) for _ in range(GROUP_SIZE)]


def test_the_set_has_enough_algorithms_and_controls() -> None:
    assert len(SOUND) >= 12
    assert len(KINDS) == len(SOUND) + 3 + 3 + 2 + 1 + 1 + len(PUBLISHED)
    assert len(PUBLISHED) >= 3


def test_published_forms_weigh_responses_by_their_verdict_alone() -> None:
    rewards, mask = torch.zeros(8, 2), torch.ones(8, 2)
    rewards[:3, 1] = 1.0
    right = rewards[:, 1] > 0
    for name, of_right, of_wrong in (("successes-alone", 1, 0), ("failures-alone", 0, -1), ("signed-reward", 1, -1)):
        advantages = trusted_algorithm(recipe_of(name)).advantages(rewards, mask, ["a"] * 8)[:, 0]
        assert advantages.tolist() == torch.where(right, float(of_right), float(of_wrong)).tolist(), name


def test_all_algorithms_have_different_texts() -> None:
    assert len({recipe_of(name)["algorithm.py"] for name in KINDS}) == len(KINDS)


@pytest.mark.parametrize("name", TWINS)
def test_a_null_copy_equals_its_original_except_for_the_jitter(advantages: Mapping[str, Tensor], name: str) -> None:
    twin, original = advantages[name], advantages[TWINS[name].of]
    mixed = torch.arange(len(twin)) >= GROUP_SIZE
    assert torch.allclose(twin[mixed], original[mixed], rtol=1e-2, atol=1e-5)
    assert not torch.equal(twin[mixed], original[mixed])


def test_a_null_copy_equals_its_original_in_a_group_of_one() -> None:
    given, mask = torch.tensor([[0.1], [1.0]]), torch.ones(2, 1)
    for name in TWINS:
        twin, original = (
            trusted_algorithm(recipe_of(one)).advantages(given, mask, [0, 1]) for one in (name, TWINS[name].of)
        )
        assert torch.allclose(twin, original, rtol=1e-2, atol=1e-5)


def test_the_advantage_without_a_baseline_is_the_reward(advantages: Mapping[str, Tensor]) -> None:
    assert torch.equal(advantages["no-baseline"], rewards())


def test_a_tenth_of_the_rewards_is_flipped() -> None:
    """The update has no baseline and no scale, so its advantages are the rewards."""
    recipe = recipe_of("no-baseline")
    recipe["algorithm.py"] = replace_function(recipe["algorithm.py"], "reward_signal", FLIPPED_REWARDS)
    algorithm, given = trusted_algorithm(recipe, 3), rewards().repeat(10)
    index = [number for number in range(600) for _ in range(GROUP_SIZE)]
    got = algorithm.advantages(given.unsqueeze(1), torch.ones(len(given), 1), index)[:, 0]
    turned = (got - given).abs() > 1e-3
    assert not turned[given == 0].any()
    assert turned[given > 0].float().mean() == pytest.approx(0.1, abs=0.02)
    assert torch.allclose(got[turned & (given == 1.0)], torch.tensor(VALID_WRONG))
    assert torch.allclose(got[turned & (given < 1.0)], torch.tensor(1.0))


def test_each_control_does_its_kind_of_harm(advantages: Mapping[str, Tensor]) -> None:
    root = advantages[ROOT]
    assert torch.equal(advantages["sign-flipped-advantages"], -root)
    assert torch.equal(advantages["shuffled-advantages"].sort().values, root.sort().values)
    for name in (*MILDLY_BAD, *CATASTROPHIC):
        assert not torch.allclose(advantages[name], root)


def test_algorithms_without_effect_equal_the_root_to_the_last_bit(advantages: Mapping[str, Tensor]) -> None:
    for name in NOTHING:
        assert torch.equal(advantages[name], advantages[ROOT])


def test_random_advantages_do_not_depend_on_the_rewards(advantages: Mapping[str, Tensor]) -> None:
    drawn = advantages["random-advantages"]
    assert len(drawn.unique()) > 20
    assert drawn.mean().abs() < 0.3
    assert drawn.std() == pytest.approx(1.0, abs=0.3)
    assert torch.corrcoef(torch.stack([drawn, advantages[ROOT]]))[0, 1].abs() < 0.2


def test_a_cheat_equals_the_root_if_it_cannot_reach_the_trainer(advantages: Mapping[str, Tensor]) -> None:
    for name in CHEATS:
        assert torch.equal(advantages[name], advantages[ROOT])


@pytest.mark.needs_layers
@pytest.mark.slow
def test_no_algorithm_can_train_on_the_answers(tmp_path: Path) -> None:
    """Either it fails, or its run equals GRPO's to the last bit, because a candidate cannot reach the trainer."""
    protocol = load_protocol(SHORT.read_text(encoding="utf-8"), SHORT.name)
    with Sandbox(SandboxSettings()) as sandbox:
        trainer = Trainer(protocol, 1.0, sandbox, tmp_path / "runs.jsonl")
        trainer.train([(name, 0) for name in (ROOT, *NOTHING, *CHEATS)], workers=1, on_record=lambda *_: None)
    found = {record.algorithm: record for record in read_records(tmp_path / "runs.jsonl")}
    for name in NOTHING:
        assert found[name].curve == found[ROOT].curve
    for name in CHEATS:
        assert found[name].failure or found[name].curve == found[ROOT].curve
