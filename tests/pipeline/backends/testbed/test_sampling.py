from __future__ import annotations

import numpy as np
import pytest
import torch

from poise_git.pipeline.backends.testbed import sampling
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import (
    Responses,
    decode_greedily,
    decode_greedily_and_sample,
    sample,
    score,
)
from poise_git.pipeline.backends.testbed.task import Task

GROUP = 4


def full_forward(policy: Policy, prompts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (N, R, V) at every response position: one causal pass over prompt and response, no cache."""
    sequence = torch.cat([prompts, tokens[:, :-1]], 1)
    length = sequence.shape[1]
    x = policy.token_embedding(sequence) + policy.position_embedding.weight[:length]
    heads = policy.settings.heads
    for block in policy.blocks:
        projected = block.query_key_value(block.attention_norm(x)).unflatten(2, (3, heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + block.attention_out(attended.transpose(1, 2).reshape(x.shape))
        x = x + block.down(torch.relu(block.up(block.feedforward_norm(x))))
    return torch.log_softmax(policy.head(policy.norm(x))[:, prompts.shape[1] - 1 :], -1)


@pytest.fixture
def prompts(task: Task, generator: np.random.Generator) -> torch.Tensor:
    return task.training_problems(24, generator).prompts


@pytest.fixture
def uniforms(task: Task) -> torch.Tensor:
    return torch.rand(24 * GROUP, task.vocabulary.response_length, generator=torch.Generator().manual_seed(1))


def by_position(log_probs: torch.Tensor, responses: Responses) -> torch.Tensor:
    return log_probs.gather(2, responses.tokens.unsqueeze(2)).squeeze(2)


def inside(responses: Responses) -> torch.Tensor:
    return torch.arange(responses.tokens.shape[1]) < responses.lengths.unsqueeze(1)


def test_responses_end_at_different_lengths(policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor) -> None:
    lengths = sample(policy, prompts, uniforms).lengths
    assert len(lengths.unique()) > 4


def test_sampled_log_probabilities_are_those_of_a_full_forward_pass(
    policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor
) -> None:
    responses = sample(policy, prompts, uniforms)
    expected = by_position(full_forward(policy, prompts.repeat_interleave(GROUP, 0), responses.tokens), responses)
    torch.testing.assert_close(responses.log_probs, expected.where(inside(responses), 0.0), atol=1e-5, rtol=0)


def test_sampling_inverts_the_distribution_function(
    policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor
) -> None:
    responses = sample(policy, prompts, uniforms)
    probabilities = full_forward(policy, prompts.repeat_interleave(GROUP, 0), responses.tokens).double().exp()
    above = probabilities.cumsum(-1).gather(2, responses.tokens.unsqueeze(2)).squeeze(2)
    below = above - by_position(probabilities, responses)
    kept = inside(responses)
    assert bool((uniforms[kept] >= below[kept] - 1e-5).all())
    assert bool((uniforms[kept] <= above[kept] + 1e-5).all())


def test_no_token_follows_the_end(policy: Policy, task: Task, prompts: torch.Tensor, uniforms: torch.Tensor) -> None:
    responses = sample(policy, prompts, uniforms)
    assert bool((responses.tokens[~inside(responses)] == task.vocabulary.pad).all())
    short = responses.lengths < task.vocabulary.response_length
    last = responses.tokens[torch.arange(len(short)), responses.lengths - 1]
    assert bool((last[short] == task.vocabulary.end).all())


def test_compaction_changes_nothing(
    policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "COMPACT_BELOW", 1.0)
    compacted = sample(policy, prompts, uniforms)
    monkeypatch.setattr(sampling, "COMPACT_BELOW", 0.0)
    plain = sample(policy, prompts, uniforms)
    assert torch.equal(compacted.tokens, plain.tokens)
    torch.testing.assert_close(compacted.log_probs, plain.log_probs, atol=1e-5, rtol=0)


def test_greedy_is_the_argmax_of_a_full_forward_pass(policy: Policy, prompts: torch.Tensor) -> None:
    responses = decode_greedily(policy, prompts)
    likeliest = full_forward(policy, prompts, responses.tokens).argmax(-1)
    assert torch.equal(likeliest[inside(responses)], responses.tokens[inside(responses)])


def test_score_equals_a_full_forward_pass_with_gradient_and_entropy(
    policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor
) -> None:
    # The same numbers twice in a group: identical responses, which are read once and must count twice.
    uniforms[1::GROUP] = uniforms[0::GROUP]
    responses = sample(policy, prompts, uniforms)
    owner = torch.arange(len(prompts)).repeat_interleave(GROUP)
    longest = int(responses.lengths.max())
    weights = torch.randn(len(owner), longest, generator=torch.Generator().manual_seed(2))
    log_probs, entropy = score(policy, prompts, owner, responses.tokens, responses.lengths)
    assert log_probs.shape == entropy.shape == (len(owner), longest)
    distribution = full_forward(policy, prompts[owner], responses.tokens)
    kept = inside(responses)
    expected = by_position(distribution, responses).where(kept, 0.0)[:, :longest]
    torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=0)
    expected_entropy = -(distribution.exp() * distribution).sum(-1).where(kept, 0.0)[:, :longest]
    torch.testing.assert_close(entropy, expected_entropy, atol=1e-4, rtol=0)
    parameters = list(policy.parameters())
    found = torch.autograd.grad((log_probs * weights).sum(), parameters)
    wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)


def test_score_takes_responses_in_any_order(policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor) -> None:
    responses = sample(policy, prompts, uniforms)
    owner = torch.arange(len(prompts)).repeat_interleave(GROUP)
    expected = score(policy, prompts, owner, responses.tokens, responses.lengths)
    shuffled = torch.randperm(len(owner), generator=torch.Generator().manual_seed(3))
    mixed = responses[shuffled]
    found = score(policy, prompts, owner[shuffled], mixed.tokens, mixed.lengths)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other[shuffled], atol=1e-5, rtol=0)


def test_empty_responses_are_scored(policy: Policy, task: Task, prompts: torch.Tensor) -> None:
    tokens = torch.full((len(prompts), 2), task.vocabulary.pad)
    tokens[:, 0] = task.vocabulary.end
    log_probs, _ = score(
        policy, prompts, torch.arange(len(prompts)), tokens, torch.ones(len(prompts), dtype=torch.long)
    )
    expected = full_forward(policy, prompts, tokens)[:, :1, task.vocabulary.end]
    torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=0)


def test_decoding_together_changes_nothing(policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor) -> None:
    together = decode_greedily_and_sample(policy, prompts, uniforms)
    for one, alone in zip(together, (decode_greedily(policy, prompts), sample(policy, prompts, uniforms)), strict=True):
        assert torch.equal(one.tokens, alone.tokens)
        assert torch.equal(one.lengths, alone.lengths)
        torch.testing.assert_close(one.log_probs, alone.log_probs, atol=1e-5, rtol=0)


def test_a_temperature_sharpens_samples(policy: Policy, prompts: torch.Tensor, uniforms: torch.Tensor) -> None:
    """The first token has probabilities proportional to p^(1 / temperature)."""
    few, n = prompts[:2], 1000
    numbers = torch.rand(len(few) * n, uniforms.shape[1], generator=torch.Generator().manual_seed(1))
    _, sampled = decode_greedily_and_sample(policy, few, numbers, temperature=0.6)
    first = full_forward(policy, few, torch.zeros(len(few), 1, dtype=torch.long))[:, 0]
    likeliest = first.argmax(-1, keepdim=True)
    share = (sampled.tokens[:, 0].view(len(few), n) == likeliest).float().mean(1, keepdim=True)
    expected, at_one = (torch.softmax(first / t, -1).gather(1, likeliest) for t in (0.6, 1.0))
    error = (expected * (1 - expected) / n).sqrt()
    assert ((share - expected).abs() < 4 * error).all()
    assert ((share - at_one) > 4 * error).any()
