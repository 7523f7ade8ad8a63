from __future__ import annotations

import os
import time

from poise_git.archive import Archive
from poise_git.package_data import hook_files

from .conftest import Git, make_metrics, make_proposal


def findings(archive: Archive) -> dict[str, str]:
    return {finding.where: finding.what for finding in archive.examine(hook_files())}


def test_a_complete_archive_has_no_findings(archive: Archive) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_candidate(make_proposal("y"), "# y\n")
    archive.add_candidate(make_proposal("xy", "x", second_parent="y"), "# xy\n")
    archive.add_evidence("x", make_metrics(), None)
    assert findings(archive) == {}


def test_damage_by_plain_git_is_found(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    git("update-ref", "-d", "refs/heads/poise/x")
    git("branch", "poise/Bad_Name", "main")
    git("branch", "poise/empty", "main")
    git("switch", "-q", "-c", "poise/wide", "main")
    (archive.root / "README.md").write_text("changed\n")
    git("commit", "-qam", "docs", "--no-verify")
    git("notes", "--ref=poise/metrics", "add", "-m", '{"U": [0.7', "main~1")
    found = findings(archive)
    assert "without branch" in found["refs/heads/evidence/x"]
    assert "kebab-case" in found["refs/heads/poise/Bad_Name"]
    assert "another candidate's commit" in found["refs/heads/poise/empty"]
    assert found["refs/heads/poise/wide"] == "its commit changes README.md"
    whats = [finding.what for finding in archive.examine(hook_files()) if "notes" in finding.where]
    assert [what[:10] for what in whats] == ["a note on ", "an unreada"]


def test_configuration_hooks_and_leftover_locks_are_repaired(archive: Archive, git: Git) -> None:
    git("config", "--unset", "alias.lineage")
    git("config", "--unset", "notes.rewriteRef")
    git("remote", "add", "team", "https://example.org/search.git")
    (archive.root / ".git" / "hooks" / "pre-commit").unlink()
    lock = archive.root / ".git" / "refs" / "heads" / "poise" / "x.lock"
    lock.touch()
    os.utime(lock, (0, time.time() - 60))
    assert set(findings(archive)) == {
        "alias.lineage", "notes.rewriteRef", "remote team", "hooks/pre-commit", str(lock)
    }  # fmt: skip
    assert all(finding.repairable for finding in archive.examine(hook_files()))
    archive.repair(hook_files())
    assert findings(archive) == {}


def test_a_broken_object_is_found(archive: Archive) -> None:
    pack = next((archive.root / ".git" / "objects" / "pack").glob("*.pack"))
    pack.chmod(0o644)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 0xFF
    pack.write_bytes(bytes(content))
    assert any(finding.where == "objects" for finding in Archive.open(archive.root).examine(hook_files()))


def test_a_forged_line_of_git_lineage_is_found_and_rewritten(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(), None)
    honest = git("notes", "--ref=poise/result", "show", "poise/x")
    assert findings(archive) == {}
    git("-c", "core.hooksPath=/dev/null", "notes", "--ref=poise/result", "add", "-f", "-m", "U 0.9900", "poise/x")
    assert "git lineage" in findings(archive)["refs/notes/poise/result"]
    archive.repair(hook_files())
    assert git("notes", "--ref=poise/result", "show", "poise/x") == honest
    assert findings(archive) == {}


def test_a_file_may_have_any_name(archive: Archive, git: Git) -> None:
    """Names that look like a commit, like a change, and like the start of a record."""
    archive.add_candidate(make_proposal("x"), "# x\n")
    commit = git("rev-parse", "poise/grpo").strip()
    names = [f"\x01{commit}", commit, f":100644 100644 {commit} {commit} M", "\n"]
    git("switch", "-q", "poise/x")
    for name in names:
        (archive.root / name).write_text("x\n")
    git("add", "-A")
    git("commit", "-q", "--amend", "--no-edit", "--no-verify")
    found = [finding for finding in archive.examine(hook_files()) if "its commit changes" in finding.what]
    assert [finding.where for finding in found] == ["refs/heads/poise/x"]
    assert commit in found[0].what
