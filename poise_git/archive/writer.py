"""Write without a checkout: objects first, then every ref in one compare-and-swap transaction.

The transaction moves the notes first, then the evidence, and the candidate's branch last. Git renames one lock file
after another, so a kill can leave a part of the transaction. The branch is then missing, and a repeated write completes
it. An existing branch is complete.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from poise_git.archive.documents import dump_reflection, dump_tables, dump_yaml
from poise_git.archive.entries import Candidate, Metrics, Proposal, Reflection, Reproduction, Run
from poise_git.archive.git import Move, RefLocked, Repository
from poise_git.archive.lock import Lock, hold
from poise_git.archive.messages import describe, format_candidate, format_evidence, format_proposal_added, result_note
from poise_git.archive.notes import (
    append,
    as_noted,
    metrics_line,
    note_path,
    note_paths,
    reflection_line,
    reproduction_line,
    run_line,
)
from poise_git.archive.reader import evidence_base, read_note, read_text
from poise_git.archive.refs import (
    METRICS_NOTES,
    REFLECTION_NOTES,
    RESULT_NOTES,
    TRAJECTORY_NOTES,
    candidate_ref,
    evidence_ref,
)
from poise_git.archive.stale import remove_leftover_locks
from poise_git.archive.stream import CommitStream
from poise_git.errors import NameTaken, RefMoved, UnknownCandidate

ALGORITHM = "recipe/algorithm.py"
BLOB_DIGITS = 12
ATTEMPTS = 100
RETRY_SECONDS = 0.2


def proposal_path(name: str) -> str:
    return f"evidence/{name}/proposal.yaml"


def metrics_path(name: str) -> str:
    return f"evidence/{name}/metrics.yaml"


def reflection_path(name: str) -> str:
    return f"evidence/{name}/reflection.md"


def tables_path(name: str) -> str:
    return f"evidence/{name}/evidence.yaml"


@dataclass(frozen=True)
class Change:
    """New commits, and the refs that will move to them in this order; `old` holds the refs as read."""

    old: Mapping[str, str | None]
    stream: CommitStream
    moves: list[tuple[str, str]] = field(default_factory=list)

    def move(self, ref: str, commit: str) -> None:
        """Let `ref` move to a commit of the stream."""
        self.moves.append((ref, commit))

    def grow(self, ref: str, message: str, files: Mapping[str, str | bytes], removed: Sequence[str] = ()) -> None:
        """Add a commit on top of the old value of `ref` (or a first commit), and move it there."""
        before = self.old[ref]
        self.move(ref, self.stream.commit(message, [before] if before else [], files, removed))


def publish(repository: Repository, refs: Sequence[str], build: Callable[[Change], None]) -> dict[str, str]:
    """Read `refs`, let `build` add commits for them, and move them together. Repeat this if a ref moved meanwhile.

    Returns the new commit of each ref moved.

    Raises:
        RefMoved: a ref moved at every attempt.
        ArchiveLocked: another writer holds the lock.
    """
    for attempt in range(ATTEMPTS):
        with hold(repository.common_dir, Lock.WRITE):
            change = Change({ref: repository.object_id(ref) for ref in refs}, CommitStream(repository.identity))
            build(change)
            if not change.moves:
                return {}
            made = repository.fast_import(change.stream)
            moves = [Move(ref, made[commit], change.old[ref]) for ref, commit in change.moves]
            try:
                repository.move_refs(moves)
            except RefLocked:
                if not remove_leftover_locks(repository) and attempt == ATTEMPTS - 1:
                    raise
                pause = random.uniform(0.0, RETRY_SECONDS)
            except RefMoved:
                if attempt == ATTEMPTS - 1:
                    raise
                pause = 0.0
            else:
                repository.roll_up_packs()
                return {move.ref: move.new for move in moves}
        time.sleep(pause)
    raise RefMoved(f"{repository.git_dir}: {', '.join(refs)} kept changing; stop the other writer and try again")


def add_candidate(repository: Repository, proposal: Proposal, algorithm: str) -> Candidate:
    """Make `poise/<name>` on top of its parents and `evidence/<name>` with the proposal.

    Raises:
        NameTaken: a candidate of that name exists.
        UnknownCandidate: a parent does not exist.
        UsageError: the name is invalid.
        ArchiveError: a text cannot be stored.
    """
    said = describe(proposal)
    candidate, evidence = candidate_ref(proposal.name), evidence_ref(proposal.name)
    parents = [candidate_ref(parent) for parent in said.parents]

    def build(change: Change) -> None:
        if change.old[candidate]:
            raise NameTaken(f"a candidate {proposal.name} already exists; choose another name")
        for parent, ref in zip(said.parents, parents, strict=True):
            if not change.old[ref]:
                raise UnknownCandidate(f"{proposal.name}: its parent {parent} is not a candidate of this archive")
        change.stream.date_apart()
        commit = change.stream.commit(
            format_candidate(said), [change.old[ref] or "" for ref in parents], {ALGORITHM: algorithm}
        )
        files = {proposal_path(proposal.name): dump_yaml(proposal.to_data())}
        change.move(evidence, change.stream.commit(format_proposal_added(proposal.name), [commit], files))
        change.move(candidate, commit)

    moved = publish(repository, [*parents, evidence, candidate], build)
    return Candidate(
        name=said.name,
        commit=moved[candidate],
        parents=said.parents,
        mechanism=said.mechanism,
        hypothesis=said.hypothesis,
        family=said.family,
        priors=said.priors,
        agent=said.agent,
        evidence=moved[evidence],
        metrics={},
        claimed=said.parents,
    )


def add_run(repository: Repository, name: str, run: Run) -> None:
    """Append one training run to the candidate's trajectory note.

    Raises:
        UnknownCandidate: no candidate has that name.
    """
    candidate = candidate_ref(name)

    def build(change: Change) -> None:
        commit = _existing(change, candidate, name)
        line = run_line(run, time.time(), algorithm_of(repository, commit))
        _grow_note(repository, change, TRAJECTORY_NOTES, commit, line)

    publish(repository, [candidate, TRAJECTORY_NOTES], build)


def add_reproduction(repository: Repository, name: str, reproduction: Reproduction) -> None:
    """Append the outcome of training a run again to the candidate's trajectory note; its runs stay unchanged.

    Raises:
        UnknownCandidate: no candidate has that name.
    """
    candidate = candidate_ref(name)

    def build(change: Change) -> None:
        commit = _existing(change, candidate, name)
        line = reproduction_line(reproduction, time.time(), algorithm_of(repository, commit))
        _grow_note(repository, change, TRAJECTORY_NOTES, commit, line)

    publish(repository, [candidate, TRAJECTORY_NOTES], build)


def add_note_lines(repository: Repository, lines: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Append lines to many notes at once, with one commit per ref: ref -> commit -> lines."""

    def build(change: Change) -> None:
        for ref, of_commits in lines.items():
            before, files, removed = change.old[ref], dict[str, str | bytes](), list[str]()
            for commit, added in of_commits.items():
                here = note_path(commit)
                files[here] = append(read_note(repository, before, commit) if before else "", added)
                removed += [path for path in note_paths(commit) if path != here]
            change.grow(ref, "notes from the evidence branches\n", files, removed)

    publish(repository, list(lines), build)


