"""Decide from texts alone whether an algorithm is shipped code. An archive's claims about it do not count.

Shipped code is the root algorithm of this installation, and every text that the library agent can make from shipped
code with cards of this installation, at any knob values. All other code counts as written by others, for example by an
archive's own card, a model or a person. One changed character is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, pairwise

from poise_git.agents.library import surgery
from poise_git.agents.library.ideas import REPLACEABLE
from poise_git.agents.library.mechanisms import install, mechanisms, shows, uninstall
from poise_git.archive import Archive
from poise_git.archive.entries import Candidate
from poise_git.archive.genealogy import Genealogy
from poise_git.errors import ArchiveError, CheckFailed
from poise_git.package_data import template_files
from poise_git.search.literature import Card, load_card
from poise_git.untrusted import source_text

# The result of git's three-way merge of (base, ours, theirs); None on a conflict.
Merge = Callable[[str, str, str], str | None]


@dataclass(frozen=True)
class _Shipped:
    """The root algorithm, the cards with code, and the (function, argument) pairs whose numbers are knobs."""

    root: str
    cards: tuple[Card, ...]
    knobs: frozenset[tuple[str, str]]


@dataclass
class Provenance:
    """The candidates of an archive that are shipped code; each answer is computed once."""

    archive: Archive
    _known: dict[str, bool] = field(default_factory=dict)

    def is_shipped(self, candidate: Candidate, genealogy: Genealogy) -> bool:
        for each in (*genealogy.ancestors(candidate.name), candidate):
            if each.commit not in self._known:
                self._known[each.commit] = self._follows(each, genealogy)
        return self._known[candidate.commit]

    def is_shipped_child(self, text: str, parents: Sequence[str], genealogy: Genealogy) -> bool:
        """Whether `text`, not yet a candidate, is shipped code as a child of the candidates with these names."""
        for name in parents:
            if name in genealogy.by_name:
                self.is_shipped(genealogy.by_name[name], genealogy)
        return self._descends(text, parents, genealogy)

    def _follows(self, candidate: Candidate, genealogy: Genealogy) -> bool:
        return self._descends(self._text(candidate), candidate.parents, genealogy)

    def _descends(self, text: str, names: Sequence[str], genealogy: Genealogy) -> bool:
        """Whether `text` is shipped code as a child of candidates with known answers."""
        parents = [genealogy.by_name[name] for name in names if name in genealogy.by_name]
        if is_root(text):
            return True
        if len(parents) != len(names) or not all(map(self._is_known, parents)):
            return False
        match parents:
            case [parent]:
                return follows(text, self._text(parent))
            case [ours, theirs]:
                texts: tuple[str, str] = (self._text(ours), self._text(theirs))
                return any(
                    self._is_known(base) and is_merge(text, self._text(base), *texts, self.archive.merge)
                    for base in _shared(genealogy, ours, theirs)
                )
        return False

    def _text(self, candidate: Candidate) -> str:
        try:
            return self.archive.algorithm_of(candidate)
        except ArchiveError:
            # A candidate without an algorithm is not shipped code.
            return ""

    def _is_known(self, candidate: Candidate) -> bool:
        return self._known.get(candidate.commit, False)


def composed_of_shipped_cards(lineage: Sequence[str]) -> bool:
    """Whether the last of these texts is shipped code; `lineage` leads to it from the root's text, parent to child."""
    return bool(lineage) and is_root(lineage[0]) and all(follows(child, parent) for parent, child in pairwise(lineage))


def is_root(text: str) -> bool:
    """Whether the text is the shipped root algorithm, apart from knobs."""
    return text == _shipped().root or _plain(text) == _plain(_shipped().root)


@lru_cache(maxsize=1024)
def follows(child: str, parent: str) -> bool:
    """Whether one change by the library agent leads from the shipped code `parent` to `child`, apart from knobs."""
    goal, start = _plain(child), _plain(parent)
    if goal is None or start is None:
        return False
    return goal == start or any(_plain(text) == goal for text in _children(parent, child, _changed(start, goal)))


def is_merge(child: str, base: str, ours: str, theirs: str, merge: Merge) -> bool:
    """Whether `child` is a merge of two shipped texts that come from the shipped text `base`, apart from knobs."""
    goal, merged = _plain(child), merge(base, ours, theirs)
    if goal is None or merged is None:
        return False
    try:
        return goal in (_plain(merged), _plain(surgery.repair_imports(merged)))
    except CheckFailed:
        return False


@lru_cache(maxsize=1)
def _shipped() -> _Shipped:
    files = template_files()
    loaded = [load_card(text, path) for path, text in sorted(files.items()) if path.startswith("literature/")]
    cards = tuple(card for card in loaded if card.edits)
    knobs = {(knob.function, knob.argument) for card in cards for knob in card.knobs.values()}
    knobs |= {(edit.stage, argument) for card in cards for edit in card.edits for argument in edit.set or {}}
    return _Shipped(files["recipe/algorithm.py"], cards, frozenset(knobs))


def _children(parent: str, child: str, changed: frozenset[str]) -> Iterator[str]:
    """The texts that the agent could make from `parent` by changing these functions and that may equal `child`."""
    shipped = _shipped()
    present = [mechanism.card for mechanism in mechanisms(parent, shipped.cards)]
    removable = [card for card in present if changed & _functions_of(card)]
    installable = [card for card in shipped.cards if changed & _functions_of(card) and _is_shown(child, card)]
    for count in range(REPLACEABLE + 1):
        for removed in combinations(removable, count):
            try:
                bare = parent
                for card in removed:
                    bare = uninstall(bare, card, shipped.root)
            except CheckFailed:
                continue
            yield bare
            for card in installable:
                try:
                    yield install(bare, card)
                except CheckFailed:
                    continue


def _is_shown(text: str, card: Card) -> bool:
    return all(shows(text, edit) for edit in card.edits)


@lru_cache(maxsize=256)
def _names_of(replace: str | None, add: str | None, stage: str) -> frozenset[str]:
    return frozenset((stage, *(surgery.functions(add) if add else ()))) if replace or add else frozenset()


def _functions_of(card: Card) -> frozenset[str]:
    """The functions that the card writes, without those where it only sets numbers."""
    return frozenset[str]().union(*(_names_of(edit.replace, edit.add, edit.stage) for edit in card.edits))


def _changed(before: str, after: str) -> frozenset[str]:
    """The functions that differ between two texts."""
    old, new = _texts(before), _texts(after)
    return frozenset(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _texts(text: str) -> Mapping[str, str]:
    lines = source_text.lines(text)
    return {name: "".join(lines[node.lineno - 1 : node.end_lineno]) for name, node in surgery.functions(text).items()}


@lru_cache(maxsize=256)
def _plain(text: str) -> str | None:
    """The text with 0 for every number that is a knob of a shipped card; None if it is not code."""
    try:
        places = surgery.default_places(text, _shipped().knobs)
    except CheckFailed:
        return None
    lines = [line.encode() for line in source_text.lines(text)]
    for number, start, end in sorted(places, reverse=True):
        lines[number - 1] = lines[number - 1][:start] + b"0" + lines[number - 1][end:]
    return b"".join(lines).decode()


def _shared(genealogy: Genealogy, first: Candidate, second: Candidate) -> list[Candidate]:
    """Common ancestors, the nearest first."""
    lines = [{each.name for each in genealogy.ancestors(one.name)} | {one.name} for one in (first, second)]
    shared = sorted(lines[0] & lines[1], key=lambda name: (genealogy.depth(name), name), reverse=True)
    return [genealogy[name] for name in shared]
