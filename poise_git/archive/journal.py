"""The journal: the branch `poise-journal`, one commit per round with its decisions and reasons, and the principles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from poise_git.archive.checked_out import update_files
from poise_git.archive.documents import dump_yaml, load_field, load_yaml
from poise_git.archive.git import Repository
from poise_git.archive.messages import SUBJECT_LENGTH, shorten
from poise_git.archive.reader import list_files, read_text
from poise_git.archive.refs import JOURNAL, MAIN
from poise_git.archive.writer import Change, publish
from poise_git.errors import ArchiveError
from poise_git.untrusted.display import one_line

ROUNDS = "rounds"
DIRECTIVES = "directives"
CALLS = "calls"
PRINCIPLES = "principles.yaml"
CALLS_PLACE = f"{JOURNAL}: an entry of calls"
FIELDS_KEPT = 64


def round_path(number: int) -> str:
    return f"{ROUNDS}/{number:04d}.yaml"


def write_round(repository: Repository, number: int, data: Mapping[str, Any], summary: str = "") -> None:
    """Commit the plan of round `number` (from 1), with `summary` in the subject. A repeated call does nothing.

    Raises ArchiveError if the journal has another plan for the round.
    """
    path, text = round_path(number), dump_yaml(data)
    subject = f"round({number}): {one_line(summary)}" if summary else f"round({number})"

    def build(change: Change) -> None:
        before = change.old[JOURNAL]
        written = read_text(repository, before, path) if before else None
        if written is None:
            change.grow(JOURNAL, f"{subject}\n", {path: text})
        elif written != text:
            raise ArchiveError(
                f"the journal already has another plan for round {number}; read it: git show {JOURNAL}:{path}"
            )

    publish(repository, [JOURNAL], build)


def read_rounds(repository: Repository, after: int = 0) -> tuple[dict[str, Any], ...]:
    """The data of every round with a number above `after`, newest last; it does not read the others.

    Raises ArchiveError if a round is not YAML.
    """
    files = sorted(name for name in list_files(repository, JOURNAL, ROUNDS) if name > Path(round_path(after)).name)
    texts = ((f"{ROUNDS}/{name}", read_text(repository, JOURNAL, f"{ROUNDS}/{name}")) for name in files)
    return tuple(load_yaml(text or "", f"{JOURNAL}:{path}") for path, text in texts)


def count_rounds(repository: Repository) -> int:
    return len(list_files(repository, JOURNAL, ROUNDS))


class FieldReader:
    """Read single fields of the newest rounds, each unchanged round only once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._field = lru_cache(FIELDS_KEPT)(self._read)

    def newest(self, count: int, field: str) -> tuple[tuple[int, Any], ...]:
        """The number and the field of the newest `count` rounds that have the field, newest last.

        Raises:
            ArchiveError: a round is not YAML.
        """
        files = sorted(list_files(self._repository, JOURNAL, ROUNDS).items())[-count:]
        found = ((file, self._field(file, object_id, field)) for file, object_id in files)
        return tuple((_number(file), value) for file, value in found if value is not None)

    def _read(self, file: str, object_id: str, field: str) -> Any:
        entry = self._repository.read(object_id)
        text = entry[1].decode(errors="replace") if entry else ""
        return load_field(text, field, f"{JOURNAL}:{ROUNDS}/{file}")


def read_with(repository: Repository, text: str, field: str) -> Iterator[tuple[int, Any]]:
    """The number and one field of each round that contains `text`, oldest first; read lazily.

    Raises ArchiveError if a round is not YAML.
    """
    for file in sorted(list_files(repository, JOURNAL, ROUNDS)):
        content = read_text(repository, JOURNAL, f"{ROUNDS}/{file}") or ""
        value = load_field(content, field, f"{JOURNAL}:{ROUNDS}/{file}") if text in content else None
        if value is not None:
            yield _number(file), value


