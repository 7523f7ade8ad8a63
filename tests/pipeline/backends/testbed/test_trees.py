from __future__ import annotations

import torch

from poise_git.pipeline.backends.testbed.policy import Cache, Policy
from poise_git.pipeline.backends.testbed.trees import trunks, whole_trees

PROMPTS = torch.tensor([[1, 2, 3], [1, 2, 4], [5, 6, 7]])
OWNER = torch.tensor([2, 0, 0, 2, 0])
TOKENS = torch.tensor([[8, 9, 90, 0], [8, 9, 10, 90], [8, 9, 10, 11], [8, 9, 90, 0], [8, 90, 0, 0]])
LENGTHS = torch.tensor([3, 4, 4, 3, 2])


def test_a_shared_prefix_is_read_once_per_prompt() -> None:
    nodes, follows = whole_trees(PROMPTS, OWNER, TOKENS, LENGTHS)
    # Of prompt 0: 8, 8 9, 8 9 10; of prompt 2: 8, 8 9. Last tokens are not read.
    assert len(nodes.tokens) == PROMPTS.numel() + 5
    assert nodes.outputs == len(PROMPTS) + 5
    assert torch.equal(follows[:, 0], OWNER)
    assert torch.equal(follows[1], follows[2])
    assert torch.equal(follows[0, :3], follows[3, :3])
    assert int(follows[4, 1]) == int(follows[1, 1]) != int(follows[0, 1])


def test_a_node_attends_only_to_its_path() -> None:
    nodes, follows = whole_trees(PROMPTS, OWNER, TOKENS, LENGTHS)
    first_output = len(nodes.tokens) - nodes.outputs
    for row, length in enumerate(LENGTHS.tolist()):
        path = follows[row, 1:length] + first_output
        assert torch.equal(nodes.tokens[path], TOKENS[row, : length - 1])
        assert nodes.positions[path].tolist() == list(range(3, 2 + length))
        for depth, node in enumerate(path):
            visible = nodes.mask[OWNER[row], nodes.slot[node]].isfinite().nonzero().squeeze(1)
            assert visible.tolist() == [0, 1, 2, *nodes.slot[path[: depth + 1]].tolist()]


def test_reading_by_level_equals_reading_at_once(policy: Policy) -> None:
    length = policy.vocabulary.prompt_length
    prompts = torch.randint(0, 90, (6, length), generator=torch.Generator().manual_seed(1))
    # Trees 1, 2 and 4 grow, with one, three and two branches.
    owner = torch.tensor([1, 2, 2, 2, 4, 4])
    tokens = torch.randint(0, 90, (6, 4), generator=torch.Generator().manual_seed(2))
    nodes, follows = whole_trees(prompts, owner, tokens, torch.full((6,), 4))
    expected = policy.read(nodes)[follows]
    with torch.no_grad():
        cache = Cache(policy.settings, len(prompts), length + 9)
        level = trunks(prompts)
        torch.testing.assert_close(policy.read(level, cache)[owner], expected[:, 0], atol=1e-4, rtol=1e-4)
        parent = owner
        for depth in range(3):
            level = level.grow(parent, tokens[:, depth], length + depth)
            if depth == 1:
                growing = torch.tensor([1, 2, 4])
                level = level.keep(growing)
                cache.keep(growing)
            torch.testing.assert_close(policy.read(level, cache), expected[:, depth + 1], atol=1e-4, rtol=1e-4)
            parent = torch.arange(6)
