"""The genealogy: every candidate and its ancestry, as one value."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from poise_git.archive.entries import ROOT, Candidate, Proposal
from poise_git.errors import ArchiveError, UnknownCandidate


@dataclass(frozen=True)
class Genealogy:
    """All candidates in commit order: parents precede their children, and older candidates precede younger ones.

    `ahead` says that a session has added states of candidates that it wrote itself and did not read from git.
    """

    candidates: tuple[Candidate, ...]
    ahead: bool = False

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __len__(self) -> int:
        return len(self.candidates)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def __getitem__(self, name: str) -> Candidate:
        """The candidate of that name.

        Raises:
            UnknownCandidate: no candidate has this name; the error lists similar names.
        """
        if name not in self.by_name:
            raise self.unknown(name)
        return self.by_name[name]

    def unknown(self, text: str) -> UnknownCandidate:
        """The error for a `text` that does not name a candidate."""
        close = difflib.get_close_matches(text.removeprefix("poise/"), self.by_name, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`poise-git log` lists the candidates"
        return UnknownCandidate(f"no candidate or revision {text!r} in this archive; {hint}")

    @cached_property
    def by_name(self) -> dict[str, Candidate]:
        return {candidate.name: candidate for candidate in self.candidates}

    @cached_property
    def by_commit(self) -> dict[str, Candidate]:
        return {candidate.commit: candidate for candidate in self.candidates}

    def with_candidate(self, candidate: Candidate) -> Genealogy:
        """The genealogy with a new state of a candidate in its place, or with a new candidate at the end."""
        if candidate.name not in self:
            return Genealogy((*self.candidates, candidate), ahead=True)
        known = (candidate if each.name == candidate.name else each for each in self.candidates)
        return Genealogy(tuple(known), ahead=True)

    @property
    def root(self) -> Candidate:
        return self[ROOT]

    def children(self, name: str) -> tuple[Candidate, ...]:
        return self._children.get(self[name].name, ())

    def ancestors(self, name: str) -> tuple[Candidate, ...]:
        """All ancestors of `name` by any parent, root first, without `name`."""
        found: set[str] = set()
        waiting = list(self[name].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in found and parent in self.by_name:
                found.add(parent)
                waiting += self.by_name[parent].parents
        return self._in_order(found)

    def descendants(self, name: str) -> tuple[Candidate, ...]:
        """All descendants of `name` by any parent, in commit order, without `name`."""
        found: set[str] = set()
        waiting = list(self.children(name))
        while waiting:
            child = waiting.pop()
            if child.name not in found:
                found.add(child.name)
                waiting += self._children.get(child.name, ())
        return self._in_order(found)

    def along_lines(self, own: Callable[[Candidate], frozenset[str]]) -> dict[str, frozenset[str]]:
        """The union of `own` over each candidate and all its ancestors."""
        found: dict[str, frozenset[str]] = {}
        for candidate in self:
            words = own(candidate)
            for parent in candidate.parents:
                words |= found.get(parent, frozenset())
            found[candidate.name] = words
        return found

    @cached_property
    def mechanisms(self) -> dict[str, frozenset[str]]:
        """The mechanisms of each candidate's whole lineage, including those of its ancestors."""
        return self.along_lines(own_mechanisms)

    def validate_parents(self) -> None:
        """Validate the trailers: every named parent exists and does not descend from its child.

        Raises ArchiveError with the commit if one is wrong.
        """
        seen: set[str] = set()
        for candidate in self:
            for parent in candidate.claimed:
                if parent not in self:
                    false = "which is not a candidate of this archive"
                elif parent not in seen and (parent == candidate.name or candidate in self.ancestors(parent)):
                    false = "which descends from it"
                else:
                    continue
                raise ArchiveError(
                    f"candidate {candidate.name} (commit {candidate.commit[:10]}): its trailer Poise-Parent names "
                    f"{parent}, {false}; correct it: git switch poise/{candidate.name} && git commit --amend"
                )
            seen.add(candidate.name)

    def path(self, name: str) -> tuple[Candidate, ...]:
        """The lineage from the root to `name`, both included, by first parents."""
        line = [self[name]]
        while line[-1].parents and line[-1].parents[0] in self.by_name:
            line.append(self.by_name[line[-1].parents[0]])
        return tuple(reversed(line))

    def depth(self, name: str) -> int:
        """Steps from the root by first parents; 0 for the root."""
        return len(self.path(name)) - 1

    def _in_order(self, names: set[str]) -> tuple[Candidate, ...]:
        return tuple(self.candidates[place] for place in sorted(self._places[name] for name in names))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {candidate.name: place for place, candidate in enumerate(self.candidates)}

    @cached_property
    def _children(self) -> dict[str, tuple[Candidate, ...]]:
        found: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            for parent in candidate.parents:
                found.setdefault(parent, []).append(candidate)
        return {parent: tuple(children) for parent, children in found.items()}


def own_mechanisms(of: Candidate | Proposal) -> frozenset[str]:
    """The priors and the family of a candidate's or proposal's mechanism."""
    return frozenset((*of.priors, f"family:{of.family}"))
