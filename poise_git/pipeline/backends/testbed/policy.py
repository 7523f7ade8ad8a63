"""The policy: a small decoder-only transformer (pre-norm, ReLU, learned positions) with a key/value cache.

A prompt is encoded once, however many responses to it are sampled or scored.
Shapes: B prompts of P tokens, N responses of T <= R tokens, L layers, H heads of width D, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poise_git.pipeline.backends.testbed.settings import PolicySettings
from poise_git.pipeline.backends.testbed.task import Vocabulary


@dataclass(frozen=True)
class Cache:
    """Keys and values of what has been read, one tensor (N, H, positions, D) a layer."""

    keys: list[Tensor]
    values: list[Tensor]

    def with_room(self, group_size: int, positions: int) -> Cache:
        """Every row `group_size` times in a row, with room for that many more positions."""

        def grow(read: Tensor) -> Tensor:
            n, heads, length, width = read.shape
            grown = torch.empty(n * group_size, heads, length + positions, width)
            grown[:, :, :length] = read.repeat_interleave(group_size, 0)
            return grown

        return Cache(list(map(grow, self.keys)), list(map(grow, self.values)))

    def keep(self, rows: Tensor, length: int) -> Cache:
        """The given rows only, their first `length` positions filled."""

        def shrink(full: Tensor) -> Tensor:
            kept = torch.empty(len(rows), *full.shape[1:])
            kept[:, :, :length] = full[:, :, :length][rows]
            return kept

        return Cache(list(map(shrink, self.keys)), list(map(shrink, self.values)))


class Block(nn.Module):
    def __init__(self, settings: PolicySettings) -> None:
        super().__init__()
        width = settings.width
        self.heads = settings.heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.feedforward_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, settings.feedforward, bias=False)
        self.down = nn.Linear(settings.feedforward, width, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, T, width) -> query, key and value, each (N, H, T, D)."""
        n, length, width = x.shape
        projected = self.query_key_value(self.attention_norm(x)).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        return query, key, value

    def finish(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from `query` to all of `key`, add the result to `x`, then the feed-forward part."""
        attended = attend(query, key, value, mask)
        x = x + self.attention_out(attended.transpose(1, 2).reshape(x.shape))
        update: Tensor = self.down(F.relu(self.up(self.feedforward_norm(x))))
        return x + update


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(D) + mask) v. Plain products: on CPU, at these sizes, faster than the fused kernel."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, -1) @ value


class Policy(nn.Module):
    """Weights drawn from `generator`; `vocabulary` gives the sizes of the embedding tables."""

    causal: Tensor

    def __init__(self, settings: PolicySettings, vocabulary: Vocabulary, generator: torch.Generator) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        positions = vocabulary.prompt_length + vocabulary.response_length
        self.token_embedding = nn.Embedding(vocabulary.size, settings.width)
        self.position_embedding = nn.Embedding(positions, settings.width)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width, bias=False)
        self.head = nn.Linear(settings.width, vocabulary.size, bias=False)
        self.register_buffer("causal", torch.full((positions, positions), float("-inf")).triu(1), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = 0.5 if name.endswith(("attention_out.weight", "down.weight")) else 1.0
                spread = 0.02 if "embedding" in name else residual * weight.shape[1] ** -0.5
                nn.init.normal_(weight, std=spread, generator=generator)

    def encode(self, prompts: Tensor) -> tuple[Cache, Tensor]:
        """Read prompts (B, P): their cache, and the logits (B, V) of the first response token."""
        length = prompts.shape[1]
        x = self.token_embedding(prompts) + self.position_embedding.weight[:length]
        cache = Cache([], [])
        for block in self._layers():
            query, key, value = block.project(x)
            x = block.finish(x, query, key, value, self.causal[:length, :length])
            cache.keys.append(key)
            cache.values.append(value)
        return cache, self.head(self.norm(x[:, -1]))

    def extend(self, tokens: Tensor, prompt_cache: Cache, owner: Tensor) -> Tensor:
        """Logits (N, T, V) after each of `tokens` (N, T), response prefixes; row i continues prompt `owner[i]`."""
        start = self.vocabulary.prompt_length
        stop = start + tokens.shape[1]
        x = self.token_embedding(tokens) + self.position_embedding.weight[start:stop]
        for block, prompt_key, prompt_value in zip(self._layers(), prompt_cache.keys, prompt_cache.values, strict=True):
            query, key, value = block.project(x)
            key = torch.cat([prompt_key[owner], key], 2)
            value = torch.cat([prompt_value[owner], value], 2)
            x = block.finish(x, query, key, value, self.causal[start:stop, :stop])
        logits: Tensor = self.head(self.norm(x))
        return logits

    def step(self, tokens: Tensor, cache: Cache, position: int) -> Tensor:
        """Logits (N, V) after one more token each (N,), at `position`; `cache` has room and is written there."""
        x = (self.token_embedding(tokens) + self.position_embedding.weight[position]).unsqueeze(1)
        for block, keys, values in zip(self._layers(), cache.keys, cache.values, strict=True):
            query, key, value = block.project(x)
            keys[:, :, position], values[:, :, position] = key[:, :, 0], value[:, :, 0]
            x = block.finish(x, query, keys[:, :, : position + 1], values[:, :, : position + 1], None)
        logits: Tensor = self.head(self.norm(x[:, 0]))
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
