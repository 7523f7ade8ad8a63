"""Worlds in which the true utility of every candidate is known, to measure selection.

A landscape determines the children of a candidate. The root has true utility 0, and the optimum has 1. A child's
state, features and noise depend only on the world, the parent and the number of its earlier children. Every policy that
expands the same node for the k-th time therefore gets the same child with the same measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TAGS = 12
DYNAMICS = 4
PROPOSALS = 4
# The correlation of the screening score with the true utility of proposals.
SCREENING = 0.3
WEIGHTS = np.array([0.2, 0.2, 0.15, 0.15, 0.15, 0.15])
WORST = -1.2
BAD = 0.10
RECOVERY = 0.5


@dataclass(frozen=True)
class State:
    """Rows of candidates: core (n, landscape's own), penalty (n,) for broken candidates, tags (n, TAGS)."""

    core: Array
    penalty: Array
    tags: Array

    def __len__(self) -> int:
        return len(self.penalty)

    def take(self, places: NDArray[np.int64]) -> State:
        return State(self.core[places].copy(), self.penalty[places].copy(), self.tags[places].copy())


class Landscape:
    """A world of one kind. Subclasses define the root, the worth of a core, and how a child differs."""

    size = 0

    def root(self) -> State:
        return State(self.root_core()[None], np.zeros(1), np.zeros((1, TAGS)))

    def root_core(self) -> Array:
        return np.zeros(self.size)

    def worth(self, core: Array) -> Array:
        raise NotImplementedError

    def move(self, core: Array, tags: Array, generator: np.random.Generator) -> None:
        """Change children in place."""
        raise NotImplementedError

    def utility(self, state: State) -> Array:
        return np.maximum(self.worth(state.core) - state.penalty, WORST)

    def metrics(self, state: State, profile: Array) -> Array:
        """(n, 6), of weighted sum `utility`; `profile` is a candidate's own unevenness, of weighted sum 0."""
        return self.utility(state)[:, None] + profile

    def children(self, state: State, generator: np.random.Generator) -> State:
        """One child of each row: the proposal that screening likes best."""
        n = len(state)
        child = state.take(np.repeat(np.arange(n), PROPOSALS))
        child.tags[:] *= generator.random(child.tags.shape) > 0.10
        child.penalty[:] *= generator.random(len(child)) >= RECOVERY
        self.move(child.core, child.tags, generator)
        bad = generator.random(len(child)) < BAD
        child.penalty[:] += bad * generator.uniform(0.2, 0.9, len(child))
        true = self.utility(child).reshape(n, PROPOSALS)
        standard = (true - true.mean(1, keepdims=True)) / (true.std(1, keepdims=True) + 1e-9)
        liked = SCREENING * standard + math.sqrt(1 - SCREENING**2) * generator.standard_normal((n, PROPOSALS))
        return child.take(np.arange(n) * PROPOSALS + liked.argmax(1))

    def features(self, state: State, generator: np.random.Generator) -> tuple[Array, Array]:
        """Tags and dynamics (n, DYNAMICS): they tell a little of the state."""
        dynamics = generator.standard_normal((len(state), DYNAMICS))
        dynamics[:, 0] = self.utility(state) + 0.3 * dynamics[:, 0]
        dynamics[:, 2] = (state.penalty > 0) + 0.7 * dynamics[:, 2]
        return state.tags.copy(), dynamics


class Smooth(Landscape):
    """1 - |x|² in five dimensions: every climb reaches the optimum."""

    size = 5

    def root_core(self) -> Array:
        return np.full(5, 1 / math.sqrt(5))

    def worth(self, core: Array) -> Array:
        return 1 - (core**2).sum(1)

    def move(self, core: Array, tags: Array, generator: np.random.Generator) -> None:
        rows = np.arange(len(core))
        step = 0.14 * generator.standard_normal(core.shape)
        core += step
        largest = np.abs(step).argmax(1)
        tags[rows, 2 * largest + (step[rows, largest] > 0)] = 1


class Deceptive(Landscape):
    """Three basins: a stepping stone scores below its parent, and its children may enter the next, higher basin.

    Core: basin, quality within it, on a stone or not, cost of the stone.
    """

    size = 4
    floor = np.array([0.0, 0.4, 0.75])
    ceiling = np.array([0.35, 0.7, 1.0])
    stone, unlock, fall_back = 0.12, 0.35, 0.25

    def worth(self, core: Array) -> Array:
        basin = core[:, 0].astype(int)
        return self.floor[basin] + core[:, 1] * (self.ceiling[basin] - self.floor[basin]) - core[:, 2] * core[:, 3]

    def move(self, core: Array, tags: Array, generator: np.random.Generator) -> None:
        n = len(core)
        on_stone = core[:, 2] > 0
        chance, tagged = generator.random(n), generator.random(n)
        quality = core[:, 1]
        core[:, 1] = np.clip(quality + (1 - quality) * 0.3 * generator.standard_normal(n) - 0.02, -0.5, 1)
        tag = generator.integers(0, TAGS, n)
        new = ~on_stone & (core[:, 0] < 2) & (chance < self.stone)
        unlocked = on_stone & (chance < self.unlock)
        back = on_stone & (chance >= self.unlock) & (chance < self.unlock + self.fall_back)
        cost = generator.uniform(0.2, 0.8, n)
        tag = np.where(new & (tagged < 0.7), generator.integers(0, 3, n), tag)
        core[:, 2] = np.where(new, 1, np.where(unlocked | back, 0, core[:, 2]))
        core[:, 3] = np.where(new, cost, core[:, 3])
        core[:, 0] += unlocked
        core[:, 1] = np.where(unlocked, generator.uniform(0, 0.5, n), core[:, 1])
        tags[np.arange(n), tag] = 1
        tags[(unlocked | back)[:, None] & (np.arange(TAGS) < 3)[None]] = 0

    def features(self, state: State, generator: np.random.Generator) -> tuple[Array, Array]:
        tags, dynamics = super().features(state, generator)
        dynamics[:, 1] = (state.core[:, 2] > 0) + 0.6 * dynamics[:, 1]
        return tags, dynamics


class DeceptiveBlind(Deceptive):
    """The same, with uninformative features."""

    def features(self, state: State, generator: np.random.Generator) -> tuple[Array, Array]:
        n = len(state)
        return (generator.random((n, TAGS)) < 0.25).astype(float), generator.standard_normal((n, DYNAMICS))


class Rugged(Landscape):
    """Kauffman's NK landscape with N = 16, K = 4; the root is an average genome."""

    size = 16
    interactions = 4

    def __init__(self, world: int) -> None:
        generator = np.random.default_rng([77, world])
        n = self.size
        self._near = np.array(
            [
                [i, *generator.choice([j for j in range(n) if j != i], self.interactions, replace=False)]
                for i in range(n)
            ]
        )
        self._table = generator.random((n, 2 ** (self.interactions + 1)))
        genomes = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)
        fitness = self._fitness(genomes)
        average = np.abs(fitness - np.quantile(fitness, 0.5)).argmin()
        self._root, self._low, self._high = genomes[average], fitness[average], fitness.max()

    def _fitness(self, genomes: Array) -> Array:
        bits = genomes.astype(np.int64)
        powers = 1 << np.arange(self.interactions + 1)
        parts = [self._table[i, bits[:, self._near[i]] @ powers] for i in range(self.size)]
        return np.mean(parts, axis=0)

    def root_core(self) -> Array:
        return self._root.copy()

    def worth(self, core: Array) -> Array:
        return (self._fitness(core) - self._low) / (self._high - self._low)

    def move(self, core: Array, tags: Array, generator: np.random.Generator) -> None:
        n = len(core)
        flips = 1 + (generator.random(n) < 0.5) + (generator.random(n) < 0.2)
        order = generator.random((n, self.size)).argsort(1).argsort(1)
        core[:] = np.abs(core - (order < flips[:, None]))
        tags[:] = core[:, :TAGS]


