"""Non-dominated sorting of metric vectors; larger is better in every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def dominates(left: Sequence[float], right: Sequence[float]) -> bool:
    """At least as good everywhere, better somewhere."""
    return all(a >= b for a, b in zip(left, right, strict=True)) and any(
        a > b for a, b in zip(left, right, strict=True)
    )


def front_ranks(vectors: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Rank of each node's front: 0 for the non-dominated, 1 for those dominated by rank 0 alone, and so on."""
    ranks: dict[str, int] = {}
    remaining = dict(vectors)
    rank = 0
    while remaining:
        front = [
            name
            for name, vector in remaining.items()
            if not any(dominates(other, vector) for other in remaining.values())
        ]
        ranks.update(dict.fromkeys(front, rank))
        for name in front:
            del remaining[name]
        rank += 1
    return ranks
