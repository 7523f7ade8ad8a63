"""The trusted half of the checks that call a candidate: ask the candidate's processes, and decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.door import CANDIDATE, PARENT
from poise_git.pipeline.boundary.opening import handed_door
from poise_git.pipeline.boundary.process import CHECK_SECONDS, Answering, CandidateProcess
from poise_git.pipeline.checks.claims import decide
from poise_git.pipeline.checks.knobs import NoSuchRecipe
from poise_git.pipeline.checks.numeric import NUMERIC
from poise_git.pipeline.checks.registry import IMPORT
from poise_git.pipeline.checks.trial import Trial


def run(arguments: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Entry point: `claims` are (check, arguments) pairs; `problems` gives, by name, the reason for a missing recipe.

    Sends {"started": check} and {"passed": check, "seconds": s} as it goes.
    Returns {"failure": [check, reason] or None, "claims": [(held, because), ...]}; no claims after a failure.
    """
    door, problems = handed_door(), arguments["problems"]

    def open_process(recipe: str) -> Answering:
        if recipe in problems:
            raise NoSuchRecipe(problems[recipe])
        return CandidateProcess.opened(door, recipe, CHECK_SECONDS)

    under_way, began = IMPORT, time.perf_counter()
    try:
        send({"started": under_way})
        trial = Trial.of(open_process, CANDIDATE).remembering()
        send({"passed": under_way, "seconds": time.perf_counter() - began})
        for under_way, check in NUMERIC:
            send({"started": under_way})
            began = time.perf_counter()
            if (reason := check(trial)) is not None:
                return {"failure": (under_way, reason), "claims": []}
            send({"passed": under_way, "seconds": time.perf_counter() - began})
        under_way = "claim"
        send({"started": under_way})
        if not arguments["claims"]:
            return {"failure": None, "claims": []}
        parent = Trial.of(open_process, PARENT).remembering()
        decided = [decide(name, detail, trial, parent) for name, detail in arguments["claims"]]
    except CandidateFailed as failure:
        return {"failure": (under_way, str(failure)), "claims": []}
    return {"failure": None, "claims": decided}
