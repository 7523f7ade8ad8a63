"""The program in the test process, because starting an interpreter takes longer than most commands."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from poise_git.cli.main import main


def poise_git(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `poise-git` with these arguments. Returns its exit code and its output."""
    out, err, command = io.StringIO(), io.StringIO(), ["poise-git", *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        if cwd is not None:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return subprocess.CompletedProcess(command, code or 0, out.getvalue(), err.getvalue())
