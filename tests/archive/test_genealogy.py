from __future__ import annotations

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import Candidate, Metrics, Reflection, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.git import Repository
from poise_git.errors import UnknownCandidate

from .conftest import PROTOCOL, Git, algorithm_of, make_metrics, make_proposal


def node(name: str, *parents: str) -> Candidate:
    return Candidate(name, name * 8, parents, "", "", "", (), "", None, {})


TREE = Genealogy(
    (node("grpo"), node("a", "grpo"), node("b", "grpo"), node("aa", "a"), node("ab", "a", "b"), node("aba", "ab"))
)


def names(candidates: tuple[Candidate, ...]) -> list[str]:
    return [candidate.name for candidate in candidates]


def test_the_genealogy_gives_all_relations() -> None:
    assert TREE.root.name == "grpo"
    assert names(TREE.children("a")) == ["aa", "ab"]
    assert names(TREE.children("b")) == ["ab"]
    assert names(TREE.ancestors("aba")) == ["grpo", "a", "b", "ab"]
    assert names(TREE.descendants("a")) == ["aa", "ab", "aba"]
    assert names(TREE.path("aba")) == ["grpo", "a", "ab", "aba"]
    assert [TREE.depth(name) for name in ("grpo", "b", "aba")] == [0, 1, 3]
    assert names(TREE.ancestors("grpo")) == names(TREE.children("aba")) == names(TREE.descendants("aba")) == []


def test_an_unknown_name_is_an_error_with_similar_names() -> None:
    with pytest.raises(UnknownCandidate, match="did you mean aba"):
        TREE["abaa"]
    assert "aba" in TREE
    assert "abaa" not in TREE


def test_a_candidate_is_read_from_refs_commits_and_notes(archive: Archive) -> None:
    archive.add_candidate(make_proposal("x", priors=("one", "two")), "# x\n")
    archive.add_candidate(make_proposal("y"), "# y\n")
    written = archive.add_candidate(make_proposal("xy", "x", second_parent="y"), "# xy\n")
    archive.add_evidence("x", make_metrics(), Reflection(ReflectionFacts(), "prose"))
    archive.add_evidence("y", Metrics(Status.FAILED, PROTOCOL, stage="numeric", reason="NaN"), None)

    genealogy = archive.genealogy()

    assert [candidate.name for candidate in genealogy] == ["grpo", "x", "y", "xy"]
    assert genealogy["xy"] == written
    x = genealogy["x"]
    assert (x.parents, x.mechanism, x.hypothesis) == (("grpo",), "the mechanism of x", "Why x should help.")
    assert (x.family, x.priors, x.agent) == ("baseline", ("one", "two"), "library")
    assert x.metrics == {PROTOCOL: make_metrics(details={}, algorithm=algorithm_of(archive, "x"))}
    assert x.status_under("another protocol") is Status.PENDING
    failed = genealogy["y"].metrics[PROTOCOL]
    assert (failed.status, failed.stage, failed.reason) == (Status.FAILED, "numeric", "NaN")


def test_reading_starts_two_git_processes_for_any_number_of_candidates(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        archive.add_candidate(make_proposal(f"c{number}", "grpo" if number < 3 else f"c{number // 3}"), f"# {number}\n")
    commands: list[str] = []
    run = Repository.run

    def counting(self: Repository, *arguments: str, **options: bytes) -> bytes:
        commands.append(arguments[0])
        return run(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Repository, "run", counting)
    assert len(archive.genealogy()) == 13
    assert commands == ["for-each-ref", "log"]


def test_branches_made_by_plain_git_are_candidates(archive: Archive, git: Git) -> None:
    git("switch", "-q", "-c", "poise/by-hand", "poise/grpo")
    assert "by-hand" not in archive.genealogy(), "a branch without a commit of its own is no candidate yet"
    (archive.root / "recipe" / "algorithm.py").write_text("# by hand\n")
    git("commit", "-qam", "try the median\n\nMeans are not robust.")
    archive.add_candidate(make_proposal("child", "by-hand"), "# child\n")

    found = archive.genealogy()
    assert (found["by-hand"].parents, found["by-hand"].mechanism) == (("grpo",), "try the median")
    assert found["child"].parents == ("by-hand",)
    assert archive.proposal("by-hand") is None

    archive.add_evidence("by-hand", make_metrics(), None)
    assert archive.metrics_file("by-hand") == make_metrics(algorithm=algorithm_of(archive, "by-hand"))


def test_children_keep_their_parent_when_it_is_amended_or_grows(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("a"), "# a\n")
    archive.add_candidate(make_proposal("b", "a"), "# b\n")
    archive.add_evidence("a", make_metrics(), None)
    git("switch", "-q", "poise/a")
    (archive.root / "recipe" / "algorithm.py").write_text("# amended\n")
    git("commit", "-qa", "--amend", "--no-edit")
    found = archive.genealogy()
    assert (found["a"].parents, found["b"].parents) == (("grpo",), ("a",))

    (archive.root / "recipe" / "algorithm.py").write_text("# a second commit\n")
    git("commit", "-qam", "more of it")
    assert archive.genealogy()["a"].parents == ("grpo",)


def test_candidates_of_one_second_are_sorted_by_name(archive: Archive) -> None:
    children = ["zeta", "alpha", "mid"]
    for name in children:
        archive.add_candidate(make_proposal(name), f"# {name}\n")
    archive.add_candidate(make_proposal("aaa", "zeta"), "# aaa\n")
    order = [candidate.name for candidate in archive.genealogy()]
    assert order[0] == "grpo"
    assert order.index("aaa") > order.index("zeta")
    assert sorted(order[1:]) == ["aaa", "alpha", "mid", "zeta"]


def test_candidates_of_one_second_keep_the_order_of_addition(archive: Archive) -> None:
    names = [f"{letter}{number}" for number in range(3) for letter in "qcxa"]
    for name in names:
        archive.add_candidate(make_proposal(name), f"# {name}\n")
    assert [candidate.name for candidate in Archive.open(archive.root).genealogy()] == ["grpo", *names]
