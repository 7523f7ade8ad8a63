"""Find the candidate with the same algorithm by normal forms, so that renamed copies are also found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from poise_git.archive import Archive
from poise_git.archive.entries import Candidate
from poise_git.pipeline.cache import cache_folder
from poise_git.pipeline.checks.normal_form import VERSION, normal_form

_FORM_LENGTH = 32


class DuplicateFinder:
    """The normal form of every candidate's algorithm, including failed ones.

    A text is evaluated once per machine: forms are cached by git's id of the text, in memory and in a file that may be
    deleted at any time. Known candidates need no further git calls.
    """

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.blobs: dict[str, str] = {}

    def find(self, source: str, candidates: Iterable[Candidate], written: Mapping[str, str]) -> str | None:
        """The owner of the algorithm `source`: a candidate, or one of `written` (name -> text); None if it is new."""
        form = normal_form(source)
        first = next((name for name, text in written.items() if normal_form(text) == form), None)
        return first or next((node.name for node in candidates if self.form(node) == form), None)

    def form(self, candidate: Candidate) -> str | None:
        """The form of a candidate's algorithm; None if it has none."""
        if candidate.commit not in self.blobs:
            self.blobs[candidate.commit] = self.archive.algorithm_id(candidate.commit) or ""
        blob = self.blobs[candidate.commit]
        if blob and blob not in self.forms:
            self.forms[blob] = normal_form(self.archive.text_of(blob))
            self._keep(blob)
        return self.forms.get(blob)

    @cached_property
    def forms(self) -> dict[str, str]:
        """Git's id of a text -> its form, from the file; a truncated line is evaluated again."""
        if not self.file.is_file():
            return {}
        pairs = (line.split(" ") for line in self.file.read_text(errors="replace").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and self._is_whole(*pair)}

    @property
    def file(self) -> Path:
        place = hashlib.sha256(os.fsencode(self.archive.root)).hexdigest()[:16]
        return cache_folder("normal-forms") / f"{place}-{VERSION}.txt"

    def _keep(self, blob: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(f"{blob} {self.forms[blob]}\n")

    @staticmethod
    def _is_whole(blob: str, form: str) -> bool:
        return len(blob) in (40, 64) and len(form) == _FORM_LENGTH
