"""An error of a candidate becomes one line, even if printing it fails."""

from __future__ import annotations

import pytest

from poise_git.pipeline.boundary.calls import guard
from poise_git.pipeline.boundary.failures import CandidateFailed


@pytest.mark.parametrize("raised", [ValueError, SystemExit, GeneratorExit])
def test_an_error_that_raises_in_str_is_reported_in_one_line(raised: type[BaseException]) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise raised

    def call() -> None:
        raise Unprintable

    with pytest.raises(CandidateFailed, match="raised Unprintable: an error that cannot be printed"):
        guard("compute_advantages", call)