class ManyObjectives(Landscape):
    """Six metrics with ceilings; the two that weigh most move seldom, and at the cost of the others."""

    size = 6

    def worth(self, core: Array) -> Array:
        return np.asarray((WEIGHTS * (1 - np.exp(-core))).sum(1) / 0.9)

    def metrics(self, state: State, profile: Array) -> Array:
        return np.maximum((1 - np.exp(-state.core)) / 0.9 - state.penalty[:, None], -1.5) + 0.3 * profile

    def move(self, core: Array, tags: Array, generator: np.random.Generator) -> None:
        n = len(core)
        rows = np.arange(n)
        common = generator.normal(0.12, 0.45, (n, 4)) * (generator.random((n, 4)).argsort(1) < 2)
        hard = generator.random(n) < 0.12
        which = generator.integers(0, 2, n)
        common -= hard[:, None] * generator.uniform(0.05, 0.45, (n, 4))
        core[:, 2:] = np.maximum(core[:, 2:] + common, -0.5)
        core[:, :2] = np.maximum(core[:, :2] - 0.04 * np.abs(generator.standard_normal((n, 2))), -0.3)
        core[rows, which] += hard * generator.uniform(0.5, 1.6, n)
        tags[rows, np.where(hard, which, 2 + common.argmax(1))] = 1

    def features(self, state: State, generator: np.random.Generator) -> tuple[Array, Array]:
        tags, dynamics = super().features(state, generator)
        dynamics[:, 1] = state.core[:, 0] + state.core[:, 1] + 0.5 * dynamics[:, 1]
        return tags, dynamics


