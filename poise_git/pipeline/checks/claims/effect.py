"""`[effect figure=utility direction=up]`: an effect of training; `analysis/` decides it from the runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poise_git.analysis.evidence import EFFECT
from poise_git.pipeline.checks.claims.kind import ClaimKind, Decided


class Effect(ClaimKind):
    name = EFFECT
    decided = Decided.BY_RUNS
    wording = "training moves `figure` in this `direction` against the parent"

    figure: Annotated[str, Field(description="a figure: utility, a suite, entropy, mean_length, ...")]
    direction: Annotated[Literal["up", "down"], Field(description="up or down")]
