"""From the genealogy to what selection needs: eligible nodes, their noise, the best one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from poise_git.archive.entries import Candidate, Metrics, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.search.acquisition import Node

SMALLEST_SCALE = 1e-6


def evaluated(genealogy: Genealogy, protocol: str) -> dict[str, tuple[Candidate, Metrics]]:
    """Candidates with metrics under `protocol`, in the order of their commits; the root comes first."""
    return {
        candidate.name: (candidate, metrics)
        for candidate in genealogy
        if (metrics := candidate.metrics_under(protocol)) and metrics.status is Status.EVALUATED and metrics.utility
    }


def eligible_nodes(genealogy: Genealogy, protocol: str) -> list[Node]:
    """Every evaluated candidate as a node of the acquisition."""
    nodes = []
    for name, (candidate, metrics) in evaluated(genealogy, protocol).items():
        assert metrics.utility is not None
        nodes.append(
            Node(
                name=name,
                parents=candidate.parents,
                utility=metrics.utility.value,
                metrics=tuple(metrics.values[metric].value for metric in sorted(metrics.values)),
                features=mechanism_words(genealogy, candidate),
                depth=genealogy.depth(name),
            )
        )
    return nodes


def mechanism_words(genealogy: Genealogy, candidate: Candidate) -> frozenset[str]:
    """Priors and families along the whole line of descent: a candidate has the mechanisms of its ancestors too."""
    line = (*genealogy.ancestors(candidate.name), candidate)
    return frozenset(word for node in line for word in (*node.priors, f"family:{node.family}"))


def utility_scale(genealogy: Genealogy, protocol: str) -> float:
    """beta, the noise-aware scale of U: its spread over the archive, at least two standard errors of a gain."""
    found = [metrics for _, metrics in evaluated(genealogy, protocol).values()]
    utilities = [metrics.utility.value for metrics in found if metrics.utility]
    spread = statistics.stdev(utilities) if len(utilities) > 1 else 0.0
    errors = [metrics.gain.se for metrics in found if metrics.gain and metrics.gain.se is not None]
    return max(spread, 2.0 * statistics.median(errors) if errors else 0.0, SMALLEST_SCALE)


def best(genealogy: Genealogy, protocol: str) -> tuple[Candidate, Metrics] | None:
    """The evaluated candidate with the largest utility; every candidate has run on the same seeds."""
    found = evaluated(genealogy, protocol)
    if not found:
        return None
    return max(found.values(), key=lambda pair: pair[1].utility.value if pair[1].utility else float("-inf"))


def gains_over_parent(genealogy: Genealogy, protocol: str) -> Mapping[str, float]:
    """U(child) - U(parent) of every evaluated child of an evaluated parent."""
    found = evaluated(genealogy, protocol)
    gains = {}
    for name, (candidate, metrics) in found.items():
        parents: Sequence[str] = [parent for parent in candidate.parents if parent in found]
        if parents and metrics.utility:
            best_parent = max(utility.value for parent in parents if (utility := found[parent][1].utility))
            gains[name] = metrics.utility.value - best_parent
    return gains
