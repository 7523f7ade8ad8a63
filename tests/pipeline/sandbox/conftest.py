from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poise_git.pipeline.sandbox import ChildFailed, Completed, Sandbox
from poise_git.settings import SandboxSettings

ENTRIES = Path(__file__).parent / "entries"
SMALL = SandboxSettings(memory_mb=512, cpu_seconds=20, wall_seconds=20, file_mb=4, processes=16)


class Child:
    """Runs the entry points of `entries_for_tests` in one sandbox."""

    def __init__(self, settings: SandboxSettings, scratch: Path) -> None:
        self.sandbox, self.scratch = Sandbox(settings, preloaded={}), scratch

    def run(self, name: str, **arguments: Any) -> Completed:
        return self.sandbox.run(f"entries_for_tests:{name}", arguments, self.scratch, readable=(ENTRIES,))

    def failure(self, name: str, **arguments: Any) -> ChildFailed:
        with pytest.raises(ChildFailed) as caught:
            self.run(name, **arguments)
        assert "\n" not in caught.value.reason
        return caught.value


class Children:
    """Makes children, and finds their remaining processes."""

    def __init__(self, mark: str, scratch: Path) -> None:
        self._mark, self._scratch = mark, scratch
        self._made: list[Child] = []

    def __call__(self, **settings: Any) -> Child:
        self._made.append(Child(SMALL.model_copy(update=settings), self._scratch))
        return self._made[-1]

    def server(self, patience: float = 5.0) -> int:
        """The one process that remains between two runs, after the others have had time to end."""
        deadline = time.monotonic() + patience
        while len(found := marked_processes(self._mark)) > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        (server,) = found
        return server

    def close(self) -> None:
        for child in self._made:
            child.sandbox.close()

    def left(self, patience: float = 5.0) -> list[int]:
        """Processes with the mark, after they have had time to end."""
        deadline = time.monotonic() + patience
        while (found := marked_processes(self._mark)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


def marked_processes(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def _one_fork_server() -> None:
    """Give every sandbox its own fork server, which these tests examine."""


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    """Sandboxes whose processes must all have ended after each test."""
    mark = tmp_path / "mark"
    # The fork server gets the module path on its command line, and its children look the same.
    monkeypatch.syspath_prepend(str(mark))
    monkeypatch.syspath_prepend(str(ENTRIES))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    made = Children(str(mark), scratch)
    try:
        yield made
    finally:
        made.close()
    assert made.left() == []
