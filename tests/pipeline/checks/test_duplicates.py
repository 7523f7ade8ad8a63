from __future__ import annotations

import random
from pathlib import Path

import pytest

from poise_git.agents.library.mechanisms import install
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Metrics, Proposal, Status
from poise_git.pipeline.checks import duplicates as twins
from poise_git.pipeline.checks.duplicates import DuplicateFinder
from tests.agents.library.support import card, root_text
from tests.conftest import git
from tests.pipeline.checks.disguise import extracted, renamed, reordered


def add(archive: Archive, name: str, source: str) -> None:
    archive.add_candidate(Proposal(name, ROOT, name, "h", "f", "library"), source)


def disguise(text: str) -> str:
    rng = random.Random(1)
    return extracted(reordered(renamed(text, rng), rng), rng)


def find(archive: Archive, source: str, **written: str) -> str | None:
    return DuplicateFinder(archive).find(source, archive.genealogy(), written)


def test_a_renamed_copy_of_any_candidate_is_found_and_named(tiny_archive: Archive) -> None:
    gate, cispo = (install(root_text(), card(name)) for name in ("length-gate", "cispo"))
    add(tiny_archive, "dace-grpo", gate)
    assert find(tiny_archive, disguise(root_text())) == ROOT
    assert find(tiny_archive, disguise(gate)) == "dace-grpo"
    assert find(tiny_archive, cispo) is None
    assert find(tiny_archive, disguise(cispo), mine=cispo) == "mine"
    failed = Metrics(Status.FAILED, "0" * 12, stage="numeric", reason="not finite")
    tiny_archive.add_evidence("dace-grpo", failed, None)
    assert find(tiny_archive, disguise(gate)) == "dace-grpo"


def test_a_text_is_evaluated_once(tiny_archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tiny_archive, "dace-grpo", install(root_text(), card("length-gate")))
    assert find(tiny_archive, "y = 1") is None
    asked: list[str] = []
    real = twins.normal_form

    def counted(text: str) -> str:
        asked.append(text)
        return real(text)

    monkeypatch.setattr(twins, "normal_form", counted)
    known = DuplicateFinder(tiny_archive)
    for _ in range(3):
        assert known.find("x = 1", tiny_archive.genealogy(), {}) is None
    assert asked == ["x = 1"] * 3


def test_a_truncated_or_deleted_cache_file_does_no_harm(tiny_archive: Archive) -> None:
    add(tiny_archive, "dace-grpo", install(root_text(), card("length-gate")))
    copy = disguise(install(root_text(), card("length-gate")))
    assert find(tiny_archive, copy) == "dace-grpo"
    file: Path = DuplicateFinder(tiny_archive).file
    whole = file.read_text()
    assert len(whole.splitlines()) == 2
    for broken in (whole[:-20], whole[:-20] + "\n\0 x y\n", "", "g" * 40 + "\n"):
        file.write_text(broken)
        assert find(tiny_archive, copy) == "dace-grpo"
        assert find(tiny_archive, copy) == "dace-grpo"
    file.unlink()
    assert find(tiny_archive, copy) == "dace-grpo"


def test_a_candidate_without_an_algorithm_is_no_duplicate(tiny_archive: Archive) -> None:
    git(tiny_archive.root, "switch", "-qc", "poise/bare", "poise/grpo")
    git(tiny_archive.root, "rm", "-q", "recipe/algorithm.py")
    git(tiny_archive.root, "commit", "-qm", "nothing left")
    git(tiny_archive.root, "switch", "-q", "main")
    assert "bare" in tiny_archive.genealogy()
    assert find(tiny_archive, "y = 1") is None
    assert find(tiny_archive, "") is None
