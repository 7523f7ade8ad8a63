"""The result of a search: the tree, the best candidate with its uncertainty, and the next commands."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from textwrap import wrap
from typing import Any

from poise_git.archive.entries import ROOT
from poise_git.cli.render import (
    candidate_data,
    difference_text,
    estimate_text,
    gain_text,
    interval_text,
    reason_lines,
    tree_lines,
    violation_text,
)
from poise_git.experiment import Experiment
from poise_git.loop import SearchResult
from poise_git.measurement.statistics import beyond_noise
from poise_git.pipeline.protocol import Protocol

LONGEST_LINE = 100


def result_text(experiment: Experiment, ended: SearchResult) -> str:
    genealogy = experiment.archive.genealogy()
    protocol = experiment.protocol.hash
    verdicts = experiment.verdicts(genealogy)
    lines = ["", *tree_lines(genealogy, protocol, mark=ended.best, verdicts=verdicts), *reason_lines(verdicts), ""]
    lines += verdict_lines(experiment, ended)
    place, program = shlex.quote(str(experiment.archive.root)), program_name()
    option = experiment.protocol_option
    lines += [
        "",
        "next:",
        f"  git -C {place} lineage                       the tree, with plain git",
        f"  {program} -C {place} show {ended.best}{option}",
        f"  {program} -C {place} diff {ended.best} {ROOT}",
        f"  {program} evolve {place} --candidates {ended.evaluated + 6}{option}",
    ]
    return "\n".join(lines)


def program_name() -> str:
    """The command that runs this program: its name if it is on PATH, else its path."""
    called = sys.argv[0]
    on_path = shutil.which("poise-git") is not None or Path(called).name != "poise-git"
    return "poise-git" if on_path else shlex.quote(called)


def unproven_text(experiment: Experiment) -> str:
    """A remark on metrics that may not exist; empty once the root has run."""
    names = ", ".join(experiment.unverified_metrics)
    return f"{names}: not a suite of this protocol; validated once {ROOT} has run" if names else ""


def verdict_lines(experiment: Experiment, ended: SearchResult) -> list[str]:
    """The verdict on the winner. Selection inflates its figure, so fresh seeds decide."""
    metrics = experiment.evaluated()[ended.best][1]
    violated = [f"  {violation_text(violation)}" for violation in metrics.violations]
    if violated:
        violated.append("  every candidate violates a constraint of the objective")
    if ended.best == ROOT:
        return [f"none of {ended.evaluated} evaluated candidates is better than {ROOT}", *violated]
    seeds = len(experiment.protocol.seeds)
    lines = [
        f"best: {ended.best}  U {estimate_text(metrics.utility)}",
        f"  on the search's {seeds} seeds: {gain_text(metrics)} vs {ROOT} (optimistic: the best of {ended.evaluated})",
        *violated,
    ]
    gain = ended.confirmation
    if gain is None:
        if not experiment.protocol.confirmation_seeds:
            return [*lines, "  not confirmed: the protocol has no confirmation_seeds"]
        confirm = f"poise-git confirm {ended.best}{experiment.protocol_option}"
        return [*lines, f"  not confirmed: it has not run on all fresh seeds; run: {confirm}"]
    rates = learning_rates_text(experiment, ended.best)
    lines.append(f"  on {gain.n} fresh seeds{rates}: {difference_text(gain)} vs {ROOT}{interval_text(gain)}")
    if fresh := experiment.confirmed_violations(ended.best):
        return [*lines, *(f"  not confirmed: on fresh seeds it {violation_text(violation)}" for violation in fresh)]
    if doubt := experiment.doubt():
        return [*lines, f"  not confirmed: {doubt}"]
    better = beyond_noise(gain) and gain.value > 0
    return [
        *lines,
        f"  confirmed: better than {ROOT}" if better else f"  not confirmed: not better than {ROOT} beyond noise",
        *prediction_lines("  predicts: ", experiment.protocol, indent=4),
    ]


def prediction_lines(label: str, protocol: Protocol, indent: int) -> list[str]:
    """What a result on the protocol predicts elsewhere, in the protocol's own words."""
    if protocol.predicts:
        text = f"{protocol.predicts} (stated in protocols/{protocol.name}.yaml)"
    else:
        text = "unknown: results on this protocol have not been compared with those of other training"
    return wrap(label + text, LONGEST_LINE, subsequent_indent=" " * indent)


def learning_rates_text(experiment: Experiment, name: str) -> str:
    """At which learning rates a finalist and the root were compared; empty if the protocol names only one."""
    tried = 1 + len(experiment.protocol.finalist_learning_rates)
    if tried == 1:
        return ""
    own, root = (experiment.best_learning_rate(each) for each in (name, ROOT))
    return f", each at its best of {tried} learning rates ({name} ×{own:g}, {ROOT} ×{root:g})"


def result_document(experiment: Experiment, ended: SearchResult) -> dict[str, Any]:
    genealogy = experiment.archive.genealogy()
    candidate = experiment.counted(genealogy).by_name[ended.best]
    gain = ended.confirmation
    violated, doubt = experiment.confirmed_violations(ended.best), experiment.doubt(genealogy)
    return {
        "best": candidate_data(candidate, experiment.protocol.hash, experiment.verdicts(genealogy)),
        "confirmation": gain.to_data() if gain else None,
        "learning_rates": {each: experiment.best_learning_rate(each) for each in (ended.best, ROOT)},
        "confirmed": bool(gain and gain.value > 0 and beyond_noise(gain) and not violated and not doubt),
        "violated": [violation.to_data() for violation in violated],
        "evaluated": ended.evaluated,
        "rounds": ended.rounds,
    }
