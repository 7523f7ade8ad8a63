"""The policy: a small decoder-only transformer (pre-norm, ReLU, learned positions) that reads trees of tokens.

Shapes: B trees of at most S tokens, M tokens in all, H heads of width D, V tokens in the vocabulary. Around attention
a row is one head's part of one token, D numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poise_git.pipeline.backends.testbed.settings import PolicySettings
from poise_git.pipeline.backends.testbed.task import Vocabulary
from poise_git.pipeline.backends.testbed.trees import Nodes


class Cache:
    """Keys and values of what has been read: a tensor (B, H, room, D) a layer, its first `filled` slots in use."""

    def __init__(self, settings: PolicySettings, trees: int, room: int) -> None:
        shape = (trees, settings.heads, room, settings.width // settings.heads)
        self.keys = [torch.empty(shape) for _ in range(settings.layers)]
        self.values = [torch.empty(shape) for _ in range(settings.layers)]
        self.filled = 0

    def add(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's (B * H, S, D) behind the filled slots. Returns all of them, (B * H, filled + S, D)."""
        stop = self.filled + key.shape[1]
        keys, values = self.keys[layer].flatten(0, 1), self.values[layer].flatten(0, 1)
        keys[:, self.filled : stop] = key
        values[:, self.filled : stop] = value
        return keys[:, :stop], values[:, :stop]

    def keep(self, trees: Tensor) -> None:
        """The given trees only."""

        def shrink(full: Tensor) -> Tensor:
            kept = torch.empty(len(trees), *full.shape[1:])
            kept[:, :, : self.filled] = full[:, :, : self.filled][trees]
            return kept

        self.keys = list(map(shrink, self.keys))
        self.values = list(map(shrink, self.values))


class Block(nn.Module):
    def __init__(self, settings: PolicySettings) -> None:
        super().__init__()
        width = settings.width
        self.head_width = width // settings.heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.feedforward_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, settings.feedforward, bias=False)
        self.down = nn.Linear(settings.feedforward, width, bias=False)

    def project(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(M, width) -> query, key and value, each (B * H, S, D); `rows` as of `places`."""
        projected = self.query_key_value(self.attention_norm(x)).view(-1, self.head_width)
        query, key, value = F.embedding(rows, projected)
        return query, key, value

    def finish(self, x: Tensor, slots: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attend from `query` to all of `key`, add to `x` what is at its `slots`, then the feed-forward part."""
        # Plain products: on CPU, at these sizes, faster than the fused kernel.
        scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=self.head_width**-0.5)
        attended = torch.bmm(torch.softmax(scores, -1), value)
        x = x + self.attention_out(F.embedding(slots, attended.view(-1, self.head_width)).flatten(1))
        update: Tensor = self.down(self.up(self.feedforward_norm(x)).relu_())
        return x + update


class Policy(nn.Module):
    """Weights drawn from `generator`; `vocabulary` gives the sizes of the embedding tables."""

    def __init__(self, settings: PolicySettings, vocabulary: Vocabulary, generator: torch.Generator) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        positions = vocabulary.prompt_length + vocabulary.response_length
        self.token_embedding = nn.Embedding(vocabulary.size, settings.width)
        self.position_embedding = nn.Embedding(positions, settings.width)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width, bias=False)
        self.head = nn.Linear(settings.width, vocabulary.size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = 0.5 if name.endswith(("attention_out.weight", "down.weight")) else 1.0
                spread = 0.02 if "embedding" in name else residual * weight.shape[1] ** -0.5
                nn.init.normal_(weight, std=spread, generator=generator)

    def read(self, nodes: Nodes, cache: Cache | None = None) -> Tensor:
        """Logits (outputs, V); `cache` holds what was read earlier, has room for these nodes, and is written."""
        heads = self.settings.heads
        rows, slots = places(nodes, heads)
        mask = nodes.mask.unsqueeze(1).expand(-1, heads, -1, -1).flatten(0, 1)
        x = self.token_embedding(nodes.tokens) + self.position_embedding(nodes.positions)
        for layer, block in enumerate(self._layers()):
            query, key, value = block.project(x, rows)
            if cache is not None:
                key, value = cache.add(layer, key, value)
            if layer + 1 == len(self.blocks):
                # The others were needed for their keys and values only.
                x, slots = x[-nodes.outputs :], slots[-nodes.outputs :]
            x = block.finish(x, slots, query, key, value, mask)
        if cache is not None:
            cache.filled += nodes.mask.shape[1]
        logits: Tensor = self.head(self.norm(x))
        return logits

    def _layers(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over `weights`, which nobody has vouched for.

        Raises:
            ValueError: a tensor is missing, left over, of another shape or type, or not finite.
        """
        own = self.state_dict()
        if not isinstance(weights, Mapping) or weights.keys() != own.keys():
            raise ValueError("policy weights are not those of this policy")
        for name, weight in weights.items():
            if not isinstance(weight, Tensor) or weight.shape != own[name].shape or weight.dtype != own[name].dtype:
                raise ValueError(f"policy weights {name} have the wrong shape or type")
            if not bool(weight.isfinite().all()):
                raise ValueError(f"policy weights {name} are not finite")
        self.load_state_dict(dict(weights))


def places(nodes: Nodes, heads: int) -> tuple[Tensor, Tensor]:
    """Which rows go where around attention.

    Returns:
        (3, B * H, S) which of the M * 3 * H projected rows is whose query, key and value: any where a slot is free;
        and (M, H) which of the B * H * S attended rows each token gets back.
    """
    trees, size, _ = nodes.mask.shape
    token = torch.zeros(trees, 1, size, dtype=torch.long)
    token[nodes.tree, 0, nodes.slot] = torch.arange(len(nodes.tree))
    head = torch.arange(heads)
    part = torch.arange(3).view(3, 1, 1, 1)
    rows = (token * 3 + part) * heads + head.unsqueeze(1)
    slots = (nodes.tree.unsqueeze(1) * heads + head) * size + nodes.slot.unsqueeze(1)
    return rows.flatten(1, 2), slots
