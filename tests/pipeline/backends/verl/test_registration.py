"""A candidate in verl's registries: its values, its gradient, and what is told of it when it is wrong."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from poise_git.pipeline.candidate import CandidateFailed
from torch import Tensor

from poise_git.resources import template_files
from tests.pipeline.backends.verl.conftest import require_verl

MODULE = "poise_git.pipeline.backends.verl.worker.registration"
RECIPE = {name: template_files()[f"recipe/{name}"] for name in ("__init__.py", "algorithm.py", "rollouts.py")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    require_verl()
    (tmp_path / "recipe").mkdir()
    for name, text in RECIPE.items():
        (tmp_path / "recipe" / name).write_text(text)
    monkeypatch.setenv("POISE_RECIPE", str(tmp_path / "recipe"))
    monkeypatch.setenv("POISE_FAILURE_FILE", str(tmp_path / "failure"))
    monkeypatch.setenv("POISE_ROLLOUTS_FILE", str(tmp_path / "rollouts"))
    monkeypatch.setenv("POISE_SEED", "0")
    return tmp_path


@pytest.fixture
def registration(folder: Path) -> Iterator[ModuleType]:
    """Imported afresh, with nothing of the candidate of another test."""
    core_algos = importlib.import_module("verl.trainer.ppo.core_algos")
    core_algos.ADV_ESTIMATOR_REGISTRY.pop("poise", None)
    forget()
    yield importlib.import_module(MODULE)
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name == MODULE or name.startswith("poise_candidate")]:
        del sys.modules[name]


def rollouts() -> tuple[Tensor, Tensor, list[str]]:
    """Two groups of three: one with an invalid, a wrong and a right response, one that fails altogether."""
    mask = torch.ones(6, 4)
    mask[0, 2:] = 0
    rewards = torch.zeros(6, 4)
    rewards[1, 3], rewards[2, 3], rewards[4, 3] = 0.1, 1.0, 0.1
    return rewards, mask, ["a", "a", "a", "b", "b", "b"]


def test_verl_finds_the_candidate_and_the_step_is_recorded(registration: ModuleType, folder: Path) -> None:
    core_algos = importlib.import_module("verl.trainer.ppo.core_algos")
    rewards, mask, index = rollouts()
    advantages, returns = core_algos.get_adv_estimator_fn("poise")(
        token_level_rewards=rewards, response_mask=mask.long(), index=index, config={}
    )
    assert advantages.shape == (6, 4)
    assert torch.equal(advantages, returns)
    assert advantages[2, 0] > advantages[1, 0] > advantages[0, 0]
    assert core_algos.get_policy_loss_fn("poise") is registration.policy_loss
    (line,) = (folder / "rollouts").read_text().splitlines()
    assert json.loads(line) == pytest.approx({"correct_rate": 1 / 6, "valid_rate": 0.5, "all_fail_rate": 0.5})


def test_value_and_gradient_are_the_candidates(registration: ModuleType, folder: Path) -> None:
    algorithm = load(folder / "recipe")
    rewards, mask, index = rollouts()
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(6, 4, generator=generator)
    new = (old + 0.3 * torch.randn(6, 4, generator=generator)).requires_grad_()
    advantages, _ = registration.compute_advantages(rewards, mask, index)
    loss, metrics = registration.policy_loss(old, new, advantages, mask.bool(), "token-mean", None, None)
    (gradient,) = torch.autograd.grad(loss, new)
    expected, _ = algorithm.policy_loss(old, new, advantages, mask.bool(), "token-mean")
    (expected_gradient,) = torch.autograd.grad(expected, new)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(gradient, expected_gradient * mask, atol=1e-7, rtol=0)
    assert set(metrics) == {"actor/pg_clipfrac", "actor/ppo_kl"}


def load(recipe: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "expected_recipe", recipe / "__init__.py", submodule_search_locations=[str(recipe)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["expected_recipe"] = package
    return importlib.import_module("expected_recipe.algorithm")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise RuntimeError('no such thing')", "compute_advantages raised RuntimeError: no such thing"),
        ("return token_level_rewards / 0, None", "advantage is NaN"),
        ("return token_level_rewards.sum(), None", "compute_advantages returned a tensor ()"),
    ],
)
def test_what_a_candidate_does_wrong_is_told_in_one_line(
    registration: ModuleType, folder: Path, line: str, said: str
) -> None:
    begin = "    with torch.no_grad():\n        rollouts = "
    source = RECIPE["algorithm.py"].replace(begin, f"    {line}\n{begin}")
    assert source != RECIPE["algorithm.py"]
    (folder / "recipe" / "algorithm.py").write_text(source)
    with pytest.raises(CandidateFailed):
        registration.compute_advantages(*rollouts())
    failure = (folder / "failure").read_text()
    assert failure.startswith(said)
    assert "\n" not in failure


def test_the_distance_to_the_sampling_policy_is_not_the_candidates_to_tell(
    registration: ModuleType, folder: Path
) -> None:
    """It may end a run, and a candidate that reports nothing must train all the same."""
    algorithm = folder / "recipe" / "algorithm.py"
    reported = RECIPE["algorithm.py"].replace("    return loss, metrics\n", '    return loss, {"actor/ppo_kl": 1e9}\n')
    assert reported != RECIPE["algorithm.py"]
    algorithm.write_text(reported)
    rewards, mask, _ = rollouts()
    old = torch.full((6, 4), -1.0)
    _, metrics = registration.policy_loss(old, (old + 0.5).requires_grad_(), rewards, mask.bool())
    assert metrics == {"actor/ppo_kl": pytest.approx(-0.5)}


def test_the_candidate_is_not_imported_until_it_is_needed(registration: ModuleType, folder: Path) -> None:
    """Every process of a run imports the registration; those that only sample never see the candidate."""
    (folder / "recipe" / "algorithm.py").write_text("raise SystemExit('imported')")
    assert "poise_candidate.algorithm" not in sys.modules
    with pytest.raises(CandidateFailed, match="imported"):
        registration.compute_advantages(*rollouts())
