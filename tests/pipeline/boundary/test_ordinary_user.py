"""The hostile candidates again, with neither them nor the trusted side as root."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.ordinary_user import run

HERE = Path(__file__).parent


@pytest.mark.slow
def test_an_ordinary_user_is_protected_from_every_hostile_candidate() -> None:
    # Not below pytest's own folder, which only root may enter.
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        ended = run(
            Path(folder),
            *(sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--durations=0"),
            *("--rootdir", str(HERE.parents[2]), "-c", str(HERE.parents[2] / "pyproject.toml")),
            str(HERE / "test_hostile_candidates.py"),
        )
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert passed is not None
    assert int(passed[1]) >= 150
