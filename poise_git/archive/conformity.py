"""Check the rules for candidates, which plain git does not enforce; each violation is one line.

A candidate is one commit on top of its parent's that changes only the algorithm, names itself and its parents, and has
evidence for its own code.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from poise_git.archive.command import PLAIN_DIFF
from poise_git.archive.entries import ROOT
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.git import Repository
from poise_git.archive.reader import evidence_base, read_description, read_genealogy, read_text
from poise_git.archive.refs import CANDIDATES, EVIDENCE, JOURNAL, NOTES, candidate_name
from poise_git.archive.writer import ALGORITHM, algorithm_of, metrics_path

_MEASURED = re.compile(r"^algorithm: ['\"]?([0-9a-f]+)", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One violation: the place, the problem and the advice; `repairable` says that `repair` can correct it."""

    where: str
    what: str
    advice: str
    repairable: bool = False


def findings(repository: Repository) -> tuple[Finding, ...]:
    """All violations, the most serious first."""
    genealogy = read_genealogy(repository)
    return (
        *branch_findings(repository, genealogy),
        *descent_findings(repository, genealogy),
        *change_findings(repository, genealogy),
        *trailer_findings(repository, genealogy),
        *evidence_findings(repository, genealogy),
    )


def pushed_findings(repository: Repository, pushed: Mapping[str, str]) -> tuple[Finding, ...]:
    """Evidence that does not match the code, for branches about to be pushed (ref -> commit).

    Branches that are not pushed are read from this repository.
    """
    names = {name: None for ref in pushed if ref.startswith((CANDIDATES, EVIDENCE)) and (name := candidate_name(ref))}
    found = []
    for name in names:
        candidate, evidence = (
            pushed.get(ref) or repository.object_id(ref) for ref in (CANDIDATES + name, EVIDENCE + name)
        )
        if candidate and evidence and (finding := mismatch(repository, name, candidate, evidence)):
            found.append(finding)
    return tuple(found)


def branch_findings(repository: Repository, genealogy: Genealogy) -> Iterator[Finding]:
    """Branches that are not candidates, candidates that do not descend from one, and evidence without a candidate."""
    refs = repository.refs(CANDIDATES, EVIDENCE)
    for ref, named in repository.symbolic_refs(CANDIDATES, EVIDENCE, NOTES, JOURNAL).items():
        yield Finding(
            ref,
            f"a symbolic ref, which stands for {named}; this archive's refs are refs of their own",
            f"git symbolic-ref --delete {shlex.quote(ref)}",
        )
    for ref in refs:
        name = candidate_name(ref)
        if name is None:
            yield Finding(
                ref,
                "its name is not a valid candidate name (kebab-case)",
                f"git branch -m {shlex.quote(_short(ref))} NEW-NAME",
            )
        elif ref.startswith(EVIDENCE) and CANDIDATES + name not in refs:
            yield Finding(
                ref,
                f"evidence without branch poise/{name} (its writer was killed)",
                f"continue the search, or delete it: git branch -D evidence/{name}",
            )
        elif ref.startswith(CANDIDATES) and name not in genealogy:
            yield Finding(ref, "points at another candidate's commit", "commit a change of recipe/algorithm.py to it")
    for candidate in genealogy:
        if candidate.name != ROOT and not candidate.parents:
            yield Finding(
                CANDIDATES + candidate.name,
                "does not descend from a candidate",
                "rebase it onto one: git rebase --onto",
            )


def change_findings(repository: Repository, genealogy: Genealogy) -> Iterator[Finding]:
    """Candidate commits that change more than the algorithm, compared with their first parent."""
    commits = "".join(f"{candidate.commit}\n" for candidate in genealogy).encode()
    output = repository.text(
        "log", "--stdin", "--no-walk=unsorted", "--diff-merges=first-parent", "--raw", "--no-renames",
        "--no-show-signature", *PLAIN_DIFF, "-z", "--format=format:%H",
        stdin=commits,
    )  # fmt: skip
    for commit, files in _changed_files(output).items():
        others = sorted(files - {ALGORITHM})
        if others:
            name = genealogy.by_commit[commit].name
            take_out = f"git restore --source=HEAD^ --staged --worktree -- {shlex.join(others)}"
            yield Finding(
                CANDIDATES + name,
                f"its commit changes {', '.join(others)}",
                f"git switch poise/{name} && {take_out} && git commit --amend --no-edit",
            )


