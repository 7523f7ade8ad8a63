"""The cost of one selection: `python tests/benchmarks/selection_cost.py` prints milliseconds on one core.

Three parents among 64, 1,000 and 10,000 nodes of a random genealogy, without start-up, the best of five.
"""

from __future__ import annotations

import argparse
import os
import random
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from poise_git.search.selection import POLICIES
from poise_git.search.selection.interface import Node, Survey
from poise_git.settings import SearchSettings

SIZES = (64, 1000, 10_000)
WORDS = [f"mechanism-{number}" for number in range(40)]


def archive(size: int) -> Survey:
    lot = random.Random(size)
    nodes = [Node("grpo", (), 0.5, 0.01, (0.5,) * 5, (0.01,) * 5, (1.0,) * 8)]
    children = {"grpo": 0}
    for number in range(1, size):
        parent = lot.choice(nodes)
        utility = parent.utility + lot.gauss(0.0, 0.02)
        name = f"candidate-{number}"
        nodes.append(
            Node(
                name, (parent.name,), utility, 0.01,
                metrics=tuple(utility + lot.gauss(0.0, 0.02) for _ in range(5)),
                metric_errors=(0.01,) * 5,
                dynamics=tuple(lot.gauss(0.0, 1.0) for _ in range(8)),
                mechanisms=parent.mechanisms | {lot.choice(WORDS)},
                text=" ".join(lot.choices(WORDS, k=30)),
                depth=parent.depth + 1,
            )
        )  # fmt: skip
        children[name] = 0
        children[parent.name] += 1
    return Survey(tuple(nodes), children)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    for size in arguments.parse_args().sizes:
        survey = archive(size)
        for name, make in POLICIES.items():
            policy = make(SearchSettings())
            policy.select(archive(64), 3, 0)
            times = []
            for _ in range(5):
                # A survey caches derived values, so each repeat needs a new one.
                fresh = Survey(survey.nodes, survey.children)
                started = time.perf_counter()
                policy.select(fresh, 3, 0)
                times.append(time.perf_counter() - started)
            print(f"{name:6s} {size:6d} nodes  {1000 * min(times):7.1f} ms")


if __name__ == "__main__":
    main()
