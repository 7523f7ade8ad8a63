from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from round_cost import Enough, evolve, make

from poise_git import events
from poise_git.agents.library.agent import LibraryAgent
from poise_git.archive import Archive
from poise_git.archive.git import Repository
from poise_git.experiment import Experiment
from poise_git.steps import verify

READING = ("cat-file", "config", "diff", "for-each-ref", "log", "ls-tree", "rev-list", "symbolic-ref")


class Round:
    """An observer that stops a search at its third plan, and counts the git commands since the second."""

    def __init__(self) -> None:
        self.commands = Counter[str]()
        self.parents = 0

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.RoundPlanned):
            if event.number == 2:
                self.commands.clear()
                self.parents = len(event.parents)
            if event.number == 3:
                raise Enough


@pytest.mark.slow
@pytest.mark.parametrize(("candidates", "parents"), [(12, 3), (40, 3), (40, 1)])
def test_a_round_reads_the_archive_once_however_large(
    candidates: int, parents: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, run = Round(), Repository.run

    def counting(self: Repository, *arguments: str, **options: Any) -> bytes:
        counted.commands[arguments[0]] += 1
        return run(self, *arguments, **options)

    make(tmp_path / "archive", candidates)
    monkeypatch.setattr(Repository, "run", counting)
    # `evolve` replaces it.
    monkeypatch.setattr(verify, "check_candidate", verify.check_candidate)
    experiment = Experiment.load(Archive.open(tmp_path / "archive"))
    search = experiment.settings.search.model_copy(update={"parents": parents})
    experiment = replace(experiment, settings=experiment.settings.model_copy(update={"search": search}))

    with pytest.raises(Enough):
        evolve(experiment, LibraryAgent(), counted)

    assert counted.parents == parents
    read = {command: count for command, count in counted.commands.items() if command in READING}
    # The genealogy reads refs and commits; the two lists are of the notes that verify the figures.
    assert read == {"for-each-ref": 1, "log": 1, "ls-tree": 2}