def add_evidence(repository: Repository, name: str, metrics: Metrics, reflection: Reflection | None) -> None:
    """Commit metrics and reflection to `evidence/<name>`, and note both on the candidate's commit.

    Raises:
        UnknownCandidate: no candidate has that name.
        ArchiveError: a text cannot be stored.
    """
    candidate, evidence = candidate_ref(name), evidence_ref(name)

    def build(change: Change) -> None:
        commit, now = _existing(change, candidate, name), time.time()
        measured = replace(metrics, algorithm=algorithm_of(repository, commit))
        _grow_note(repository, change, METRICS_NOTES, commit, metrics_line(measured, now))
        files = {metrics_path(name): dump_yaml(measured.to_data())}
        if reflection is not None:
            files[reflection_path(name)] = dump_reflection(reflection)
            if tables := dump_tables(reflection):
                files[tables_path(name)] = tables
            line = reflection_line(reflection, metrics.protocol, now)
            _grow_note(repository, change, REFLECTION_NOTES, commit, line)
        _replace_notes(change, RESULT_NOTES, {commit: result_note(as_noted(metrics))})
        grow_evidence(repository, change, name, commit, format_evidence(name, metrics), files)

    publish(repository, [candidate, METRICS_NOTES, REFLECTION_NOTES, RESULT_NOTES, evidence], build)


