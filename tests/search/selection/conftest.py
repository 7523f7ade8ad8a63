from __future__ import annotations

import random

from poise_git.search.selection.interface import Node, Survey


def node(name: str, utility: float, *parents: str, error: float = 0.01, words: str = "", depth: int = 0) -> Node:
    return Node(
        name=name,
        parents=parents,
        utility=utility,
        error=error,
        metrics=(utility, -utility),
        metric_errors=(error, error),
        mechanisms=frozenset(words.split()),
        text=f"{name} {words}",
        depth=depth,
    )


def survey_of(*nodes: Node, remaining: int | None = None) -> Survey:
    children = {each.name: sum(each.name in other.parents for other in nodes) for each in nodes}
    return Survey(nodes, children, remaining)


def grown(size: int, seed: int = 0) -> Survey:
    """A random archive with one root, crossovers, an exact tie and one diverged candidate."""
    lot = random.Random(seed)
    nodes = [node("grpo", 0.5)]
    for number in range(1, size):
        parent = lot.choice(nodes)
        other = lot.choice(nodes)
        parents = (parent.name, other.name) if number % 9 == 0 and other is not parent else (parent.name,)
        utility = parent.utility + lot.gauss(0.0, 0.02)
        if number == 7:
            utility = -40.0
        if number == 8:
            utility = 0.5
        words = " ".join(lot.sample(("baseline", "scale", "clip", "length", "entropy"), 2))
        nodes.append(node(f"c{number}", utility, *parents, words=words, depth=parent.depth + 1))
    return survey_of(*nodes)
