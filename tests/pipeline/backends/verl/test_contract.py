"""The arguments with which verl calls a candidate, and the agreement of both GRPOs on recorded rollouts.

A failure names the argument that changed: the recipe template's entry points and its README must be adapted.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch

from poise_git.package_data import template_files
from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.frames import Frame
from poise_git.pipeline.boundary.in_process import InProcess
from poise_git.pipeline.boundary.interface import Gradient

pytestmark = pytest.mark.slow

ROLLOUTS = Path(__file__).parent / "recorded_rollouts.json"
AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")


@pytest.fixture(scope="module")
def core_algos() -> ModuleType:
    return pytest.importorskip("verl.trainer.ppo.core_algos", reason="pip install 'poise-git[verl]'")


class Heard(InProcess):
    """Keeps the last answer; in a run, the loss metrics of a candidate are not used any further."""

    answer: Frame

    def ask(self, *arguments: Any) -> Frame:
        self.answer = super().ask(*arguments)
        return self.answer


@pytest.fixture(scope="module")
def process() -> Heard:
    """The root candidate."""
    return Heard({name: template_files()[f"recipe/{name}"] for name in ("algorithm.py", "rollouts.py")})


@pytest.fixture(scope="module")
def algorithm(process: Heard) -> GuardedAlgorithm:
    """The root candidate as the testbed calls it."""
    return GuardedAlgorithm(process, None, 0)


def require_same(what: str, found: set[str], expected: set[str]) -> None:
    """Fails with the names that changed."""
    changes = [f"{name} is new" for name in sorted(found - expected)]
    changes += [f"{name} is gone" for name in sorted(expected - found)]
    assert not changes, f"verl changed {what}: {', '.join(changes)}"


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def tree_of(function: Callable[..., Any]) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def keywords_of_calls(function: Callable[..., Any], called: str) -> set[str]:
    """The keywords by which `function` calls `called`, over all calls."""
    return {
        str(keyword.arg)
        for node in ast.walk(tree_of(function))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == called
        for keyword in node.keywords
    }


def keys_put_into(function: Callable[..., Any], variable: str) -> set[str]:
    """The keys of the dictionary `variable` of `function`, from its literal and from assignments to its items."""
    keys = set()
    for node in ast.walk(tree_of(function)):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == variable and isinstance(node.value, ast.Dict):
                keys |= {ast.literal_eval(key) for key in node.value.keys if key is not None}
            if isinstance(target, ast.Subscript) and ast.unparse(target.value) == variable:
                keys.add(ast.literal_eval(target.slice))
    return keys


def test_changed_arguments_are_named() -> None:
    def caller(function: Callable[..., Any]) -> None:
        chosen = {"a": 1}
        chosen["b"] = 2
        function(x=1, y=2, **chosen)

    assert keywords_of_calls(caller, "function") == {"x", "y", "None"}
    assert keys_put_into(caller, "chosen") == {"a", "b"}
    with pytest.raises(AssertionError, match="verl changed the call: y is new, z is gone"):
        require_same("the call", {"x", "y"}, {"x", "z"})


def test_verl_passes_known_arguments_to_an_estimator(core_algos: ModuleType) -> None:
    ray_trainer = pytest.importorskip("verl.trainer.ppo.ray_trainer")
    require_same(
        "what compute_advantage passes to a registered estimator",
        keys_put_into(ray_trainer.compute_advantage, "adv_kwargs"),
        {"token_level_rewards", "response_mask", "config", "index", "reward_baselines"}
        # Only for verl's own estimators.
        | {"non_tensor_batch", "batch", "sum_pi_squared", "old_log_probs", "rollout_is_weights"},
    )


def test_an_estimator_receives_known_arguments(core_algos: ModuleType) -> None:
    """verl's own function, with an estimator that records its arguments."""
    ray_trainer = pytest.importorskip("verl.trainer.ppo.ray_trainer")
    from verl import DataProto

    received: dict[str, Any] = {}

    @core_algos.register_adv_est("poise_contract_recorder")  # type: ignore[untyped-decorator]
    def record(**arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        received.update(arguments)
        return arguments["token_level_rewards"], arguments["token_level_rewards"]

    rewards, mask = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64)
    data = DataProto.from_dict(
        tensors={"token_level_rewards": rewards, "response_mask": mask},
        non_tensors={"uid": numpy.array(["a", "b"], dtype=object)},
    )
    try:
        ray_trainer.compute_advantage(data, "poise_contract_recorder", config={})
    finally:
        del core_algos.ADV_ESTIMATOR_REGISTRY["poise_contract_recorder"]
    require_same(
        "what an estimator receives", set(received), {"token_level_rewards", "response_mask", "config", "index"}
    )
    assert list(received["index"]) == ["a", "b"]


