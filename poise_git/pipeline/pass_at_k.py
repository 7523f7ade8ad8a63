"""pass@k from n samples, unbiased."""

from __future__ import annotations

from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the probability that one of k samples is correct, from c correct ones of n >= k.

    pass@k = 1 - C(n - c, k) / C(n, k)   (arXiv:2107.03374, eq. 1)
    """
    return 1.0 - comb(n - c, k) / comb(n, k)
