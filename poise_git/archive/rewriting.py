"""Move notes and evidence when an amend or a rebase rewrites a candidate's commit.

Git copies the notes itself (`notes.rewriteRef`), even if the code has changed. If the algorithm is unchanged, notes
and evidence move to the new commit. If it has changed, the figures belong to other code: the notes stay on the old
commit, and only the proposal moves. In both cases the earlier evidence becomes a second parent of the new evidence, so
that the old commit and its notes remain reachable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from poise_git.archive.documents import dump_yaml, load_yaml
from poise_git.archive.entries import Proposal
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.git import Repository
from poise_git.archive.messages import describe, format_proposal_added
from poise_git.archive.notes import algorithm_in, append, note_path, note_paths
from poise_git.archive.reader import evidence_base, read_description, read_note, read_text
from poise_git.archive.refs import (
    CANDIDATES,
    METRICS_NOTES,
    REFLECTION_NOTES,
    RESULT_NOTES,
    TRAJECTORY_NOTES,
    candidate_name,
    evidence_ref,
)
from poise_git.archive.writer import (
    Change,
    algorithm_of,
    grow_evidence,
    metrics_path,
    proposal_path,
    publish,
    reflection_path,
    tables_path,
)
from poise_git.untrusted.data import read_entry

NOTES = (METRICS_NOTES, REFLECTION_NOTES, RESULT_NOTES, TRAJECTORY_NOTES)


def follow(repository: Repository, rewritten: Mapping[str, str]) -> tuple[str, ...]:
    """Move notes and evidence of the candidates among the rewritten commits (old -> new); return their names."""
    tips = {commit: name for ref, commit in repository.refs(CANDIDATES).items() if (name := candidate_name(ref))}
    moved = [(tips[new], old, new) for old, new in rewritten.items() if new in tips]
    for name, old, new in moved:
        _follow(repository, name, old, new)
    return tuple(name for name, _, _ in moved)


def follow_all(repository: Repository, genealogy: Genealogy) -> None:
    """Follow the rewrites that git did not report, and remove notes that belong to other code."""
    for candidate in genealogy:
        base = evidence_base(repository, candidate.name, candidate.evidence) if candidate.evidence else None
        own = algorithm_of(repository, candidate.commit)
        foreign = any(metrics.algorithm not in ("", own) for metrics in candidate.metrics.values())
        if foreign or base not in (None, candidate.commit):
            _follow(repository, candidate.name, base or candidate.commit, candidate.commit)


def _follow(repository: Repository, name: str, old: str, new: str) -> None:
    same = algorithm_of(repository, old) == algorithm_of(repository, new)

    def build(change: Change) -> None:
        for ref in NOTES:
            if change.old[ref]:
                _move_note(repository, change, ref, old, new, same=same)
        before = change.old[evidence_ref(name)]
        if before and evidence_base(repository, name, before) != new:
            message, files = _evidence(repository, name, new, before, same=same)
            grow_evidence(repository, change, name, new, message, files)

    publish(repository, [*NOTES, evidence_ref(name)], build)


def _move_note(repository: Repository, change: Change, ref: str, old: str, new: str, *, same: bool) -> None:
    """Copy the lines of the old commit to the new one if the code is the `same`; else remove those that git copied."""
    tip, own = change.old[ref] or "", algorithm_of(repository, new)
    theirs, ours = ([line for line in read_note(repository, tip, each).split("\n") if line] for each in (old, new))
    found = [*ours, *(line for line in theirs if line not in ours)]
    lines = [line for line in found if (same or line not in theirs) and algorithm_in(line) in ("", own)]
    if lines != ours:
        files = {note_path(new): append("", lines)} if lines else {}
        change.grow(ref, f"note on {new}\n", files, [path for path in note_paths(new) if path not in files])


def _evidence(
    repository: Repository, name: str, commit: str, before: str, *, same: bool
) -> tuple[str, Mapping[str, str]]:
    """Message and files of the evidence on the new commit; the proposal comes from the new commit's message."""
    paths = [proposal_path(name), *([metrics_path(name), reflection_path(name), tables_path(name)] if same else [])]
    files = {path: text for path in paths if (text := read_text(repository, before, path)) is not None}
    if (text := files.get(proposal_path(name))) is not None:
        proposal = read_entry(Proposal.from_data, load_yaml(text, proposal_path(name)), proposal_path(name))
        files[proposal_path(name)] = dump_yaml(_as_stated(repository, proposal, commit).to_data())
    subject = repository.text("log", "-1", "--no-show-signature", "--format=%B", before)
    return (f"{subject}\n" if metrics_path(name) in files else format_proposal_added(name)), files


def _as_stated(repository: Repository, proposal: Proposal, commit: str) -> Proposal:
    """The proposal, updated where the message has changed."""
    before, now = describe(proposal), read_description(repository, commit)
    stated: dict[str, object] = {
        field: getattr(now, field)
        for field in ("mechanism", "hypothesis", "family", "priors", "knobs", "claims")
        if getattr(now, field) and getattr(now, field) != getattr(before, field)
    }
    return replace(proposal, **stated)  # type: ignore[arg-type]
