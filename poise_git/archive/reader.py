"""Read the whole genealogy with two git processes, and single files and notes with none.

The number of git processes does not depend on the number of candidates: one `for-each-ref` reads refs, one `log` reads
messages and metric notes, and the persistent `cat-file` reads everything else. This module never reads HEAD, the index
or the work tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poise_git.archive.collection import gc_paused
from poise_git.archive.entries import Candidate, Metrics
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.git import Repository
from poise_git.archive.lines import NOTE_LENGTH
from poise_git.archive.measured import evidence_metrics
from poise_git.archive.messages import MESSAGE_LENGTH, Description, parse_candidate
from poise_git.archive.notes import latest_metrics, note_paths
from poise_git.archive.refs import CANDIDATES, EVIDENCE, METRICS_NOTES, candidate_name

_FIELDS = "%H%x00%P%x00%ct%x00%B%x00%N"
# A character has at most four bytes in UTF-8.
_MESSAGE_BYTES, _NOTE_BYTES = 4 * MESSAGE_LENGTH, 4 * NOTE_LENGTH
_TREE, _BLOB = "tree", "blob"
_LINK = b"120000"


@dataclass(frozen=True)
class _Commit:
    parents: tuple[str, ...]
    place: tuple[int, int]
    said: Description
    note: str


@gc_paused()
def read_genealogy(repository: Repository) -> Genealogy:
    """Every branch `poise/<name>` as a candidate, except a branch that points at another candidate's commit."""
    refs, protocols = _read_refs(repository)
    tips = {
        ref.removeprefix(CANDIDATES): commit
        for ref, commit in refs.items()
        if ref.startswith(CANDIDATES) and candidate_name(ref)
    }
    commits = _read_commits(repository, set(tips.values()))
    names = _names_by_commit(tips, commits)
    kin = _Kinship(commits, names, frozenset(names.values()))
    return Genealogy(
        tuple(
            Candidate(
                name=names[commit],
                commit=commit,
                parents=kin.parents(commit),
                mechanism=found.said.mechanism,
                hypothesis=found.said.hypothesis,
                family=found.said.family,
                priors=found.said.priors,
                agent=found.said.agent,
                evidence=refs.get(EVIDENCE + names[commit]),
                metrics=_metrics(repository, names[commit], commit, found.note, refs, protocols),
                claimed=found.said.parents,
            )
            for commit, found in sorted(commits.items(), key=lambda entry: (entry[1].place, names.get(entry[0], "")))
            if commit in names
        )
    )


def _read_refs(repository: Repository) -> tuple[dict[str, str], dict[str, str]]:
    """The commit of every candidate and evidence branch, and the protocol of the metrics at an evidence's tip."""
    form = "%(objectname) %(refname) %(contents:trailers:key=Poise-Protocol,valueonly,unfold,separator=%x20)"
    refs, protocols = {}, {}
    for line in repository.lines("for-each-ref", f"--format={form}", CANDIDATES, EVIDENCE):
        commit, ref, protocol = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" ", 1), "")
        refs[ref], protocols[ref] = commit, protocol.strip()
    return refs, protocols


def _metrics(
    repository: Repository, name: str, commit: str, note: str, refs: Mapping[str, str], protocols: Mapping[str, str]
) -> Mapping[str, Metrics]:
    """The metrics of the note, completed from the evidence branch.

    The branch is read only if its tip has metrics that the note lacks, or if there is no note.
    """
    found = latest_metrics(note)
    evidence, protocol = refs.get(EVIDENCE + name), protocols.get(EVIDENCE + name)
    if evidence is None or (found and (not protocol or protocol in found)):
        return found
    return {each: own.metrics for each, own in evidence_metrics(repository, name, commit, evidence).items()} | dict(
        found
    )


def read_description(repository: Repository, commit: str) -> Description:
    """The content of the message of one commit; empty if it is not a commit."""
    found = repository.read(commit)
    text = found[1].decode(errors="replace") if found else ""
    return parse_candidate(text.partition("\n\n")[2])


def _read_commits(repository: Repository, tips: set[str]) -> dict[str, _Commit]:
    """The commits reachable from `tips`, parents before children, each with its position in time."""
    if not tips:
        return {}
    output = repository.run(
        "log", "-z", "--topo-order", "--reverse", "--no-color", "--no-show-signature", "--encoding=UTF-8",
        f"--notes={METRICS_NOTES}", f"--format=format:{_FIELDS}", "--stdin",
        stdin="".join(f"{tip}\n" for tip in tips).encode(),
    )  # fmt: skip
    commits: dict[str, _Commit] = {}
    fields = iter(output.split(b"\0"))
    for commit, *told, message, note in zip(*[fields] * 5, strict=True):
        parents, time = map(bytes.decode, told)
        before = [commits[parent].place for parent in parents.split() if parent in commits]
        # Equal times are common, and a clock may be set back. A commit must still come after its parents.
        latest, steps = max(before, default=(0, 0))
        seconds = _seconds(time)
        place = (seconds, 0) if seconds > latest else (latest, steps + 1)
        # Cut before decoding: a message of a gigabyte may take only a megabyte in a pack.
        said = parse_candidate(message[:_MESSAGE_BYTES].decode(errors="replace"))
        commits[commit.decode()] = _Commit(
            tuple(parents.split()), place, said, note[-_NOTE_BYTES:].decode(errors="replace")
        )
    return commits


