"""The tree of `log`: every candidate is in it, whatever it descends from."""

from __future__ import annotations

from poise_git.archive.entries import Candidate
from poise_git.archive.genealogy import Genealogy
from poise_git.cli.render import tree_lines


def candidate(name: str, *parents: str) -> Candidate:
    return Candidate(name, name, parents, "m", "h", "f", (), "library", None, {})


def drawn(*candidates: Candidate) -> list[str]:
    return [line.partition("pending")[0].rstrip() for line in tree_lines(Genealogy(candidates), "protocol")]


def test_children_are_below_their_first_parent() -> None:
    family = [candidate("grpo"), candidate("a", "grpo"), candidate("b", "grpo"), candidate("ab", "a", "b")]
    assert drawn(*family, candidate("c", "a")) == ["grpo", "├─ a", "│  ├─ ab", "│  └─ c", "└─ b"]


def test_a_candidate_without_its_ancestors_begins_a_tree_of_its_own() -> None:
    """A shallow clone has such candidates, and so has an archive with a forged list of shallow commits."""
    assert drawn(candidate("grpo"), candidate("a"), candidate("b", "a"), candidate("c", "gone")) == [
        "grpo", "a", "└─ b", "c"
    ]  # fmt: skip


def test_a_lineage_of_thousands_is_drawn() -> None:
    line = [candidate("grpo"), *(candidate(f"c{n}", f"c{n - 1}" if n else "grpo") for n in range(3000))]
    assert len(drawn(*line)) == 3001
