"""The archive: a search is stored in git and nowhere else.

`Archive` is the interface. The modules behind it:

    refs, entries, messages, notes, documents    the stored data and their formats
    git, stream                                  run git, and make commits
    reader, genealogy, evidence                  read git into values
    writer, journal, lock, stale                 write values to git, one writer at a time
    initialize, configure                        make an archive
    conformity, rewriting, doctor                keep it consistent when people change it with plain git

The package does not depend on reinforcement learning.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from poise_git.archive import configure, conformity, doctor, journal, reader, rewriting, writer
from poise_git.archive.configure import NOTES_REFSPEC
from poise_git.archive.conformity import Finding
from poise_git.archive.documents import load_yaml
from poise_git.archive.entries import ROOT, Call, Candidate, Metrics, Proposal, Reflection, Reproduction, Run
from poise_git.archive.evidence import EvidenceReader, read_reflection
from poise_git.archive.fetching import fetch
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.git import DURABLE, Repository
from poise_git.archive.initialize import initialize
from poise_git.archive.lock import Lock, hold
from poise_git.archive.measured import evidence_metrics
from poise_git.archive.messages import Description
from poise_git.archive.notes import Trajectory, latest_metrics, latest_runs, read_trajectory
from poise_git.archive.refs import (
    METRICS_NOTES,
    TRAJECTORY_NOTES,
    candidate_name,
    candidate_ref,
    evidence_ref,
)
from poise_git.errors import NotAnArchive
from poise_git.untrusted.data import read_entry

__all__ = ["Archive"]

# The mechanism of a manual candidate whose message does not state one.
HUMAN = "human"
UNCLASSIFIED = "unclassified"


class Archive:
    """One search, stored in a git repository.

    Reads do not depend on the branch that is checked out. Writes never touch the work tree or the index.
    A `name` must be the name of an existing candidate; `resolve` finds the candidate that a person's text means.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._evidence = EvidenceReader(repository)
        self._rounds = journal.FieldReader(repository)

    @classmethod
    def open(cls, path: str | Path = ".") -> Archive:
        """Open the archive that contains `path`: its root or any folder in it, a bare clone, or a linked worktree.

        Raises NotAnArchive if there is no archive.
        """
        repository = Repository.discover(Path(path))
        if repository.object_id(candidate_ref(ROOT)):
            return cls(repository)
        if configure.origin(repository):
            raise NotAnArchive(f"{path}: a clone without its candidates; fetch them: poise-git doctor --repair")
        raise NotAnArchive(f"{path}: a git repository, but not an archive; create one elsewhere: poise-git init DIR")

    @classmethod
    def complete(cls, path: str | Path = ".") -> Archive:
        """Open the archive after fetching everything that `git clone` leaves out: candidates, evidence, journal, notes.

        Raises NotAnArchive if it is neither an archive nor a clone of one, and ArchiveError if git cannot fetch.
        """
        repository = Repository.discover(Path(path))
        if not repository.object_id(candidate_ref(ROOT)) and (remote := configure.origin(repository)):
            fetch(repository, remote, configure.archive_refspecs())
        return cls.open(path)

    @classmethod
    def create(cls, directory: str | Path, template: Mapping[str, str | bytes], hooks: Mapping[str, str]) -> Archive:
        """Create a new archive; see `initialize.initialize`."""
        return cls(initialize(Path(directory), template, hooks))

    @property
    def root(self) -> Path:
        """The top of the work tree, or the bare repository."""
        return self.repository.work_tree or self.repository.git_dir

    # Candidates.

    def genealogy(self) -> Genealogy:
        return reader.read_genealogy(self.repository)

    def resolve(self, text: str) -> Candidate:
        """The candidate that `text` refers to: its name, one of its branches, or any revision at its commit or
        evidence.

        Raises UnknownCandidate, with similar names, if no candidate matches.
        """
        genealogy = self.genealogy()
        name = candidate_name(text)
        if name is not None and name in genealogy:
            return genealogy[name]
        commit = self.repository.object_id(f"{text}^{{commit}}")
        if commit is None:
            raise genealogy.unknown(text)
        line = self.repository.lines("rev-list", "--first-parent", commit)
        found = next((genealogy.by_commit[each] for each in line if each in genealogy.by_commit), None)
        if found is None or not (commit == found.commit or self._is_evidence(commit, found)):
            raise genealogy.unknown(text)
        return found

    def _is_evidence(self, commit: str, candidate: Candidate) -> bool:
        if candidate.evidence is None:
            return False
        return commit in self.repository.lines(
            "rev-list", "--first-parent", f"{candidate.commit}..{candidate.evidence}"
        )

    # Files, at any revision (a branch, a ref, a commit).

    def read_text(self, revision: str, path: str) -> str | None:
        """The file `path` at `revision`; None if there is none."""
        return reader.read_text(self.repository, revision, path)

    def list_texts(self, revision: str, folder: str) -> dict[str, str]:
        """Every file under `folder` at `revision`, by path relative to it."""
        return reader.list_texts(self.repository, revision, folder)

    def staged_text(self, path: str) -> str | None:
        """The staged text of the file `path`; None if it is not staged."""
        return self.repository.staged(path)

    def work_tree_text(self, branch: str, path: str) -> str | None:
        """The file `path` in the work tree; None if the file is missing or `branch` is not checked out."""
        if self.repository.work_tree is None or self.repository.head() != f"refs/heads/{branch}":
            return None
        file = self.repository.work_tree / path
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None

    def recipe(self, candidate: str) -> dict[str, str]:
        """The files of `recipe/` of a candidate, or of any revision, by name relative to it.

        Raises:
            UnknownCandidate: neither a candidate nor a revision has this name.
        """
        name = candidate_name(candidate)
        for revision in (candidate_ref(name) if name else candidate, candidate):
            if files := self.list_texts(revision, "recipe"):
                return files
        raise self.genealogy().unknown(candidate)

    def algorithm_id(self, revision: str) -> str | None:
        """Git's id of `recipe/algorithm.py` at a revision, None if it is missing. Equal texts have equal ids."""
        return self.repository.object_id(f"{revision}:{writer.ALGORITHM}")

    def text_of(self, object_id: str) -> str:
        """The text that git stores under an id."""
        found = self.repository.read(object_id)
        return found[1].decode(errors="replace") if found else ""

    def diff(self, of: str, to: str) -> str:
        """The patch that turns one revision into another, as git prints it."""
        return self.repository.patch(of, to)

    def merge(self, base: str, ours: str, theirs: str) -> str | None:
        """The result of git's three-way merge of two texts and their base; None on a conflict."""
        return self.repository.merge_texts(base, ours, theirs)

    # Evidence; `name` is a candidate's name.

    def proposal(self, name: str) -> Proposal | None:
        """The archived proposal; None for a manual candidate without one."""
        path = writer.proposal_path(name)
        text = self.read_text(evidence_ref(name), path)
        return None if text is None else read_entry(Proposal.from_data, load_yaml(text, path), path)

    def description(self, candidate: Candidate) -> Description:
        """The content of a candidate's commit message."""
        return reader.read_description(self.repository, candidate.commit)

    def stated_proposal(self, candidate: Candidate) -> Proposal:
        """The proposal in a candidate's commit message."""
        said = self.description(candidate)
        return Proposal(
            name=candidate.name,
            parent=candidate.parents[0] if candidate.parents else "",
            mechanism=said.mechanism,
            hypothesis=said.hypothesis,
            family=said.family or UNCLASSIFIED,
            agent=said.agent or HUMAN,
            knobs=said.knobs,
            claims=said.claims,
            priors=said.priors,
            second_parent=candidate.parents[1] if len(candidate.parents) > 1 else None,
        )

    def metrics_file(self, name: str) -> Metrics | None:
        """The newest metrics with all details; the genealogy has the short form for every protocol."""
        path = writer.metrics_path(name)
        text = self.read_text(evidence_ref(name), path)
        return None if text is None else read_entry(Metrics.from_data, load_yaml(text, path), path)

    def reflection(self, name: str) -> Reflection | None:
        return read_reflection(self.repository, evidence_ref(name), name)

    def algorithm_of(self, candidate: Candidate) -> str:
        """`recipe/algorithm.py` of a candidate at its commit in the genealogy, cached.

        Raises:
            ArchiveError: the candidate has no algorithm.
        """
        return self._evidence.algorithm(candidate)

    def proposal_of(self, candidate: Candidate) -> Proposal | None:
        """`proposal` for a candidate of the genealogy, cached."""
        return self._evidence.proposal(candidate)

    def reflection_of(self, candidate: Candidate) -> Reflection | None:
        return self._evidence.reflection(candidate)

    def prose_of(self, candidate: Candidate) -> str:
        """A reflection's prose without its facts, which are slow to parse; "" without a reflection."""
        return self._evidence.prose(candidate)

    def runs(self, name: str) -> tuple[Run, ...]:
        """The latest run of every protocol and seed, sorted by both."""
        commit = self.repository.object_id(candidate_ref(name))
        if commit is None:
            return ()
        note = reader.read_note(self.repository, TRAJECTORY_NOTES, commit)
        return latest_runs(note, writer.algorithm_of(self.repository, commit))

    def trajectory(self, candidate: Candidate) -> Trajectory:
        """The content of the trajectory note of a candidate of the genealogy."""
        note = reader.read_note(self.repository, TRAJECTORY_NOTES, candidate.commit)
        return read_trajectory(note, writer.algorithm_of(self.repository, candidate.commit), time.time())

    def noted_metrics(self, candidate: Candidate) -> Mapping[str, Metrics]:
        """The metrics in the note on a candidate's commit, by protocol, without those of the evidence branch."""
        return latest_metrics(reader.read_note(self.repository, METRICS_NOTES, candidate.commit))

    def committed_metrics(self, candidate: Candidate) -> Mapping[str, Metrics]:
        """The metrics on a candidate's evidence branch, by protocol, in full."""
        if candidate.evidence is None:
            return {}
        found = evidence_metrics(self.repository, candidate.name, candidate.commit, candidate.evidence)
        return {protocol: measured.metrics for protocol, measured in found.items()}

    def note_blobs(self, ref: str) -> dict[str, tuple[str, ...]]:
        """The objects that hold the note on each commit."""
        found: dict[str, tuple[str, ...]] = {}
        if self.repository.object_id(ref):
            for path, blob in reader.blobs_of(self.repository, ref):
                commit = path.replace("/", "")
                found[commit] = (*found.get(commit, ()), blob)
        return found

    def fetch_notes_command(self) -> str:
        """The command that fetches the notes of the first remote; empty if there is no remote."""
        return next(
            (f"git fetch {shlex.quote(each)} '{NOTES_REFSPEC}'" for each in configure.remotes(self.repository)), ""
        )

    def state(self, *refs: str) -> tuple[str | None, ...]:
        """The state of all refs; reads at the same state give the same values."""
        return tuple(map(self.repository.object_id, refs))

    # Writing.

    def add_candidate(self, proposal: Proposal, algorithm: str) -> Candidate:
        return writer.add_candidate(self.repository, proposal, algorithm)

    def add_proposal(self, proposal: Proposal) -> None:
        writer.add_proposal(self.repository, proposal)

    def add_run(self, name: str, run: Run) -> None:
        writer.add_run(self.repository, name, run)

    def add_reproduction(self, name: str, reproduction: Reproduction) -> None:
        writer.add_reproduction(self.repository, name, reproduction)

    def add_evidence(self, name: str, metrics: Metrics, reflection: Reflection | None) -> None:
        writer.add_evidence(self.repository, name, metrics, reflection)

    # The journal.

    def write_round(self, number: int, data: Mapping[str, Any], summary: str = "") -> None:
        journal.write_round(self.repository, number, data, summary)

    def rounds(self, after: int = 0) -> tuple[dict[str, Any], ...]:
        """The data of every round, or of those after round number `after`, newest last."""
        return journal.read_rounds(self.repository, after)

    def count_rounds(self) -> int:
        return journal.count_rounds(self.repository)

    def newest_rounds(self, count: int, field: str) -> tuple[tuple[int, Any], ...]:
        """The number and one field of each of the newest rounds, newest last; other fields are not parsed."""
        return self._rounds.newest(count, field)

    def rounds_with(self, text: str, field: str) -> Iterator[tuple[int, Any]]:
        """The number and one field of each round that contains a text, oldest first; read lazily."""
        return journal.read_with(self.repository, text, field)

    def write_directive(self, data: Mapping[str, Any], settings: str, edit: Callable[[str], str]) -> tuple[str, ...]:
        """Journal a directive, and commit the change of the settings; see `journal.write_directive`."""
        return journal.write_directive(self.repository, data, settings, edit)

    def directives(self) -> tuple[dict[str, Any], ...]:
        """The translations of directives, newest last."""
        return journal.read_directives(self.repository)

    def write_calls(self, what: str, calls: Sequence[Call]) -> None:
        """Journal the cost of calls that do not belong to a round; write nothing if there are none."""
        if calls:
            journal.write_calls(self.repository, what, [call.to_data() for call in calls])

    def journaled_calls(self) -> Iterator[Call]:
        """Every ledger entry of the journal."""
        return (read_entry(Call.from_data, data, journal.CALLS_PLACE) for data in journal.read_calls(self.repository))

    def write_principles(self, data: Mapping[str, Any]) -> None:
        journal.write_principles(self.repository, data)

    def principles(self) -> dict[str, Any]:
        return journal.read_principles(self.repository)

    # Upkeep.

    def lock(self, name: Literal["write", "search"], wait: float | None = None) -> AbstractContextManager[None]:
        """Hold a lock of this archive for a `with` block; `wait` in seconds.

        Raises:
            ArchiveLocked: another process holds it.
        """
        return hold(self.repository.common_dir, Lock(name), wait)

    def maintain(self) -> None:
        """Pack the refs, and pack the loose objects of a long search if there are many.

        Also add the refspecs of remotes that were added meanwhile.
        """
        configure.configure(self.repository)
        with self.lock("write"):
            self.repository.run("pack-refs", "--all", options=DURABLE)
            self.repository.roll_up_packs()
            # For a person's git; this package does not read it.
            options = (*DURABLE, "-c", "core.commitGraph=true")
            self.repository.run("commit-graph", "write", "--reachable", "--no-progress", options=options)

    def conformity(self) -> tuple[Finding, ...]:
        """The candidates that break a rule; plain git does not enforce the rules."""
        return conformity.findings(self.repository)

    def follow(self, rewritten: Mapping[str, str]) -> tuple[str, ...]:
        """Move notes and evidence to rewritten commits (old -> new); return the names of the candidates among them."""
        return rewriting.follow(self.repository, rewritten)

    def refuse_push(self, pushed: Mapping[str, str]) -> tuple[Finding, ...]:
        """The problems of the branches (ref -> commit) of a push."""
        return conformity.pushed_findings(self.repository, pushed)

    def local_hooks(self) -> tuple[str, ...]:
        """The names of the person's own hooks, which our hooks call first."""
        return configure.local_hooks(self.repository)

    def examine(self, hooks: Mapping[str, str]) -> tuple[Finding, ...]:
        return doctor.examine(self.repository, hooks)

    def repair(self, hooks: Mapping[str, str]) -> None:
        doctor.repair(self.repository, hooks)
