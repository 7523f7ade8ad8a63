"""Rebuild missing notes from the evidence branches.

Both hold metrics and reflections. Only notes hold trajectories; to restore these, fetch the notes or train again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from poise_git.archive.configure import NOTES_REFSPEC, remotes
from poise_git.archive.conformity import Finding
from poise_git.archive.entries import Candidate, Status
from poise_git.archive.evidence import read_reflection
from poise_git.archive.fetching import fetch
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.git import Repository
from poise_git.archive.measured import Measured, evidence_metrics
from poise_git.archive.messages import result_note
from poise_git.archive.notes import latest_metrics, metrics_line, reflection_line
from poise_git.archive.reader import read_genealogy, read_note
from poise_git.archive.refs import METRICS_NOTES, REFLECTION_NOTES, RESULT_NOTES, TRAJECTORY_NOTES
from poise_git.archive.writer import add_note_lines, replace_result_notes
from poise_git.errors import ArchiveError

# The number of candidates that a line names.
NAMED = 3


@dataclass(frozen=True)
class _Lacking:
    """A candidate whose evidence branch has metrics (by protocol) that its notes lack."""

    name: str
    commit: str
    measured: Mapping[str, Measured]


def missing_notes(repository: Repository) -> Iterator[Finding]:
    """Metrics that are on evidence branches but not in the notes."""
    genealogy = read_genealogy(repository)
    lacking = [each.name for each in _lacking(repository, genealogy)]
    if lacking:
        fetch = "".join(
            f"git fetch {shlex.quote(remote)} '{NOTES_REFSPEC}' if it has them, else " for remote in remotes(repository)
        )
        yield Finding(
            METRICS_NOTES,
            f"{_candidates(lacking)} on the evidence branches alone and are read from there: "
            "branches were pushed or cloned without notes",
            f"{fetch}poise-git doctor --repair, which rebuilds metrics and reflections; trajectories cannot be rebuilt",
            repairable=True,
        )


def missing_results(repository: Repository) -> Iterator[Finding]:
    """Candidates whose result in `git lineage` is missing or differs from their metrics."""
    wrong = _with_wrong_result(repository, read_genealogy(repository))
    for names, what in (
        ([each.name for each, printed in wrong if not printed], "not in `git lineage`"),
        ([each.name for each, printed in wrong if printed], "other ones in `git lineage` than in the metrics"),
    ):
        if names:
            what = f"{_candidates(names)} {what}"
            yield Finding(RESULT_NOTES, what, "poise-git doctor --repair", repairable=True)


def fetch_notes(repository: Repository) -> None:
    """Fetch the notes of every remote if some are missing here."""
    genealogy = read_genealogy(repository)
    if _without_runs(repository, genealogy) or any(_lacking(repository, genealogy)):
        for remote in remotes(repository):
            # If a remote has no notes or is unreachable, or both sides have new lines, use the branches.
            with suppress(ArchiveError):
                fetch(repository, remote, (NOTES_REFSPEC,))


def restore_notes(repository: Repository) -> None:
    """Write the metrics and reflections that notes lack, each with the date of its evidence commit."""
    metrics, reflections = dict[str, list[str]](), dict[str, list[str]]()
    for each in _lacking(repository, read_genealogy(repository)):
        for protocol, measured in each.measured.items():
            at = _time_of(repository, measured.commit)
            metrics.setdefault(each.commit, []).append(metrics_line(measured.metrics, at))
            with suppress(ArchiveError):
                if reflection := read_reflection(repository, measured.commit, each.name):
                    line = reflection_line(reflection, protocol, at)
                    reflections.setdefault(each.commit, []).append(line)
    lines = {ref: of for ref, of in ((METRICS_NOTES, metrics), (REFLECTION_NOTES, reflections)) if of}
    if lines:
        add_note_lines(repository, lines)
    if wrong := _with_wrong_result(repository, read_genealogy(repository)):
        replace_result_notes(repository, {each.commit: list(each.metrics.values())[-1] for each, _ in wrong})


def _lacking(repository: Repository, genealogy: Genealogy) -> Iterator[_Lacking]:
    for candidate in genealogy:
        if candidate.evidence is None or not candidate.metrics:
            continue
        noted = latest_metrics(read_note(repository, METRICS_NOTES, candidate.commit))
        if candidate.metrics.keys() <= noted.keys():
            continue
        found = evidence_metrics(repository, candidate.name, candidate.commit, candidate.evidence)
        measured = {protocol: own for protocol, own in found.items() if protocol not in noted}
        if measured:
            yield _Lacking(candidate.name, candidate.commit, measured)


def _with_wrong_result(repository: Repository, genealogy: Genealogy) -> list[tuple[Candidate, str]]:
    """Candidates whose result note is not the line of their metrics under any protocol, and that note."""
    printed = ((each, read_note(repository, RESULT_NOTES, each.commit)) for each in genealogy if each.metrics)
    return [
        (each, note) for each, note in printed if note not in {f"{result_note(own)}\n" for own in each.metrics.values()}
    ]


def _without_runs(repository: Repository, genealogy: Genealogy) -> list[str]:
    """Evaluated candidates without a trajectory note."""
    return [
        candidate.name
        for candidate in genealogy
        if any(metrics.status is Status.EVALUATED for metrics in candidate.metrics.values())
        and not read_note(repository, TRAJECTORY_NOTES, candidate.commit)
    ]


def _candidates(names: list[str]) -> str:
    """`the figures of 12 candidates (a, b, c, …) are`."""
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return (
        f"the figures of 1 candidate ({shown}) are"
        if len(names) == 1
        else f"the figures of {len(names)} candidates ({shown}) are"
    )


def _time_of(repository: Repository, commit: str) -> float:
    """The time of a commit, in Unix seconds."""
    entry = repository.read(commit)
    header = entry[1].decode(errors="replace").partition("\n\n")[0] if entry else ""
    found = re.search(r"^committer .*> (\d+) ", header, flags=re.MULTILINE)
    return float(found[1]) if found else 0.0
