"""verl's reward manager: three levels of reward, from the same grader as in evaluation. Only verl's processes load it.

reward.reward_manager.source=importlib
reward.reward_manager.name=PoiseRewardManager
reward.reward_manager.module.path=pkg://poise_git.pipeline.backends.verl.reward
+reward.reward_kwargs.valid_wrong=0.1
"""

from __future__ import annotations

import asyncio
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from poise_git.pipeline.backends.verl.grader import Grader, Question

_GRADING_PROCESSES = 2


class PoiseRewardManager(RewardManagerBase):  # type: ignore[misc, unused-ignore]
    """Reward one response: 0 if invalid, `valid_wrong` if valid but wrong, 1 if correct.

    It reads a row's `extra_info`, as `training_data` writes it: kind, golds, answer_format.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **kwargs: Any) -> None:
        """Raises ValueError unless `config` has `reward.reward_kwargs.valid_wrong` between 0 and 1."""
        super().__init__(config, tokenizer, compute_score)
        valid_wrong = (config.reward.get("reward_kwargs") or {}).get("valid_wrong")
        if valid_wrong is None or not 0.0 < float(valid_wrong) < 1.0:
            raise ValueError(f"set +reward.reward_kwargs.valid_wrong between 0 and 1, not {valid_wrong}")
        self._valid_wrong = float(valid_wrong)
        self._longest = int(config.actor_rollout_ref.rollout.response_length)
        self._grader = Grader(_GRADING_PROCESSES)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Return the reward of the last sequence of `data`, and the reasons for it.

        Returns:
            {"reward_score": float, "reward_extra_info": {valid, correct, finished, timed_out: 0.0 or 1.0, words}}.
        """
        item = data[-1:][0]
        question = await asyncio.get_running_loop().run_in_executor(None, self._question, item)
        verdict = await asyncio.wrap_future(self._grader.submit(question))
        level = 1.0 if verdict.correct else self._valid_wrong if verdict.valid else 0.0
        return {
            "reward_score": level,
            "reward_extra_info": {
                "valid": float(verdict.valid),
                "correct": float(verdict.correct),
                "finished": float(question.finished),
                "timed_out": float(verdict.timed_out),
                "words": float(len(question.response.split())),
            },
        }

    def close(self) -> None:
        """End the grading processes, which otherwise end with this one."""
        self._grader.close()

    def _question(self, item: Any) -> Question:
        responses = item.batch["responses"]
        length = int(item.batch["attention_mask"][-responses.shape[-1] :].sum())
        tokens = responses[:length]
        extra = item.non_tensor_batch["extra_info"]
        return Question(
            kind=extra["kind"],
            golds=tuple(map(str, extra["golds"])),
            response=self.tokenizer.decode(tokens, skip_special_tokens=True),
            finished=self._is_finished(tokens.tolist()),
            answer_format=extra["answer_format"],
        )

    def _is_finished(self, tokens: list[int]) -> bool:
        """Whether the model stopped by itself: before the limit only a stop token ends sampling, not always EOS."""
        return len(tokens) < self._longest or tokens[-1] == self.tokenizer.eos_token_id
