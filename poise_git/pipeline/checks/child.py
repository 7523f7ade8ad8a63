"""The sandboxed half of the checks: load the candidate, try it, decide its claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from poise_git.pipeline.checks.claims import decide
from poise_git.pipeline.checks.numeric import NUMERIC
from poise_git.pipeline.checks.trial import Trial, load_algorithm, place


def run(arguments: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Entry point: `recipe` and `parent` are file name -> text, `claims` are (check, arguments) pairs.

    Sends {"started": check} and {"passed": check, "seconds": s} as it goes.
    Returns {"failure": [check, reason] or None, "claims": [(held, because), ...]}; no claims after a failure.
    """
    folder = Path.cwd()
    trial: Trial | None = None
    for name, check in NUMERIC:
        send({"started": name})
        began = time.perf_counter()
        try:
            trial = trial or Trial(load_algorithm(arguments["recipe"], folder, "candidate_recipe"))
            reason = check(trial)
        except Exception as error:
            reason = place(error, folder)
        if reason is not None:
            return {"failure": (name, reason), "claims": []}
        send({"passed": name, "seconds": time.perf_counter() - began})
    assert trial is not None
    send({"started": "claim"})
    if not arguments["claims"]:
        return {"failure": None, "claims": []}
    parent = Trial(load_algorithm(arguments["parent"], folder, "parent_recipe"))
    return {
        "failure": None,
        "claims": [decide(name, detail, trial, parent) for name, detail in arguments["claims"]],
    }
