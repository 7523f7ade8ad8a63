"""The reward manager inside verl's own contract: its configuration, its loader, its batches, a real tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.backends.verl.conftest import require_verl

pytestmark = pytest.mark.slow

VALID_WRONG = 0.25
LONGEST = 40


@pytest.fixture(scope="module", autouse=True)
def _verl() -> None:
    """Import verl when the first test starts: collection would take 15 seconds longer."""
    require_verl()
    pytest.importorskip("verl.experimental.reward_loop", reason="pip install 'poise-git[verl]'")
    pytest.importorskip("math_verify", reason="pip install 'poise-git[verl]'")


@pytest.fixture(scope="module")
def config() -> Any:
    """verl's own configuration, with the keys by which it loads poise-git's reward manager."""
    import verl.trainer
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(Path(verl.trainer.__file__).parent / "config"), version_base=None):
        return compose(
            "ppo_trainer",
            overrides=[
                "reward.reward_manager.source=importlib",
                "reward.reward_manager.name=PoiseRewardManager",
                "reward.reward_manager.module.path=pkg://poise_git.pipeline.backends.verl.reward",
                f"+reward.reward_kwargs.valid_wrong={VALID_WRONG}",
                f"actor_rollout_ref.rollout.response_length={LONGEST}",
            ],
        )


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer of single bytes, as in the smoke protocol."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "<|im_end|>", "<|other_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|other_end|>"],
    )


@pytest.fixture(scope="module")
def manager(config: Any, tokenizer: Any) -> Iterator[Any]:
    from verl.trainer.ppo.reward import load_reward_manager

    loaded = load_reward_manager(config, tokenizer, reward_router_address=None, reward_model_tokenizer=None)
    assert type(loaded).__name__ == "PoiseRewardManager"
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def batch(tokenizer: Any) -> Callable[..., Any]:
    """One row as verl's agent loop sends it: prompt and response, right-padded when `width` is larger."""

    def build(
        response: str, *, kind: str = "integer", golds: list[str], answer_format: str = "boxed", width: int = 0
    ) -> Any:
        import numpy
        import torch
        from tensordict import TensorDict
        from verl import DataProto

        prompt = tokenizer("2+5=", return_tensors="pt").input_ids
        tokens = tokenizer(response, return_tensors="pt").input_ids
        padding = torch.zeros(1, max(0, width - tokens.shape[1]), dtype=torch.long)
        mask = torch.cat([torch.ones_like(prompt), torch.ones_like(tokens), padding], dim=1)
        extra = {"index": 0, "kind": kind, "golds": golds, "answer_format": answer_format}
        return DataProto(
            batch=TensorDict(
                {"prompts": prompt, "responses": torch.cat([tokens, padding], dim=1), "attention_mask": mask},
                batch_size=1,
            ),
            non_tensor_batch={
                "data_source": numpy.array(["poise"]),
                "reward_model": numpy.array([{"style": "rule", "ground_truth": golds[0]}]),
                "extra_info": numpy.array([extra]),
                "__num_turns__": numpy.array([2]),
                "tool_extra_fields": numpy.array([{}], dtype=object),
            },
        )

    return build


@pytest.mark.parametrize(
    ("response", "level", "valid", "finished"),
    [
        (r"it is \boxed{7}<|im_end|>", 1.0, True, True),
        (r"it is \boxed{8}<|im_end|>", VALID_WRONG, True, True),
        (r"it is 7<|im_end|>", 0.0, False, True),
        # Another stop token: the response is shorter than the limit.
        (r"it is \boxed{7}<|other_end|>", 1.0, True, True),
        # At the maximum length, the last token is part of the answer or the end token.
        (rf"\boxed{{7}}{'.' * 31}", 0.0, False, False),
        (rf"\boxed{{7}}{'.' * 30}<|im_end|>", 1.0, True, True),
    ],
)
@pytest.mark.parametrize("width", [0, 60])
def test_a_response_gets_one_of_three_levels(
    manager: Any, batch: Callable[..., Any], response: str, level: float, valid: bool, finished: bool, width: int
) -> None:
    result = asyncio.run(manager.run_single(batch(response, golds=["7"], width=width)))
    assert result["reward_score"] == level
    extra = result["reward_extra_info"]
    assert (extra["valid"], extra["correct"], extra["finished"]) == (valid, level == 1.0, finished)
    assert extra["words"] == len(response.replace("<|im_end|>", "").split())
    assert all(type(value) is float for value in extra.values())


def test_a_plain_answer_gets_its_level(manager: Any, batch: Callable[..., Any]) -> None:
    result = asyncio.run(manager.run_single(batch("7", golds=["7"], answer_format="plain")))
    assert result["reward_score"] == 1.0


def test_a_hanging_answer_does_not_delay_the_others(manager: Any, batch: Callable[..., Any]) -> None:
    """While one process hangs, the event loop runs on and another process grades."""

    async def together() -> tuple[list[dict[str, Any]], int]:
        hanging = asyncio.create_task(
            manager.run_single(batch(r"\boxed{9^{9^{9^{9}}}}<|im_end|>", kind="math", golds=["5"]))
        )
        beats = 0
        other = asyncio.create_task(
            manager.run_single(batch(r"\boxed{\frac{10}{4}}<|im_end|>", kind="math", golds=[r"\frac{5}{2}"]))
        )
        while not other.done():
            await asyncio.sleep(0.01)
            beats += 1
        return [await other, await hanging], beats

    (right, hung), beats = asyncio.run(together())
    assert right["reward_score"] == 1.0
    assert hung["reward_score"] == VALID_WRONG
    assert hung["reward_extra_info"]["timed_out"] == 1.0
    assert beats > 5


def test_the_level_is_required(config: Any, tokenizer: Any) -> None:
    from omegaconf import OmegaConf, open_dict

    from poise_git.pipeline.backends.verl.reward import PoiseRewardManager

    without = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    with open_dict(without):
        del without.reward["reward_kwargs"]
    with pytest.raises(ValueError, match="valid_wrong"):
        PoiseRewardManager(without, tokenizer)


def test_the_reward_runs_in_a_ray_actor(config: Any, tokenizer: Any, batch: Callable[..., Any], tmp_path: Path) -> None:
    """verl's own worker class in an actor, whose main thread runs the event loop."""
    ray = pytest.importorskip("ray", reason="pip install 'poise-git[verl]'")
    import os
    import sys

    from omegaconf import OmegaConf, open_dict
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    from poise_git.pipeline.backends.verl import startup
    from poise_git.pipeline.backends.verl.launching import HIDDEN

    tokenizer.save_pretrained(tmp_path / "tokenizer")
    ours = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    with open_dict(ours):
        ours.actor_rollout_ref.model.path = str(tmp_path / "tokenizer")
        ours.actor_rollout_ref.model.tokenizer_path = str(tmp_path / "tokenizer")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={
            "env_vars": {
                "PYTHONPATH": os.pathsep.join([str(Path(startup.__file__).parent), *sys.path]),
                HIDDEN: ",".join(name for name, module in sys.modules.items() if module is None and "." not in name),
            }
        },
    )
    try:
        worker = ray.remote(RewardLoopWorker).remote(ours, None)
        data = batch(r"\boxed{\frac{10}{4}}<|im_end|>", kind="math", golds=[r"\frac{5}{2}"])
        result = ray.get(worker.compute_score.remote(data), timeout=240)
    finally:
        ray.shutdown()
    assert result["reward_score"] == 1.0