def test_verl_passes_known_arguments_to_a_policy_loss(core_algos: ModuleType) -> None:
    losses = pytest.importorskip("verl.workers.utils.losses")
    contract = {
        "old_log_prob",
        "log_prob",
        "advantages",
        "response_mask",
        "loss_agg_mode",
        "config",
        "rollout_is_weights",
    }
    require_same(
        "what ppo_loss passes to a policy loss", keywords_of_calls(losses.ppo_loss, "policy_loss_fn"), contract
    )
    require_same("the signature of its own policy loss", parameters(core_algos.compute_policy_loss_vanilla), contract)


def test_required_signatures_of_verl_are_unchanged(core_algos: ModuleType) -> None:
    for function, expected in (
        (core_algos.register_adv_est, {"name_or_enum"}),
        (core_algos.register_policy_loss, {"name"}),
        (core_algos.get_adv_estimator_fn, {"name_or_enum"}),
        (core_algos.get_policy_loss_fn, {"name"}),
        (
            core_algos.agg_loss,
            {
                "loss_mat",
                "loss_mask",
                "loss_agg_mode",
                "dp_size",
                "batch_num_tokens",
                "global_batch_size",
                "loss_scale_factor",
            },
        ),
        (
            core_algos.compute_grpo_outcome_advantage,
            {"token_level_rewards", "response_mask", "index", "epsilon", "norm_adv_by_std_in_grpo", "config"},
        ),
    ):
        require_same(f"the signature of {function.__name__}", parameters(function), expected)


def test_the_candidate_accepts_the_arguments_that_verl_passes(core_algos: ModuleType, tmp_path: Path) -> None:
    """By keyword, as verl calls: every argument of the contract is one of the entry points'."""
    source = template_files()["recipe/algorithm.py"]
    arguments = {
        node.name: {argument.arg for argument in node.args.args}
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }
    assert {"token_level_rewards", "response_mask", "index", "config"} <= arguments["compute_advantages"]
    assert parameters(core_algos.compute_policy_loss_vanilla) <= arguments["policy_loss"]


def recorded() -> dict[str, Any]:
    """Rollouts of the testbed's own GRPO run, one batch after a few steps, in float32."""
    data = json.loads(ROLLOUTS.read_text())
    shape = data["shape"]
    tensors = {
        name: torch.tensor(data[name], dtype=torch.float32).reshape(shape)
        for name in ("rewards", "mask", "old_log_probs", "log_probs")
    }
    return {**tensors, "group": numpy.array(data["group"])}


def test_the_record_has_varied_rollouts() -> None:
    rollouts = recorded()
    scores = rollouts["rewards"].sum(-1)
    assert len(set(scores.tolist())) == 3
    lengths = rollouts["mask"].sum(-1)
    assert len(set(lengths.tolist())) > 1
    assert (rollouts["log_probs"] != rollouts["old_log_probs"])[rollouts["mask"] > 0].any()


def test_advantages_on_recorded_rollouts_equal_verls(algorithm: GuardedAlgorithm, core_algos: ModuleType) -> None:
    rollouts = recorded()
    ours = algorithm.advantages(rollouts["rewards"], rollouts["mask"], rollouts["group"])
    theirs, _ = core_algos.compute_grpo_outcome_advantage(
        token_level_rewards=rollouts["rewards"],
        response_mask=rollouts["mask"].long(),
        index=rollouts["group"].astype(object),
    )
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_loss_and_gradient_on_recorded_rollouts_equal_verls(
    algorithm: GuardedAlgorithm, process: Heard, core_algos: ModuleType, aggregation: str
) -> None:
    """The gradient as the testbed takes it, and as verl's `vanilla` gives it; the loss of both."""
    config_module = pytest.importorskip("verl.workers.config")
    config = config_module.ActorConfig(
        strategy="fsdp",
        rollout_n=8,
        ppo_micro_batch_size_per_gpu=4,
        clip_ratio=0.2,
        clip_ratio_low=0.2,
        clip_ratio_high=0.2,
    )
    rollouts = recorded()
    mask, old = rollouts["mask"], rollouts["old_log_probs"]
    advantages = algorithm.advantages(rollouts["rewards"], mask, rollouts["group"])
    found: Gradient = algorithm.gradient(old, rollouts["log_probs"], advantages, mask, aggregation)
    metrics = dict(process.answer.content["metrics"])
    assert metrics

    leaf = rollouts["log_probs"].clone().requires_grad_()
    loss, their_metrics = core_algos.compute_policy_loss_vanilla(
        old_log_prob=old,
        log_prob=leaf,
        advantages=advantages,
        response_mask=mask.bool(),
        loss_agg_mode=aggregation,
        config=config,
    )
    loss.backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0
    torch.testing.assert_close(found.by_log_probs, leaf.grad * mask, atol=1e-6, rtol=1e-6)
    for name in metrics:
        assert metrics[name] == pytest.approx(their_metrics[name], abs=1e-6), name
    assert found.loss == pytest.approx(loss.item(), rel=1e-6, abs=1e-6)
