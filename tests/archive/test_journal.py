from __future__ import annotations

import pytest

from poise_git.archive import Archive
from poise_git.errors import ArchiveError
from tests import sentences

from .conftest import Git


def test_rounds_are_read_back_in_order(archive: Archive, git: Git) -> None:
    assert archive.rounds() == ()
    plans = [{"number": number, "slots": [{"parent": "grpo", "score": 0.1 * number}]} for number in (1, 2, 11)]
    for plan in plans:
        archive.write_round(int(str(plan["number"])), plan)
    assert archive.rounds() == tuple(plans)
    assert git("log", "--format=%s", "poise-journal").splitlines() == ["round(11)", "round(2)", "round(1)"]
    assert git("ls-tree", "-r", "--name-only", "poise-journal").split() == [
        "rounds/0001.yaml",
        "rounds/0002.yaml",
        "rounds/0011.yaml",
    ]


def test_the_journal_shares_no_history_with_main(archive: Archive, git: Git) -> None:
    archive.write_round(1, {"number": 1})
    assert git("rev-list", "--max-parents=0", "poise-journal") == git("rev-parse", "poise-journal")


def test_a_round_is_written_once(archive: Archive, git: Git) -> None:
    archive.write_round(1, {"number": 1})
    written = git("rev-parse", "poise-journal")
    archive.write_round(1, {"number": 1})
    assert git("rev-parse", "poise-journal") == written
    with pytest.raises(ArchiveError, match=sentences.ROUND_TAKEN.format(number=1)):
        archive.write_round(1, {"number": 1, "other": True})
    assert archive.rounds() == ({"number": 1},)


def test_principles_are_replaced_and_rounds_stay(archive: Archive) -> None:
    assert archive.principles() == {}
    archive.write_round(1, {"number": 1})
    archive.write_principles({"principles": ["mask invalid"]})
    archive.write_principles({"principles": ["mask invalid", "no std"]})
    assert archive.principles() == {"principles": ["mask invalid", "no std"]}
    assert len(archive.rounds()) == 1


def test_the_newest_rounds_are_read_field_by_field(archive: Archive, git: Git) -> None:
    assert archive.newest_rounds(3, "slots") == ()
    assert archive.count_rounds() == 0
    for number in range(1, 6):
        text = f"slots: none of round {number}\n# acquisition:\n\n  more"
        archive.write_round(number, {"note": text, "acquisition": [{"slots": 1}], "slots": [{"parent": f"p{number}"}]})
    archive.write_round(6, {"note": "nothing was planned"})
    assert archive.count_rounds() == 6
    assert archive.newest_rounds(3, "slots") == ((4, [{"parent": "p4"}]), (5, [{"parent": "p5"}]))
    assert archive.newest_rounds(1, "note") == ((6, "nothing was planned"),)
    assert archive.newest_rounds(3, "slots") == Archive.open(archive.root).newest_rounds(3, "slots")


def test_rounds_are_counted_without_being_read(archive: Archive, git: Git) -> None:
    archive.write_round(1, {"number": 1})
    git("switch", "-q", "poise-journal")
    (archive.root / "rounds" / "0002.yaml").write_text("{number: [\n")
    git("add", ".")
    git("commit", "-q", "-m", "round(2)")
    assert archive.count_rounds() == 2
    with pytest.raises(ArchiveError):
        archive.rounds()


def direct(archive: Archive) -> tuple[str, ...]:
    """Journal a directive that adds a line at the end of poise.yaml."""
    return archive.write_directive({"directive": "d"}, "poise.yaml", lambda text: f"{text}seed: 1\n")


def test_a_directive_leaves_a_persons_edits_in_the_work_tree_and_the_index(archive: Archive, git: Git) -> None:
    file = archive.root / "poise.yaml"
    committed = file.read_text()
    file.write_text(f"# staged\n{committed}")
    git("add", "poise.yaml")
    file.write_text(f"# an hour of work\n{committed}")
    assert direct(archive) == ()
    assert file.read_text() == f"# an hour of work\n{committed}seed: 1\n"
    assert git("show", ":poise.yaml") == f"# staged\n{committed}seed: 1\n"
    assert git("show", "main:poise.yaml") == f"{committed}seed: 1\n"


@pytest.mark.parametrize("edit", ["seed: 2\n", "\xff"])
def test_a_conflicting_edit_stays_as_it_is_and_is_named(archive: Archive, git: Git, edit: str) -> None:
    file = archive.root / "poise.yaml"
    file.write_bytes(file.read_bytes() + edit.encode("latin-1"))
    mine = file.read_bytes()
    assert direct(archive) == ("poise.yaml",)
    assert file.read_bytes() == mine
    assert git("show", "main:poise.yaml").endswith("seed: 1\n")


def test_a_deleted_file_stays_deleted(archive: Archive) -> None:
    (archive.root / "poise.yaml").unlink()
    assert direct(archive) == ("poise.yaml",)
    assert not (archive.root / "poise.yaml").exists()
