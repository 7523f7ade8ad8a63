"""A candidate in verl's registries: its values, its gradient, and its error messages.

The tests run with the boundary, where the worker reaches a host in a sandbox through the broker, and trusted.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from poise_git.package_data import template_files
from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.broker import broker
from poise_git.pipeline.boundary.door import CANDIDATE, Door
from poise_git.pipeline.boundary.hosting import host
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
from tests.pipeline.backends.verl.conftest import require_verl

pytestmark = pytest.mark.slow

MODULE = "poise_git.pipeline.backends.verl.worker.registration"
RECIPE = {name: template_files()[f"recipe/{name}"] for name in ("algorithm.py", "rollouts.py")}
# Lines of the template's algorithm; each test replaces one of them.
ADVANTAGES = "    return advantages, advantages\n"
LOSS = "    return loss, metrics\n"

Register = Callable[..., ModuleType]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings()) as sandbox:
        yield sandbox


@pytest.fixture(params=["behind the wall", "trusted"])
def register(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Register]:
    """Imports the registration afresh, as a worker of a run with this candidate does."""
    require_verl()
    monkeypatch.setenv("POISE_FAILURE_FILE", str(tmp_path / "failure"))
    monkeypatch.setenv("POISE_ROLLOUTS_FILE", str(tmp_path / "rollouts"))
    monkeypatch.setenv("POISE_SEED", "0")
    with ExitStack() as stack:

        def imported(*replaced: tuple[str, str]) -> ModuleType:
            recipe = changed(*replaced)
            if request.param == "trusted":
                file = tmp_path / "recipe.json"
                file.write_text(json.dumps(recipe))
                monkeypatch.setenv("POISE_TRUSTED_RECIPE", str(file))
            else:
                running = stack.enter_context(host(sandbox, {CANDIDATE: recipe}, may_lack_layers=True))
                door = stack.enter_context(broker(Door(os.dup(running.door)), tmp_path))
                monkeypatch.setenv("POISE_DOOR", str(door))
            core_algos = importlib.import_module("verl.trainer.ppo.core_algos")
            core_algos.ADV_ESTIMATOR_REGISTRY.pop("poise", None)
            forget()
            return importlib.import_module(MODULE)

        yield imported
        forget()


def forget() -> None:
    for name in [name for name in sys.modules if name == MODULE or name.startswith("poise_candidate")]:
        del sys.modules[name]


def changed(*replaced: tuple[str, str]) -> Mapping[str, str]:
    text = RECIPE["algorithm.py"]
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return {**RECIPE, "algorithm.py": text}


def rollouts() -> tuple[Tensor, Tensor, list[str]]:
    """Two groups of three: one with an invalid, a wrong and a right response, one that fails altogether."""
    mask = torch.ones(6, 4)
    mask[0, 2:] = 0
    rewards = torch.zeros(6, 4)
    rewards[1, 3], rewards[2, 3], rewards[4, 3] = 0.1, 1.0, 0.1
    return rewards, mask, ["a", "a", "a", "b", "b", "b"]


def log_probs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the sampling policy and of an updated one."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(6, 4, generator=generator)
    new = old + 0.3 * torch.randn(6, 4, generator=generator)
    return old.to(dtype), new.to(dtype).requires_grad_()


def test_verl_finds_the_candidate_and_the_step_is_recorded(register: Register, tmp_path: Path) -> None:
    registration = register()
    core_algos = importlib.import_module("verl.trainer.ppo.core_algos")
    rewards, mask, index = rollouts()
    advantages, returns = core_algos.get_adv_estimator_fn("poise")(
        token_level_rewards=rewards, response_mask=mask.long(), index=index, config={}
    )
    assert advantages.shape == (6, 4)
    assert torch.equal(advantages, returns)
    assert advantages[2, 0] > advantages[1, 0] > advantages[0, 0]
    assert core_algos.get_policy_loss_fn("poise") is registration.policy_loss
    (line,) = (tmp_path / "rollouts").read_text().splitlines()
    assert json.loads(line) == pytest.approx({"correct_rate": 1 / 6, "valid_rate": 0.5, "all_fail_rate": 0.5})


def test_value_and_gradient_equal_those_of_the_candidate(register: Register, tmp_path: Path) -> None:
    registration = register()
    algorithm = load(tmp_path / "recipe")
    rewards, mask, index = rollouts()
    old, new = log_probs()
    advantages, _ = registration.compute_advantages(rewards, mask, index)
    loss, metrics = registration.policy_loss(old, new, advantages, mask.bool(), "token-mean", None, None)
    (gradient,) = torch.autograd.grad(loss, new)
    expected, _ = algorithm.policy_loss(old, new, advantages, mask.bool(), "token-mean")
    (expected_gradient,) = torch.autograd.grad(expected, new)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(gradient, expected_gradient * mask, atol=1e-7, rtol=0)
    assert set(metrics) == {"actor/pg_clipfrac", "actor/ppo_kl"}


def load(recipe: Path) -> ModuleType:
    recipe.mkdir()
    for name, text in {"__init__.py": "", **RECIPE}.items():
        (recipe / name).write_text(text)
    spec = importlib.util.spec_from_file_location(
        "expected_recipe", recipe / "__init__.py", submodule_search_locations=[str(recipe)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["expected_recipe"] = package
    sys.modules.pop("expected_recipe.algorithm", None)
    return importlib.import_module("expected_recipe.algorithm")


@pytest.mark.parametrize("aggregation", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum-norm"])
def test_micro_batches_add_up_to_the_batch(register: Register, aggregation: str) -> None:
    """Use verl's sizes of the whole batch, some of them tensors, in a full configuration."""
    registration = register()
    rewards, mask, index = rollouts()
    old, new = log_probs()
    advantages, _ = registration.compute_advantages(rewards, mask, index)
    sizes = {
        "dp_size": 1,
        "batch_num_tokens": mask.sum(),
        "global_batch_size": torch.tensor(6),
        "loss_scale_factor": 4,
        "unknown": object(),
    }
    config = SimpleNamespace(global_batch_info=sizes, learning_rate=1e-3)

    def gradient(rows: slice) -> Tensor:
        loss, _ = registration.policy_loss(
            old[rows], new[rows], advantages[rows], mask[rows].bool(), aggregation, config, None
        )
        (found,) = torch.autograd.grad(loss, new)
        return found

    together = gradient(slice(None))
    assert together.abs().sum() > 0
    torch.testing.assert_close(gradient(slice(0, 2)) + gradient(slice(2, 6)), together, atol=1e-6, rtol=1e-6)