def _seconds(text: str) -> int:
    """A commit's time as git prints it; 0 if git cannot read it."""
    return int(text) if text.isascii() and text.isdecimal() else 0


def _names_by_commit(tips: Mapping[str, str], commits: Mapping[str, _Commit]) -> dict[str, str]:
    """One name per tip; if branches share a commit, the name in the commit's trailer."""
    names: dict[str, str] = {}
    for name, commit in sorted(tips.items()):
        if commit not in names or commits[commit].said.name == name:
            names[commit] = name
    return names


@dataclass(frozen=True)
class _Kinship:
    """The names of parents.

    Normally a parent's commit is the tip of a branch. If a person has amended the parent, or has made several commits
    on its branch, the trailer of the commit or of one of its ancestors names the parent.
    """

    commits: Mapping[str, _Commit]
    names: Mapping[str, str]
    known: frozenset[str]

    def parents(self, commit: str) -> tuple[str, ...]:
        own = self.names[commit]
        found = (self._owner(parent, own) for parent in self.commits[commit].parents)
        return tuple(dict.fromkeys(name for name in found if name))

    def _owner(self, commit: str, child: str) -> str | None:
        while commit in self.commits:
            found = self.commits[commit]
            name = self.names.get(commit) or found.said.name
            if name in self.known and name != child:
                return name
            if not found.parents:
                return None
            commit = found.parents[0]
        return None


def evidence_base(repository: Repository, name: str, evidence: str) -> str | None:
    """The commit that the evidence of `name` at `evidence` is about: the first ancestor without evidence."""
    commit: str | None = evidence
    while commit and repository.object_id(f"{commit}:evidence/{name}"):
        commit = repository.object_id(f"{commit}^")
    return commit


def read_text(repository: Repository, revision: str, path: str) -> str | None:
    """The file `path` at `revision` as text; None if there is none."""
    found = repository.read(f"{revision}:{path}")
    return found[1].decode(errors="replace") if found and found[0] == _BLOB else None


def list_texts(repository: Repository, revision: str, folder: str) -> dict[str, str]:
    """Every file under `folder` at `revision`, by path relative to it; empty if there is no such folder.

    Symbolic links are skipped, because git stores only the path that they point to.
    """
    found: dict[str, str] = {}
    waiting = [("", f"{revision}:{folder.strip('/')}")]
    while waiting:
        prefix, name = waiting.pop()
        entry = repository.read(name)
        if entry is None:
            continue
        kind, content = entry
        if kind == _BLOB and prefix:
            found[prefix] = content.decode(errors="replace")
        elif kind == _TREE:
            waiting += [
                (f"{prefix}/{file}".lstrip("/"), object_id) for file, object_id in _tree_entries(content, links=False)
            ]
    return dict(sorted(found.items()))


def blobs_of(repository: Repository, revision: str) -> list[tuple[str, str]]:
    """Path and object of every file at `revision`."""
    found = repository.text("ls-tree", "-r", "-z", revision)
    entries = (entry.partition("\t") for entry in found.split("\0") if entry)
    return [(path, head.rpartition(" ")[2]) for head, _, path in entries]


def list_files(repository: Repository, revision: str, folder: str) -> dict[str, str]:
    """The object of each name in `folder` at `revision`, unread; empty if there is no such folder."""
    entry = repository.read(f"{revision}:{folder}")
    return dict(_tree_entries(entry[1])) if entry and entry[0] == _TREE else {}


def _tree_entries(content: bytes, *, links: bool = True) -> list[tuple[str, str]]:
    """Name and object of each entry of a tree object: `<mode> <name>\\0<20 bytes of object id>`, repeated."""
    entries, place = [], 0
    while place < len(content):
        end = content.index(b"\0", place)
        mode, name = content[place:end].split(b" ", 1)
        if links or mode != _LINK:
            entries.append((name.decode(errors="replace"), content[end + 1 : end + 21].hex()))
        place = end + 21
    return entries


def read_note(repository: Repository, ref: str, commit: str) -> str:
    """The note on `commit` in the notes tree `ref` (a ref or a commit), at any depth; "" if there is none."""
    found = (read_text(repository, ref, path) for path in note_paths(commit))
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in found if text)