def _changed_files(log: str) -> dict[str, set[str]]:
    """The files of each commit in the output of `git log --raw -z --format=format:%H`.

    A commit is `<id>\\n`, or `<id>` without changes. Each change is `:<modes> <objects> <status>\\0<path>\\0`.
    """
    found: dict[str, set[str]] = {}
    commit, fields = "", iter(log.split("\0"))
    for field in fields:
        name, separator, change = field.rpartition("\n")
        if not field.startswith(":") and field:
            commit = name if separator else field
            found[commit] = set()
        # A path follows its change, so a path that looks like a commit or a change is not read as one.
        if change.startswith(":"):
            found[commit].add(next(fields))
    return found


def descent_findings(repository: Repository, genealogy: Genealogy) -> Iterator[Finding]:
    """Candidates that are not one commit on top of their parents' current commits."""
    for candidate in genealogy:
        if candidate.name == ROOT or not candidate.parents:
            continue
        below = repository.object_id(f"{candidate.commit}^")
        if below is None or below in genealogy.by_commit:
            continue
        parent, own = candidate.parents[0], read_description(repository, below).name
        if own == parent:
            yield Finding(
                CANDIDATES + candidate.name,
                f"stands on an earlier commit of poise/{parent} ({below[:10]})",
                f"git rebase --onto poise/{parent} {below[:10]} poise/{candidate.name}",
            )
        else:
            yield Finding(
                CANDIDATES + candidate.name,
                f"more than one commit on top of poise/{parent}",
                f"squash them: git switch {_short(CANDIDATES + candidate.name)} && git reset --soft poise/{parent} "
                "&& git commit",
            )


def trailer_findings(repository: Repository, genealogy: Genealogy) -> Iterator[Finding]:
    """Candidates whose commit does not name itself and its parents."""
    for candidate in genealogy:
        said = read_description(repository, candidate.commit)
        amend = f"git switch poise/{candidate.name} && git commit --amend --no-edit"
        where = CANDIDATES + candidate.name
        if said.name != candidate.name:
            what = f"its trailer says Poise-Candidate: {said.name}" if said.name else "no trailer Poise-Candidate"
            yield Finding(where, what, amend)
        elif said.parents != candidate.parents:
            named = ", ".join(said.parents) or "no parent"
            yield Finding(
                where, f"its trailers name {named}, but it descends from {', '.join(candidate.parents)}", amend
            )


def evidence_findings(repository: Repository, genealogy: Genealogy) -> Iterator[Finding]:
    """Evidence and notes that belong to other code than the candidate's."""
    for candidate in genealogy:
        found = candidate.evidence and mismatch(repository, candidate.name, candidate.commit, candidate.evidence)
        if found:
            yield found
            continue
        own = algorithm_of(repository, candidate.commit)
        for metrics in candidate.metrics.values():
            if metrics.algorithm and metrics.algorithm != own:
                yield Finding(
                    CANDIDATES + candidate.name,
                    f"a note has metrics of other code (blob {metrics.algorithm}, not {own})",
                    f"poise-git doctor --repair && poise-git evaluate {candidate.name}",
                    repairable=True,
                )


def mismatch(repository: Repository, name: str, commit: str, evidence: str) -> Finding | None:
    """Why the evidence at `evidence` does not belong to the candidate at `commit`; None if it does."""
    where, base, own = EVIDENCE + name, evidence_base(repository, name, evidence), algorithm_of(repository, commit)
    if base != commit:
        about = base[:10] if base else "no commit"
        return Finding(
            where,
            f"it belongs to {about}, but poise/{name} is at {commit[:10]}",
            f"poise-git doctor --repair && poise-git evaluate {name}",
            repairable=True,
        )
    if algorithm_of(repository, evidence) != own:
        undo = f"git switch evidence/{name} && git checkout poise/{name} -- {ALGORITHM} && git commit"
        return Finding(where, f"it changes {ALGORITHM}", undo)
    measured = _MEASURED.search(read_text(repository, evidence, metrics_path(name)) or "")
    if measured and measured[1] != own:
        return Finding(
            where,
            f"its metrics belong to other code (blob {measured[1]}, not {own})",
            f"recompute them from its own runs: poise-git reflect {name}",
        )
    return None


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")