def _number(file: str) -> int:
    """The number of the round in a file of `rounds/`."""
    number = file.removesuffix(".yaml")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ArchiveError(f"{JOURNAL}:{ROUNDS}/{file[:80]}: its name is not a round number")
    return int(number)


def write_directive(
    repository: Repository, data: Mapping[str, Any], settings: str, edit: Callable[[str], str]
) -> tuple[str, ...]:
    """Journal the translation of a directive, and commit the `settings` file of main with the change `edit`.

    The two commits are made together or not at all. If main is checked out, the file in the work tree is
    updated. Returns the files that keep conflicting edits; see `update_files`.
    """
    text = dump_yaml(data)

    def build(change: Change) -> None:
        before = change.old[JOURNAL]
        number = len(list_files(repository, before, DIRECTIVES)) + 1 if before else 1
        subject = f"directive({number}): {shorten(one_line(str(data['directive'])), SUBJECT_LENGTH)}"
        change.grow(JOURNAL, f"{subject}\n", {f"{DIRECTIVES}/{number:04d}.yaml": text})
        old = read_text(repository, change.old[MAIN] or MAIN, settings) or ""
        if (new := edit(old)) != old:
            changed[settings] = old
            change.grow(MAIN, f"settings: {subject}\n", {settings: new})

    changed: dict[str, str] = {}
    publish(repository, [JOURNAL, MAIN], build)
    return update_files(repository, MAIN, changed)


def read_directives(repository: Repository) -> tuple[dict[str, Any], ...]:
    """The translations of directives, newest last.

    Raises ArchiveError if a translation is not YAML.
    """
    texts = ((name, read_text(repository, JOURNAL, name)) for name in _paths(repository, DIRECTIVES))
    return tuple(load_yaml(text or "", f"{JOURNAL}:{path}") for path, text in texts)


def write_calls(repository: Repository, what: str, calls: Sequence[Mapping[str, Any]]) -> None:
    """Journal calls that do not belong to a round: their purpose `what`, and their ledger entries."""
    text = dump_yaml({"for": what, "calls": list(calls)})

    def build(change: Change) -> None:
        before = change.old[JOURNAL]
        number = len(list_files(repository, before, CALLS)) + 1 if before else 1
        change.grow(JOURNAL, f"calls({number}): {one_line(what)}\n", {f"{CALLS}/{number:04d}.yaml": text})

    publish(repository, [JOURNAL], build)


def read_calls(repository: Repository) -> Iterator[dict[str, Any]]:
    """Every ledger entry of the journal: of rounds, of directives, and of other calls.

    Raises ArchiveError if a file is not YAML.
    """
    for folder in (ROUNDS, DIRECTIVES, CALLS):
        for path in _paths(repository, folder):
            text = read_text(repository, JOURNAL, path) or ""
            if "calls:" in text:
                found = load_field(text, "calls", f"{JOURNAL}:{path}") or ()
                if not isinstance(found, list):
                    raise ArchiveError(f"{JOURNAL}:{path}: calls: expected a list")
                yield from found


def _paths(repository: Repository, folder: str) -> list[str]:
    return sorted(f"{folder}/{name}" for name in list_files(repository, JOURNAL, folder))


def write_principles(repository: Repository, data: Mapping[str, Any]) -> None:
    """Commit the principles in place of the earlier ones. A repeated call does nothing."""
    text = dump_yaml(data)

    def build(change: Change) -> None:
        before = change.old[JOURNAL]
        if not before or read_text(repository, before, PRINCIPLES) != text:
            change.grow(JOURNAL, "principles\n", {PRINCIPLES: text})

    publish(repository, [JOURNAL], build)


def read_principles(repository: Repository) -> dict[str, Any]:
    """The principles so far; empty if there are none."""
    text = read_text(repository, JOURNAL, PRINCIPLES)
    return load_yaml(text, f"{JOURNAL}:{PRINCIPLES}") if text is not None else {}
