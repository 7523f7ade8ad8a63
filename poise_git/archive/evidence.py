"""Read the texts of candidates, each commit once: commits never change, and YAML is slow to parse."""

from __future__ import annotations

from functools import lru_cache

from poise_git.archive.documents import load_reflection, load_yaml, prose_of
from poise_git.archive.entries import Candidate, Proposal, Reflection
from poise_git.archive.git import Repository
from poise_git.archive.reader import read_text
from poise_git.archive.writer import ALGORITHM, proposal_path, reflection_path, tables_path
from poise_git.errors import ArchiveError
from poise_git.untrusted.data import read_entry

# Cache the documents of this many candidates, the most recently used ones.
KEPT = 2048


def read_reflection(repository: Repository, revision: str, name: str) -> Reflection | None:
    """The reflection at `revision` of an evidence branch, or None.

    Raises ArchiveError if it cannot be parsed.
    """
    paths = reflection_path(name), tables_path(name)
    text, tables = (read_text(repository, revision, path) for path in paths)
    return None if text is None else load_reflection(text, paths[0], tables, paths[1])


class EvidenceReader:
    """The algorithms, proposals and reflections of candidates, at their commits in a genealogy."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._proposal = lru_cache(KEPT)(self._read_proposal)
        self._reflection = lru_cache(KEPT)(self._read_reflection)
        self._algorithm = lru_cache(KEPT)(self._read_algorithm)
        self._text = lru_cache(KEPT)(self._read_reflection_text)

    def proposal(self, candidate: Candidate) -> Proposal | None:
        return self._proposal(candidate.evidence, candidate.name) if candidate.evidence else None

    def reflection(self, candidate: Candidate) -> Reflection | None:
        return self._reflection(candidate.evidence, candidate.name) if candidate.evidence else None

    def prose(self, candidate: Candidate) -> str:
        text = self._text(candidate.evidence, candidate.name) if candidate.evidence else None
        return prose_of(text) if text is not None else ""

    def algorithm(self, candidate: Candidate) -> str:
        return self._algorithm(candidate.commit, candidate.name)

    def _read_algorithm(self, commit: str, name: str) -> str:
        text = read_text(self._repository, commit, ALGORITHM)
        if text is None:
            raise ArchiveError(f"candidate {name} (commit {commit[:10]}): has no {ALGORITHM}")
        return text

    def _read_proposal(self, commit: str, name: str) -> Proposal | None:
        path = proposal_path(name)
        text = read_text(self._repository, commit, path)
        return None if text is None else read_entry(Proposal.from_data, load_yaml(text, path), path)

    def _read_reflection(self, commit: str, name: str) -> Reflection | None:
        return read_reflection(self._repository, commit, name)

    def _read_reflection_text(self, commit: str, name: str) -> str | None:
        return read_text(self._repository, commit, reflection_path(name))
