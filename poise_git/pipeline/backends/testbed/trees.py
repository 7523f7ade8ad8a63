"""Prompts and responses as trees of tokens, so that what responses to one prompt have in common is read once.

The trunk of a tree is its prompt; each path from there is the beginning of one response or more. The tokens of all
trees are in one row. Attention alone needs them tree by tree, in a table of slots, of which some may be free.
Shapes: B trees of at most S tokens, M tokens in all; prompts of P tokens; N responses of at most R tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Nodes:
    """Tokens to read.

    Attributes:
        tokens: (M,).
        positions: (M,) from the beginning of the prompt.
        tree: (M,) and
        slot: (M,) are the place of each in the table.
        mask: (B, S, earlier + S) 0 where a slot may attend, else -inf; the slots of nodes read earlier come first.
        outputs: of how many nodes, the last ones, it is asked what follows them.
    """

    tokens: Tensor
    positions: Tensor
    tree: Tensor
    slot: Tensor
    mask: Tensor
    outputs: int

    def grow(self, parent: Tensor, tokens: Tensor, position: int) -> Nodes:
        """The next level: `tokens` (M,) at `position`, each after one of the outputs, `parent` (M,), ascending."""
        parent = parent + len(self.tokens) - self.outputs
        tree = self.tree[parent]
        trees, _, seen = self.mask.shape
        slot, size = _number(tree, trees)
        # Free slots attend to everything: a softmax over nothing is not a number.
        mask = torch.zeros(trees, size, seen + size)
        mask[tree, slot, :seen] = self.mask[tree, self.slot[parent]]
        mask[:, :, seen:] = torch.full((size, size), float("-inf")).fill_diagonal_(0.0)
        return Nodes(tokens, torch.full_like(tokens, position), tree, slot, mask, len(tokens))

    def keep(self, trees: Tensor) -> Nodes:
        """The given trees (ascending) only; no node is in another."""
        tree = torch.searchsorted(trees, self.tree)
        return Nodes(self.tokens, self.positions, tree, self.slot, self.mask[trees], self.outputs)


def trunks(prompts: Tensor) -> Nodes:
    """Prompts (B, P), one a tree; asked what follows each."""
    prompts = prompts.to(torch.get_default_device())
    trees, length = prompts.shape
    tree = torch.arange(trees).unsqueeze(1).expand_as(prompts)
    slot = torch.arange(length).expand_as(prompts)
    tokens, tree, slot = (torch.cat([table[:, :-1].flatten(), table[:, -1]]) for table in (prompts, tree, slot))
    causal = torch.full((length, length), float("-inf")).triu(1)
    return Nodes(tokens, slot, tree, slot, causal.expand(trees, -1, -1), trees)


def whole_trees(prompts: Tensor, owner: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Nodes, Tensor]:
    """Prompts (B, P) and responses (N, R) of `lengths` (N,), to read at once; row i answers prompt `owner[i]`.

    Returns:
        the nodes, and (N, R) which of their outputs each token of a response follows: any of them after its end.
    """
    trunk = trunks(prompts)
    trees, start = prompts.shape
    order = torch.from_numpy(np.lexsort((*tokens.cpu().numpy().T[::-1], owner.cpu().numpy()))).to(tokens.device)
    # The last token is never read: nothing follows it.
    read, owner = tokens[order, :-1], owner[order]
    # Rows that begin alike are neighbours now: a beginning is new where the row has differed from the one before.
    differs = torch.cat([owner.unsqueeze(1), read], 1).diff(dim=0) != 0
    new = torch.arange(read.shape[1]) < lengths[order].unsqueeze(1) - 1
    new[1:] &= differs.cumsum(1)[:, 1:] > 0
    row, depth = new.nonzero(as_tuple=True)
    node = torch.full(new.shape, -1)
    node[new] = torch.arange(len(row))
    node = node.cummax(0).values
    tree = owner[row]
    slot, size = _number(tree, trees)
    slot, size = slot + start, size + start
    mask = torch.full((trees, size, size), float("-inf"))
    mask[:, :start, :start] = trunk.mask
    mask[:, start:, :start] = 0.0
    # The path to a node is a part of its row; slot 0, in the prompt, stands for what comes after the node.
    path = slot[node[row]].where(torch.arange(read.shape[1]) <= depth.unsqueeze(1), 0)
    mask[tree.unsqueeze(1), slot.unsqueeze(1), path] = 0.0
    nodes = Nodes(
        torch.cat([trunk.tokens, read[row, depth]]),
        torch.cat([trunk.positions, depth + start]),
        torch.cat([trunk.tree, tree]),
        torch.cat([trunk.slot, slot]),
        mask,
        trees + len(row),
    )
    follows = torch.empty_like(tokens)
    follows[order] = torch.cat([owner.unsqueeze(1), node + trees], 1)
    return nodes, follows


def _number(tree: Tensor, trees: int) -> tuple[Tensor, int]:
    """Number the nodes of each tree, given the tree of each in ascending order (M,); and the most that a tree has."""
    counts = torch.bincount(tree, minlength=trees)
    return torch.arange(len(tree)) - (counts.cumsum(0) - counts)[tree], int(counts.max())
