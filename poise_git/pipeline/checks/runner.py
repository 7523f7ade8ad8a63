"""Run all checks of one candidate, cheapest first, up to the first failure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise_git.analysis.evidence import ClaimVerdict, Verdict
from poise_git.archive.entries import Claim
from poise_git.errors import CheckFailed
from poise_git.pipeline.boundary.door import CANDIDATE, PARENT
from poise_git.pipeline.boundary.hosting import STRICT, Containment, host
from poise_git.pipeline.checks.claims import knobs_of
from poise_git.pipeline.checks.knobs import knob_variants
from poise_git.pipeline.checks.registry import IMPORT, fail
from poise_git.pipeline.checks.static import STATIC, Sources
from poise_git.pipeline.sandbox import ChildFailed, Sandbox

_CHILD = "poise_git.pipeline.checks.child:run"
_VERDICTS = {True: Verdict.HELD, False: Verdict.REFUTED, None: Verdict.UNDECIDED}


@dataclass(frozen=True)
class CheckReport:
    """The results of the checks.

    Attributes:
        passed: names of the checks passed, in order, each with the seconds it took.
        failure: the first failure, if any; nothing is checked after it.
        claims: one verdict per claim of the proposal, if the numeric checks passed.
    """

    passed: tuple[tuple[str, float], ...]
    failure: CheckFailed | None
    claims: tuple[ClaimVerdict, ...]


def check_candidate(
    recipe: Mapping[str, str],
    claims: Sequence[Claim],
    parent: Mapping[str, str],
    sandbox: Sandbox,
    scratch: Path,
    containment: Containment = STRICT,
) -> CheckReport:
    """Check a candidate's recipe (file name -> text) against its proposal's claims and its parent's recipe.

    The static checks read the text in this process. The others are decided by a sandboxed child in the folder
    `scratch`, which asks the candidate's processes behind the boundary; those never run without it.

    Raises:
        IsolationMissing: the machine lacks a layer, and `containment` does not allow that.
    """
    passed: list[tuple[str, float]] = []
    verdicts: tuple[ClaimVerdict, ...] = ()
    try:
        _read(Sources(recipe, parent), passed)
        verdicts = _try(recipe, claims, parent, sandbox, scratch, containment, passed)
        _hold(verdicts)
    except CheckFailed as failure:
        return CheckReport(tuple(passed), failure, verdicts)
    return CheckReport((*passed, ("claim", 0.0)), None, verdicts)


def check_text(recipe: Mapping[str, str], parent: Mapping[str, str]) -> CheckFailed | None:
    """The first failure of the static checks, which read the text and execute nothing."""
    try:
        _read(Sources(recipe, parent), [])
    except CheckFailed as failure:
        return failure
    return None


def _read(sources: Sources, passed: list[tuple[str, float]]) -> None:
    for name, check in STATIC:
        began = time.perf_counter()
        fail(name, check(sources))
        passed.append((name, time.perf_counter() - began))


def _try(
    recipe: Mapping[str, str],
    claims: Sequence[Claim],
    parent: Mapping[str, str],
    sandbox: Sandbox,
    scratch: Path,
    containment: Containment,
    passed: list[tuple[str, float]],
) -> tuple[ClaimVerdict, ...]:
    under_way = [IMPORT]

    def follow(message: Mapping[str, Any]) -> None:
        if "started" in message:
            under_way.append(str(message["started"]))
        else:
            passed.append((str(message["passed"]), float(message["seconds"])))

    variants, problems = knob_variants(recipe, knobs_of(claims))
    recipes = {**variants, CANDIDATE: recipe, PARENT: parent}
    arguments = {"claims": [(claim.check, dict(claim.arguments)) for claim in claims], "problems": problems}
    try:
        limits = sandbox.check_limits
        with host(sandbox, recipes, may_lack_layers=containment.may_lack_layers, limits=limits) as running:
            found = sandbox.run(
                _CHILD, arguments, scratch, limits=limits, handed=(running.door,), on_message=follow
            ).value
        if found["failure"] is not None and running.reason:
            # The reason why the candidate's processes ended is more useful than the fact that they are gone.
            raise CheckFailed(str(found["failure"][0]), running.reason)
        if found["failure"] is not None:
            check, reason = found["failure"]
            raise CheckFailed(str(check), str(reason))
        return tuple(
            ClaimVerdict(claim, _VERDICTS[held], str(because))
            for claim, (held, because) in zip(claims, found["claims"], strict=True)
        )
    except ChildFailed as failure:
        raise CheckFailed(under_way[-1], failure.reason) from failure


def _hold(verdicts: Sequence[ClaimVerdict]) -> None:
    for entry in verdicts:
        if entry.verdict is Verdict.REFUTED:
            raise CheckFailed("claim", f"refuted: {entry.claim.statement} ({entry.because})")
