from __future__ import annotations

import pytest

from poise_git.archive.refs import candidate_name, candidate_ref, check_name, evidence_ref
from poise_git.errors import UsageError


@pytest.mark.parametrize("text", ["vm-av", "poise/vm-av", "evidence/vm-av", "refs/heads/poise/vm-av"])
def test_a_name_or_a_branch_denotes_a_candidate(text: str) -> None:
    assert candidate_name(text) == "vm-av"


@pytest.mark.parametrize("text", ["", "main/x", "HEAD", "poise/", "vm-av~1", "origin/poise/x", "a" * 81, "x\n", "-x"])
def test_other_text_denotes_no_candidate(text: str) -> None:
    assert candidate_name(text) is None


@pytest.mark.parametrize("name", ["", "A", "a--b", "a_b", "-a", "a-", "a/b", "a.lock", "ä", "a b", "a\n", "a" * 81])
def test_a_bad_name_is_refused_in_one_line_with_a_good_example(name: str) -> None:
    with pytest.raises(UsageError, match="vm-av-grpo") as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


def test_refs_are_made_of_names() -> None:
    assert candidate_ref("x2") == "refs/heads/poise/x2"
    assert evidence_ref("x2") == "refs/heads/evidence/x2"
