"""The folder for data that is made once per machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from poise_git.pipeline.cache import cache_folder


@pytest.mark.parametrize(
    ("home", "expected"),
    [("/some/cache", "/some/cache/poise-git/models"), ("", "~/.cache/poise-git/models"),
     ("relative", "~/.cache/poise-git/models"), (None, "~/.cache/poise-git/models")],
)  # fmt: skip
def test_the_cache_is_in_the_xdg_folder(monkeypatch: pytest.MonkeyPatch, home: str | None, expected: str) -> None:
    if home is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert cache_folder("models") == Path(expected).expanduser()
