"""The estimate of a search, printed before anything runs or is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from poise_git.archive import Archive
from poise_git.cli.main import cli
from poise_git.errors import UsageError
from tests.conftest import edit_settings, git


def estimate(*arguments: str) -> dict[str, object]:
    done = CliRunner().invoke(cli, ["evolve", *arguments, "--estimate", "--json"], catch_exceptions=False)
    document = json.loads(done.output)
    assert isinstance(document, dict)
    return document


def test_an_estimate_needs_no_archive(tmp_path: Path) -> None:
    found = estimate(str(tmp_path / "new"), "--agent", "anthropic", "--candidates", "6", "--protocol", "quick")
    assert not (tmp_path / "new").exists()
    calls = {entry["operator"]: entry for entry in found["calls"]}  # type: ignore[attr-defined]
    assert found["workload"]["candidates"] == 6  # type: ignore[index]
    assert calls["propose"]["low"] == 6 * 4
    assert calls["repair"]["low"] == 0
    assert calls["repair"]["high"] == 2 * 3 * 6
    assert calls["reflect"]["low"] == 6
    usd = found["usd"]
    assert 0 < usd["low"] < usd["high"]  # type: ignore[index]
    # The seeds of each candidate and of the root, and both sides of the confirmation.
    assert found["runs"] == 6 * 4 + 4 + 2 * 4
    assert all(0 < entry["low"] <= entry["high"] for entry in found["hours"])  # type: ignore[attr-defined]


def test_an_estimate_of_a_running_search_writes_nothing(tiny_archive: Archive) -> None:
    edit_settings(tiny_archive.root, "model: claude-sonnet-5-5", "model: unheard-of")
    refs = git(tiny_archive.root, "for-each-ref")
    found = estimate(str(tiny_archive.root), "--agent", "anthropic", "--rounds", "2", "--parents", "2")
    assert found["workload"]["candidates"] == 4  # type: ignore[index]
    assert found["usd"] == {"low": None, "high": None}, "a model without a price"
    assert git(tiny_archive.root, "for-each-ref") == refs
    assert estimate(str(tiny_archive.root), "--candidates", "3")["calls"] == [], "the library agent makes no paid calls"


def test_an_unknown_agent_is_an_error_of_one_line(tiny_archive: Archive) -> None:
    with pytest.raises(UsageError, match="no agent 'nobody': choose one of anthropic"):
        estimate(str(tiny_archive.root), "--agent", "nobody")
