"""Sampling responses and scoring them: (N, R) tokens and log-probabilities.

What responses to one prompt have in common is read once, and finished ones are read no further: savings that change
no number beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poise_git.pipeline.backends.testbed.policy import Cache, Policy
from poise_git.pipeline.backends.testbed.trees import trunks, whole_trees

# Dropping the trees that grow no more copies the cache: worth it once fewer than this share are left.
COMPACT_BELOW = 0.5


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

    def __getitem__(self, rows: Tensor) -> Responses:
        return Responses(self.tokens[rows], self.lengths[rows], self.log_probs[rows])


def uniform_numbers(n: int, length: int, generator: torch.Generator) -> Tensor:
    """(n, length) numbers in [0, 1) for `sample`, drawn on the CPU, so that they are the same on every device."""
    return torch.rand(n, length, generator=generator, device="cpu").to(torch.get_default_device())


def sample(policy: Policy, prompts: Tensor, uniforms: Tensor) -> Responses:
    """Sample at temperature 1 by inverting the distribution function.

    Args:
        prompts: (B, P).
        uniforms: (B * G, R) numbers in [0, 1), one a token: rows i * G to (i + 1) * G answer prompt i, and the
            same numbers give the same responses.
    """

    def draw(log_probs: Tensor, rows: Tensor, position: int) -> Tensor:
        return _invert(log_probs, uniforms[rows, position])

    return _decode(policy, prompts, len(uniforms) // len(prompts), draw)


def decode_greedily(policy: Policy, prompts: Tensor) -> Responses:
    """The likeliest token at every position; one response a prompt (B, P)."""
    return _decode(policy, prompts, 1, lambda log_probs, rows, position: log_probs.argmax(-1))


def decode_greedily_and_sample(
    policy: Policy, prompts: Tensor, uniforms: Tensor, temperature: float = 1.0
) -> tuple[Responses, Responses]:
    """What `decode_greedily` and `sample` give, for less than the two; the samples are drawn at `temperature`.

    `log_probs` of both are those at temperature 1.
    """
    size = len(uniforms) // len(prompts) + 1
    # The first response of each group is the greedy one.
    padded = torch.zeros(len(prompts), size, uniforms.shape[1])
    padded[:, 1:] = uniforms.view(len(prompts), size - 1, -1)
    padded = padded.flatten(0, 1)
    greedy = torch.arange(len(padded)) % size == 0

    def choose(log_probs: Tensor, rows: Tensor, position: int) -> Tensor:
        cooled = log_probs if temperature == 1.0 else torch.log_softmax(log_probs / temperature, -1)
        return log_probs.argmax(-1).where(greedy[rows], _invert(cooled, padded[rows, position]))

    both = _decode(policy, prompts, size, choose)
    return both[greedy], both[~greedy]


def _invert(log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """The token (n,) at which each distribution function, of `log_probs` (n, V), passes its number (n,)."""
    cumulative = log_probs.exp().cumsum(-1)
    # Rounding leaves the last sum a little off 1; scaling keeps every draw inside.
    threshold = uniforms.unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1).clamp(max=log_probs.shape[-1] - 1)


@torch.no_grad()
def _decode(
    policy: Policy, prompts: Tensor, group_size: int, choose: Callable[[Tensor, Tensor, int], Tensor]
) -> Responses:
    """Decode `group_size` responses a prompt; `choose` takes log-probabilities (n, V), their rows and the position."""
    vocabulary = policy.vocabulary
    n, start, longest = len(prompts) * group_size, vocabulary.prompt_length, vocabulary.response_length
    responses = Responses(
        tokens=torch.full((n, longest), vocabulary.pad),
        lengths=torch.full((n,), longest),
        log_probs=torch.zeros(n, longest),
    )
    cache = Cache(policy.settings, len(prompts), start + group_size * (longest - 1))
    nodes = trunks(prompts)
    rows = torch.arange(n)
    node = rows // group_size
    for t in range(longest):
        log_probs = torch.log_softmax(policy.read(nodes, cache), -1)[node]
        tokens = choose(log_probs, rows, t)
        responses.tokens[rows, t] = tokens
        responses.log_probs[rows, t] = log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1)
        running = tokens != vocabulary.end
        responses.lengths[rows[~running]] = t + 1
        rows, node, tokens = rows[running], node[running], tokens[running]
        if len(rows) == 0 or t + 1 == longest:
            break
        # Responses that have been alike so far share a node.
        steps, node = torch.unique(node * vocabulary.size + tokens, return_inverse=True)
        nodes = nodes.grow(steps // vocabulary.size, steps % vocabulary.size, start + t)
        growing = torch.unique_consecutive(nodes.tree)
        if len(growing) < COMPACT_BELOW * len(nodes.mask):
            nodes = nodes.keep(growing)
            cache.keep(growing)
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
    tokens = tokens[:, :longest]
    nodes, follows = whole_trees(prompts, owner, tokens, lengths)
    distribution = torch.log_softmax(policy.read(nodes), -1)
    log_probs = distribution.flatten()[follows * policy.vocabulary.size + tokens]
    with torch.no_grad():
        entropy = -(distribution.exp() * distribution).sum(-1)[follows]
    mask = torch.arange(longest) < lengths.unsqueeze(1)
    return log_probs * mask, entropy * mask
