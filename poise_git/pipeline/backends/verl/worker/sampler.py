"""verl's replay buffer with a shorter polling interval; verl's default is two seconds."""

from __future__ import annotations

from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

_POLL_SECONDS = 0.05


class PromptReplayBuffer(ReplayBuffer):  # type: ignore[misc]
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, poll_interval=_POLL_SECONDS)
