"""Sampling responses and scoring them: (N, R) tokens and log-probabilities.

Three savings that change no number beyond rounding: a prompt is encoded once for its group, finished rows leave
the batch, and when scoring, identical responses to one prompt are scored once, in batches of similar length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from poise_git.pipeline.backends.testbed.policy import Policy

# Compacting copies the cache: worth it once fewer than this share of the rows are still running.
COMPACT_BELOW = 0.75
LENGTH_BUCKETS = 3


@dataclass(frozen=True)
class Responses:
    """N sampled responses, in the order of their prompts.

    Attributes:
        tokens: (N, R) int64, padded after the end.
        lengths: (N,) int64, the end token included.
        log_probs: (N, R) log-probabilities under the policy that sampled, 0 after the end.
    """

    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor

    def mask(self) -> Tensor:
        """(N, longest) float, 1.0 on response tokens."""
        return (torch.arange(int(self.lengths.max())) < self.lengths.unsqueeze(1)).float()


def sample(policy: Policy, prompts: Tensor, uniforms: Tensor) -> Responses:
    """Sample at temperature 1 by inverting the distribution function.

    Args:
        prompts: (B, P).
        uniforms: (B * G, R) numbers in [0, 1), one a token: rows i * G to (i + 1) * G answer prompt i, and the
            same numbers give the same responses.
    """

    def draw(log_probs: Tensor, rows: Tensor, position: int) -> Tensor:
        cumulative = log_probs.exp().cumsum(-1)
        # Rounding leaves the last sum a little off 1; scaling keeps every draw inside.
        threshold = uniforms[rows, position].unsqueeze(1) * cumulative[:, -1:]
        return (cumulative <= threshold).sum(-1).clamp(max=log_probs.shape[-1] - 1)

    return _decode(policy, prompts, len(uniforms) // len(prompts), draw)


def decode_greedily(policy: Policy, prompts: Tensor) -> Responses:
    """The likeliest token at every position; one response a prompt (B, P)."""
    return _decode(policy, prompts, 1, lambda log_probs, rows, position: log_probs.argmax(-1))


@torch.no_grad()
def _decode(
    policy: Policy, prompts: Tensor, group_size: int, choose: Callable[[Tensor, Tensor, int], Tensor]
) -> Responses:
    """Decode `group_size` responses a prompt; `choose` takes log-probabilities (n, V), their rows and the position."""
    vocabulary = policy.vocabulary
    n, start, longest = len(prompts) * group_size, vocabulary.prompt_length, vocabulary.response_length
    prompt_cache, logits = policy.encode(prompts)
    cache = prompt_cache.with_room(group_size, longest)
    logits = logits.repeat_interleave(group_size, 0)
    responses = Responses(
        tokens=torch.full((n, longest), vocabulary.pad),
        lengths=torch.full((n,), longest),
        log_probs=torch.zeros(n, longest),
    )
    rows, running = torch.arange(n), torch.ones(n, dtype=torch.bool)
    for t in range(longest):
        log_probs = torch.log_softmax(logits, -1)
        tokens = choose(log_probs, rows, t)
        responses.tokens[rows, t] = tokens.where(running, vocabulary.pad)
        responses.log_probs[rows, t] = log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1) * running
        ended = running & (tokens == vocabulary.end)
        responses.lengths[rows[ended]] = t + 1
        running &= ~ended
        active = int(running.sum())
        if active == 0 or t + 1 == longest:
            break
        if active < COMPACT_BELOW * len(rows):
            kept = running.nonzero().squeeze(1)
            rows, tokens, running = rows[kept], tokens[kept], running[kept]
            cache = cache.keep(kept, start + t)
        logits = policy.step(tokens, cache, start + t)
    return responses


def score(policy: Policy, prompts: Tensor, owner: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of given responses, differentiable, and the entropy of each token's distribution.

    Args:
        prompts: (B, P).
        owner: (N,) which prompt each response answers.
        tokens: (N, R), padded after `lengths` (N,).

    Returns:
        both (N, T), T the longest length, 0 after the end; no gradient flows through the entropy.
    """
    longest = int(lengths.max())
    keyed = torch.cat([lengths.unsqueeze(1), owner.unsqueeze(1), tokens[:, :longest]], 1)
    # Sorted by length first, so that neighbours make good buckets.
    distinct, inverse = torch.unique(keyed, dim=0, return_inverse=True)
    cache, first_logits = policy.encode(prompts)
    log_probs, entropies = [], []
    for bucket in distinct.chunk(LENGTH_BUCKETS):
        length = int(bucket[-1, 0])
        who, response = bucket[:, 1], bucket[:, 2 : 2 + length]
        logits = torch.cat([first_logits[who].unsqueeze(1), policy.extend(response[:, :-1], cache, who)], 1)
        distribution = torch.log_softmax(logits, -1)
        padding = (0, longest - length)
        log_probs.append(F.pad(distribution.gather(2, response.unsqueeze(2)).squeeze(2), padding))
        with torch.no_grad():
            entropies.append(F.pad(-(distribution.exp() * distribution).sum(-1), padding))
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    return torch.cat(log_probs)[inverse] * mask, torch.cat(entropies)[inverse] * mask
