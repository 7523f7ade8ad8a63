"""Read metrics from evidence branches, for candidates without notes.

`git push --all`, and a clone of its result, contain every branch but no notes. Evidence branches hold the metrics of
every protocol in their history, the newest at the tip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from poise_git.archive.documents import load_yaml
from poise_git.archive.entries import Metrics
from poise_git.archive.git import Repository
from poise_git.errors import ArchiveError

# Cache the metrics files of this many candidates.
REMEMBERED = 4096
# No legitimate history of evidence is longer.
DEEPEST = 1000


@dataclass(frozen=True)
class Measured:
    """Metrics of one protocol, and the evidence commit that has them."""

    commit: str
    metrics: Metrics


def evidence_metrics(repository: Repository, name: str, commit: str, evidence: str) -> Mapping[str, Measured]:
    """The newest metrics of every protocol in the history of `evidence`, if they belong to the candidate's code.

    Unreadable files are skipped; `doctor` reports them.
    """
    own = (repository.object_id(f"{commit}:recipe/algorithm.py") or "")[:12]
    line = list(_line(repository, name, evidence))
    base = repository.object_id(f"{line[-1]}^") if line else None
    found: dict[str, Measured] = {}
    seen = ""
    for each in line:
        blob = repository.object_id(f"{each}:evidence/{name}/metrics.yaml")
        if blob is None or blob == seen:
            continue
        seen = blob
        entry = repository.read(blob)
        metrics = parse_metrics(entry[1].decode(errors="replace"), name) if entry else None
        if metrics is not None and (metrics.algorithm == own or (not metrics.algorithm and base == commit)):
            found.setdefault(metrics.protocol, Measured(each, metrics))
    return found


@lru_cache(REMEMBERED)
def parse_metrics(text: str, name: str) -> Metrics | None:
    """The content of a metrics file; None if the text is not valid."""
    try:
        return Metrics.from_data(load_yaml(text, f"evidence/{name}/metrics.yaml"))
    except (ArchiveError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return None


def _line(repository: Repository, name: str, evidence: str) -> Iterator[str]:
    """The commits of an evidence branch, newest first, down to the candidate's own, which has no evidence."""
    commit: str | None = evidence
    for _ in range(DEEPEST):
        if commit is None or repository.object_id(f"{commit}:evidence/{name}") is None:
            return
        yield commit
        commit = repository.object_id(f"{commit}^")