LANDSCAPES = ("smooth", "deceptive", "deceptive-blind", "rugged", "many-objectives")
# Landscapes with the same number have the same worlds.
_KIND = {"smooth": 3, "deceptive": 1, "deceptive-blind": 1, "rugged": 2, "many-objectives": 4}


@cache
def landscape(name: str, world: int) -> Landscape:
    """The landscape of that name in one world."""
    if name == "rugged":
        return Rugged(world)
    kinds = {
        "smooth": Smooth,
        "deceptive": Deceptive,
        "deceptive-blind": DeceptiveBlind,
        "many-objectives": ManyObjectives,
    }
    return kinds[name]()


@dataclass
class Measured:
    """A candidate of a world: its state, how to draw its children, and its features for a policy."""

    state: State
    key: tuple[int, ...]
    parent: int
    depth: int
    true: float
    metrics: Array
    tags: Array
    dynamics: Array
    children: int = 0
    evaluations: int = 1

    @property
    def utility(self) -> float:
        return float(self.metrics @ WEIGHTS)


class World:
    """One world with its evaluated candidates; `noise` is the standard deviation of a measured utility."""

    def __init__(self, name: str, number: int, noise: float) -> None:
        self.landscape = landscape(name, number)
        self.number, self.noise = number, noise
        self.metric_noise = noise / math.sqrt(float((WEIGHTS**2).sum()))
        self.evaluated: list[Measured] = []
        self._measure(self.landscape.root(), (_KIND[name], number), -1)

    def expand(self, place: int) -> None:
        """Evaluate the next child of a node."""
        parent = self.evaluated[place]
        key = (*parent.key, parent.children)
        parent.children += 1
        self._measure(self.landscape.children(parent.state, np.random.default_rng([9, *key])), key, place)

    def evaluate_again(self, place: int) -> None:
        """Another independent measurement of a node, averaged with those before."""
        node = self.evaluated[place]
        again = self._metrics(node.state, node.key, node.evaluations)
        node.metrics = (node.metrics * node.evaluations + again) / (node.evaluations + 1)
        node.evaluations += 1

    def _metrics(self, state: State, key: tuple[int, ...], draw: int) -> Array:
        own = np.random.default_rng([5, *key])
        profile = 0.1 * own.standard_normal((1, 6))
        profile -= (profile @ WEIGHTS)[:, None]
        noise = np.random.default_rng([6, draw, *key]).standard_normal(6)
        return np.asarray(self.landscape.metrics(state, profile)[0] + noise * self.metric_noise)

    def _measure(self, state: State, key: tuple[int, ...], parent: int) -> None:
        tags, dynamics = self.landscape.features(state, np.random.default_rng([7, *key]))
        self.evaluated.append(
            Measured(
                state=state,
                key=key,
                parent=parent,
                depth=self.evaluated[parent].depth + 1 if parent >= 0 else 0,
                true=float(self.landscape.utility(state)[0]),
                metrics=self._metrics(state, key, 0),
                tags=tags[0],
                dynamics=dynamics[0],
            )
        )

    def potential(self, repeats: int = 24) -> Array:
        """The true yield of each node: the expected best of three children and their three children each."""
        generator = np.random.default_rng([8, self.number])
        found = []
        for node in self.evaluated:
            children = self.landscape.children(node.state.take(np.zeros(3 * repeats, dtype=np.int64)), generator)
            further = self.landscape.children(children.take(np.repeat(np.arange(len(children)), 3)), generator)
            best_child = self.landscape.utility(children).reshape(repeats, 3).max(1)
            best_further = self.landscape.utility(further).reshape(repeats, 9).max(1)
            found.append(float(np.maximum(best_child, best_further).mean()))
        return np.array(found)