def add_proposal(repository: Repository, proposal: Proposal) -> None:
    """Begin the evidence branch of a candidate that a person committed with plain git, with its proposal.

    Raises:
        UnknownCandidate: no candidate has that name.
    """
    name = proposal.name
    candidate, evidence = candidate_ref(name), evidence_ref(name)

    def build(change: Change) -> None:
        commit = _existing(change, candidate, name)
        files = {proposal_path(name): dump_yaml(proposal.to_data())}
        grow_evidence(repository, change, name, commit, format_proposal_added(name), files)

    publish(repository, [candidate, evidence], build)


def algorithm_of(repository: Repository, commit: str) -> str:
    """The algorithm of a commit: the first digits of its blob's id; empty if it has none."""
    return (repository.object_id(f"{commit}:{ALGORITHM}") or "")[:BLOB_DIGITS]


def grow_evidence(
    repository: Repository, change: Change, name: str, commit: str, message: str, files: Mapping[str, str | bytes]
) -> None:
    """Put a commit with `files` on top of the evidence, which begins on the candidate's `commit`.

    If the candidate was rewritten since its last evidence, that evidence becomes a second parent. Of its files, only
    the proposal remains valid.
    """
    before = change.old[evidence_ref(name)]
    if before and evidence_base(repository, name, before) != commit:
        kept = read_text(repository, before, proposal_path(name))
        files = {**({} if kept is None else {proposal_path(name): kept}), **files}
        parents = [commit, before]
    else:
        # A manual candidate has no evidence branch before its first result.
        parents = [before or commit]
    change.move(evidence_ref(name), change.stream.commit(message, parents, files))


def _existing(change: Change, candidate: str, name: str) -> str:
    commit = change.old[candidate]
    if commit is None:
        raise UnknownCandidate(f"no candidate {name} in this archive; `poise-git log` lists them")
    return commit


def replace_result_notes(repository: Repository, results: Mapping[str, Metrics]) -> None:
    """Rewrite the lines of `git lineage`, by commit."""
    lines = {commit: result_note(metrics) for commit, metrics in results.items()}
    publish(repository, [RESULT_NOTES], lambda change: _replace_notes(change, RESULT_NOTES, lines))


def _replace_notes(change: Change, ref: str, lines: Mapping[str, str]) -> None:
    """Replace the note on each commit by its line."""
    files = {note_path(commit): f"{line}\n" for commit, line in lines.items()}
    elsewhere = [path for commit in lines for path in note_paths(commit) if path not in files]
    change.grow(ref, f"{len(lines)} results\n", files, elsewhere)


def _grow_note(repository: Repository, change: Change, ref: str, commit: str, line: str) -> None:
    """Append a line to the note on `commit`, and merge the note into one file of the notes tree."""
    before = change.old[ref]
    text = append(read_note(repository, before, commit) if before else "", [line])
    here = note_path(commit)
    change.grow(ref, f"note on {commit}\n", {here: text}, [path for path in note_paths(commit) if path != here])
