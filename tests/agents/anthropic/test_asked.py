"""Calls to the model outside a search: the archive's ledger records them too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from poise_git.archive import Archive
from poise_git.archive.spending import spent
from poise_git.cli.main import cli
from tests.agents.anthropic.models import Useful, operator
from tests.agents.anthropic.server import serving
from tests.conftest import edit_settings, git

pytestmark = pytest.mark.slow

KEY = "sk-canary-5b0d"


@pytest.fixture
def archive(tiny_archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive whose root has run, with a reply cache of its own."""
    edit_settings(tiny_archive.root, "model: claude-sonnet-5-5", "model: m")
    price = "    m: {input: 2.0, output: 10.0, cache_write: 2.5, cache_read: 0.1}\n"
    edit_settings(tiny_archive.root, "  prices:\n", f"  prices:\n{price}")
    edit_settings(tiny_archive.root, "agent: library", "agent: anthropic")
    assert run(tiny_archive, "evaluate", "grpo")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return tiny_archive


def run(archive: Archive, *arguments: str) -> str:
    done = CliRunner().invoke(cli, ["-C", str(archive.root), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_proposals_are_paid_for_once_and_are_in_the_ledger(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = git(archive.root, "for-each-ref", "refs/heads/poise", "refs/heads/evidence")
    with serving(Useful()) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        first = run(archive, "propose", "grpo")
        asked = [operator(request) for request in server.requests]
        paid = spent(archive)
        again = run(archive, "propose", "grpo")
        assert len(server.requests) == len(asked)
    assert again == first
    assert {"propose", "screen"} <= set(asked)
    journaled = list(archive.journaled_calls())
    assert sorted({call.key for call in journaled}) == sorted(call.key for call in journaled[: len(asked)])
    assert paid == pytest.approx(sum(call.usd or 0.0 for call in journaled[: len(asked)]))
    assert spent(archive) == pytest.approx(paid)
    assert json.loads(run(archive, "status", "--json"))["spent_usd"] == pytest.approx(paid)
    assert git(archive.root, "for-each-ref", "refs/heads/poise", "refs/heads/evidence") == candidates
    assert "calls(1): propose grpo" in git(archive.root, "log", "--format=%s", "poise-journal")


def test_a_directive_is_in_the_ledger_whether_it_is_committed_or_not(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Useful()) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        run(archive, "directive", "accurate and concise")
        paid = spent(archive)
        assert paid > 0
        run(archive, "directive", "accurate and concise", "--commit")
        assert spent(archive) == pytest.approx(paid), "the reply was kept"
        run(archive, "directive", "accurate but short", "--commit")
    assert spent(archive) > paid
    assert [len(entry["calls"]) for entry in archive.directives()] == [1, 1]
    assert KEY not in git(archive.root, "log", "-p", "poise-journal")