def test_a_worker_keeps_its_half_precision(register: Register) -> None:
    registration = register()
    rewards, mask, index = rollouts()
    old, new = log_probs(torch.bfloat16)
    advantages, _ = registration.compute_advantages(rewards, mask, index)
    loss, _ = registration.policy_loss(old, new, advantages, mask.bool())
    (gradient,) = torch.autograd.grad(loss, new)
    assert gradient.dtype == torch.bfloat16
    assert gradient[2].abs().sum() > 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise RuntimeError('no\\nsuch thing')", "compute_advantages raised RuntimeError: no such thing"),
        ("return token_level_rewards / 0, None", "advantage is NaN"),
        (
            "return token_level_rewards.sum(), None",
            "compute_advantages returned advantages of shape () and type torch.float32, not (6, 4)",
        ),
    ],
)
def test_an_error_of_a_candidate_is_reported_in_one_line(
    register: Register, tmp_path: Path, line: str, said: str
) -> None:
    begin = "    with torch.no_grad():\n        rollouts = "
    registration = register((begin, f"    {line}\n{begin}"))
    with pytest.raises(CandidateFailed):
        registration.compute_advantages(*rollouts())
    failure = (tmp_path / "failure").read_text()
    assert failure.startswith(said)
    assert "\n" not in failure


def test_the_trainer_measures_the_distance_to_the_sampling_policy(register: Register) -> None:
    """The distance may end a run, and a candidate that reports nothing must still train."""
    registration = register((LOSS, '    return loss, {"actor/ppo_kl": 1e9, "actor/pg_clipfrac": 1e9}\n'))
    rewards, mask, _ = rollouts()
    old = torch.full((6, 4), -1.0)
    _, metrics = registration.policy_loss(old, (old + 0.5).requires_grad_(), rewards, mask.bool())
    # All three tokens with an advantage are beyond the clip.
    assert metrics == {"actor/ppo_kl": pytest.approx(-0.5), "actor/pg_clipfrac": pytest.approx(3 / 22)}


def test_the_candidate_is_loaded_only_when_needed(register: Register) -> None:
    """Every process of a run imports the registration; those that only sample never open the candidate."""
    registration = register(("import torch\n", "import torch\n\nraise SystemExit('loaded')\n"))
    assert "poise_candidate.algorithm" not in sys.modules
    with pytest.raises(CandidateFailed, match="loaded"):
        registration.compute_advantages(*rollouts())


def test_the_worker_does_not_load_the_candidate(register: Register, request: pytest.FixtureRequest) -> None:
    """With the boundary the candidate is not loaded in this process; a trusted one is."""
    register().compute_advantages(*rollouts())
    trusted = "trusted" in request.node.callspec.id
    assert ("poise_candidate.algorithm" in sys.modules) == trusted


def test_figures_are_equal_with_and_without_the_boundary(register: Register) -> None:
    registration, alone = register(), trusted_algorithm(RECIPE)
    rewards, mask, index = rollouts()
    old, new = log_probs()
    advantages, _ = registration.compute_advantages(rewards, mask, index)
    assert torch.equal(advantages, alone.advantages(rewards, mask, index))
    loss, _ = registration.policy_loss(old, new, advantages, mask.bool())
    (gradient,) = torch.autograd.grad(loss, new)
    expected = alone.gradient(old, new, advantages, mask.bool(), "token-mean")
    assert torch.equal(gradient, expected.by_log_probs)
    assert float(loss.detach()) == expected.loss
