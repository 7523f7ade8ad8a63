from __future__ import annotations

import pytest

from poise_git.archive.refs import candidate_name, candidate_ref, check_name, evidence_ref
from poise_git.errors import UsageError


@pytest.mark.parametrize("text", ["vm-av", "poise/vm-av", "evidence/vm-av", "refs/heads/poise/vm-av"])
def test_a_candidate_is_meant_by_its_name_and_by_its_branches(text: str) -> None:
    assert candidate_name(text) == "vm-av"


@pytest.mark.parametrize("text", ["", "main/x", "HEAD", "poise/", "vm-av~1", "origin/poise/x", "a" * 81, "x\n", "-x"])
def test_anything_else_means_none(text: str) -> None:
    assert candidate_name(text) is None


@pytest.mark.parametrize("name", ["", "A", "a--b", "a_b", "-a", "a-", "a/b", "a.lock", "ä", "a b", "a\n", "a" * 81])
def test_a_bad_name_is_refused_in_one_line_that_shows_a_good_one(name: str) -> None:
    with pytest.raises(UsageError, match="vm-av-grpo") as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


def test_refs_are_made_of_names() -> None:
    assert candidate_ref("x2") == "refs/heads/poise/x2"
    assert evidence_ref("x2") == "refs/heads/evidence/x2"
