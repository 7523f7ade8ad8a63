"""Decide whether a candidate's figures follow from its archived runs.

    verified     the archived runs give the same figures, and every run had the required isolation
    suspicious   two archived items contradict each other, or a repeated run contradicts the archive
    unverified   the figures are not contradicted, but a part of their proof is missing

Selection uses the figures of the runs. If the runs cannot be used, a note counts if the evidence branch agrees with it.
Figures that neither runs nor evidence support do not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from poise_git.archive.entries import Isolation, Metrics, Reproduction, Run, Status
from poise_git.integrity.differences import OF_EVIDENCE, OF_NOTES, differences, intervals_apart, shown
from poise_git.untrusted.display import one_line

# The hooks protect notes from accidental loss; this command removes one on purpose.
NOTES = "git -c core.hooksPath=/dev/null notes"


class Mark(StrEnum):
    VERIFIED = "verified"
    SUSPICIOUS = "suspicious"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class Integrity:
    """The integrity of a candidate's figures; `reason` is one line, empty for verified figures."""

    mark: Mark
    reason: str = ""

    def __post_init__(self) -> None:
        # The reason quotes notes, which are untrusted.
        object.__setattr__(self, "reason", one_line(self.reason))

    def __str__(self) -> str:
        return f"{self.mark}: {self.reason}" if self.reason else str(self.mark)

    def to_data(self) -> dict[str, Any]:
        return {"mark": str(self.mark), "reason": self.reason}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Integrity:
        return cls(Mark(data["mark"]), str(data["reason"]))


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem, and the command to run next."""

    what: str
    advice: str

    def to_data(self) -> dict[str, Any]:
        return {"what": self.what, "advice": self.advice}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Problem:
        return cls(str(data["what"]), str(data["advice"]))

    def __post_init__(self) -> None:
        object.__setattr__(self, "what", one_line(self.what))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one candidate.

    `counted` holds the figures that selection uses (None if the candidate does not count). `traced` says whether the
    runs of its figures are in the archive.
    """

    integrity: Integrity
    problems: tuple[Problem, ...]
    counted: Metrics | None
    traced: bool = True


@dataclass(frozen=True)
class Account:
    """All archived data about a candidate's figures under one protocol.

    Attributes:
        note, evidence: the metrics in the note and on the evidence branch.
        objective: the fingerprint of the present objective, with which `recomputed` was computed.
        root_objective: the fingerprint of the objective with which the root was measured.
        runs: every run of the candidate's own code.
        recomputed: the metrics that the runs give; if a seed was trained twice, those of its latest run come first.
            Empty if they cannot be computed; `failure` may give the reason.
        missing: seeds of the figures that have no run; `outside`: seeds of the figures that the protocol does not have.
        stray: seeds of runs that the protocol does not have.
        rootless: the root's runs are missing, so the gain cannot be computed.
        twice: seeds, of the candidate or of the root, that were trained twice with different figures.
        defects: seed -> the reasons why its run cannot be a run of the protocol.
        foreign: algorithm blobs of runs of other code.
        reproductions: repeated runs, oldest first. `future`: the number of lines that are dated in the future.
        unconfirmed: the candidate has runs on the confirmation seeds, but the root has none to compare them with.
        option: the option that makes a command use this protocol, with a space before it.
    """

    name: str
    note: Metrics | None
    evidence: Metrics | None
    objective: str
    root_objective: str
    runs: Sequence[Run] = ()
    recomputed: Sequence[Metrics] = ()
    failure: str = ""
    missing: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()
    stray: tuple[int, ...] = ()
    rootless: bool = False
    twice: tuple[int, ...] = ()
    defects: Mapping[int, Sequence[str]] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    reproductions: Sequence[Reproduction] = ()
    future: int = 0
    unconfirmed: bool = False
    option: str = ""


def judge(account: Account) -> Verdict | None:
    """The verdict on a candidate; None if it has no figures (it failed, and nothing contradicts that)."""
    claimed = account.note or account.evidence
    if claimed is None or all(
        metrics is None or metrics.status is Status.FAILED for metrics in (account.note, account.evidence)
    ):
        return None
    matching, contradictions = _against_runs(account)
    refuted = _not_reproduced(account)
    contradictions += refuted
    remarks = _remarks(account)
    if contradictions:
        counted = None if refuted else next(iter(matching or account.recomputed), None)
        if counted is None and not refuted and _backed(account):
            counted = claimed
        integrity = Integrity(Mark.SUSPICIOUS, contradictions[0].what)
        return Verdict(integrity, (*contradictions, *remarks), counted, not account.missing)
    reason = _unproven(account, claimed, matching)
    integrity = Integrity(Mark.UNVERIFIED, reason) if reason else Integrity(Mark.VERIFIED)
    stale = matching and intervals_apart(claimed, matching[0]) and _same_objective(account, claimed)
    return Verdict(integrity, remarks, matching[0] if stale else claimed, not account.missing)


def _against_runs(account: Account) -> tuple[list[Metrics], list[Problem]]:
    """Match the archived metrics with the recomputed ones, and find contradictions."""
    name, note, evidence = account.name, account.note, account.evidence
    verb, seed = ("reproduce", _first_seed(account)) if account.runs else ("evaluate", "")
    again = f"poise-git {verb} {name}{seed}{account.option}"
    found: list[Problem] = []
    if note and evidence and note.status is not evidence.status:
        what = f"its note says {_status(note)}, evidence/{name} says {_status(evidence)}"
        found.append(Problem(what, f"poise-git reflect {name}{account.option}" if account.runs else again))
    places = [("its note", note, OF_NOTES), (f"evidence/{name}", evidence, OF_EVIDENCE)]
    evaluated = [place for place in places if place[1] is not None and place[1].status is Status.EVALUATED]
    matching = list(account.recomputed)
    for place, metrics, tolerance in evaluated:
        assert metrics is not None
        if strange := account.root_objective and metrics.objective not in (
            "",
            account.objective,
            account.root_objective,
        ):
            found.append(
                Problem(
                    f"{place} belongs to objective {metrics.objective}, grpo's to {account.root_objective}",
                    f"poise-git reflect {name}{account.option}",
                )
            )
        if not account.recomputed or strange:
            continue
        agreeing = [each for each in matching if not _differences(metrics, each, tolerance, account)]
        if agreeing:
            matching = agreeing
        else:
            first = _differences(metrics, account.recomputed[0], tolerance, account)[0]
            found.append(Problem(f"{place} says {first}", again))
    if note and evidence and not account.recomputed and not found:
        apart = _differences(note, evidence, OF_NOTES, account, scored=note.objective == evidence.objective)
        if apart:
            what = f"its note says {apart[0].replace('its runs give', f'evidence/{name} says')}"
            found.append(Problem(what, _take_off(account)))
    if note and evidence is None and not account.recomputed:
        what = f"a note says U {_value(note)}, and neither runs nor evidence/{name} do"
        found.append(Problem(what, _take_off(account)))
    if account.outside:
        what = f"its figures belong to seed {account.outside[0]}, which is not a seed of the protocol"
        found.append(Problem(what, f"poise-git reflect {name}{account.option}" if account.runs else _take_off(account)))
    if account.failure and not account.missing:
        found.append(Problem(f"its runs give no figures: {account.failure}", again))
    for of_seed, defects in sorted(account.defects.items()):
        for defect in defects:
            reproduce = f"poise-git reproduce {name} --seed {of_seed}{account.option}"
            found.append(Problem(f"run of seed {of_seed}: {defect}", reproduce))
    return matching, found


def outcomes(reproductions: Sequence[Reproduction]) -> dict[int, Reproduction]:
    """The outcome of the repetitions of each seed: one that refutes the run, or else the latest.

    Anyone may add a line with any date, so a later repetition does not clear a run that an earlier one refutes.
    """
    latest = {each.seed: each for each in reproductions}
    refuted = {each.seed: each for each in reproductions if each.refutes}
    return dict(sorted({**latest, **refuted}.items()))


def _not_reproduced(account: Account) -> list[Problem]:
    """Repeated runs whose difference noise cannot explain."""
    name, option = account.name, account.option
    edit = f"{NOTES} --ref=poise/trajectory edit poise/{name}"
    return [
        Problem(
            f"seed {seed} did not reproduce: {reproduction_text(each)}",
            f"poise-git reproduce {name} --seed {seed}{option}; if that repetition was at fault, remove it: {edit}",
        )
        for seed, each in outcomes(account.reproductions).items()
        if each.refutes
    ]


def reproduction_text(reproduction: Reproduction) -> str:
    """The first difference and its size: `values sparse was 0.15, now 0.16 (+0.01); U is +0.002 apart, …`."""
    if reproduction.reason:
        return reproduction.reason
    if not reproduction.figure:
        return "equal to the last bit"
    if reproduction.before is None or reproduction.again is None:
        return f"{reproduction.figure} is in only one of the two runs"
    apart = reproduction.again - reproduction.before
    text = f"{reproduction.figure} was {reproduction.before:.6g}, now {reproduction.again:.6g} ({apart:+.3g})"
    if reproduction.utility_apart is None:
        return text
    noise = (
        "and its noise is unknown" if reproduction.allowed is None else f"noise explains ±{reproduction.allowed:.3g}"
    )
    return f"{text}; U is {reproduction.utility_apart:+.3g} apart, {noise}"


def _remarks(account: Account) -> tuple[Problem, ...]:
    """Problems that do not affect the figures that count."""
    name, found = account.name, []
    edit = f"{NOTES} --ref=poise/trajectory edit poise/{name}"
    if account.missing and account.runs:
        seeds = ", ".join(map(str, account.missing))
        evaluate = f"poise-git evaluate {name}{account.option}"
        found.append(Problem(f"it has figures but no runs of seeds {seeds}", evaluate))
    if account.stray:
        found.append(Problem(f"a run has seed {account.stray[0]}, which is not a seed of the protocol", edit))
    if account.foreign:
        found.append(Problem(f"{_counted(account.foreign)} of other code (blob {account.foreign[0]})", edit))
    if account.future:
        found.append(Problem("a line is dated in the future, so it would always count as the latest", edit))
    if account.unconfirmed:
        what = "it ran on the confirmation seeds, but the archive lacks grpo's runs on them"
        found.append(Problem(what, f"poise-git confirm {name}{account.option}"))
    return tuple(found)


def _unproven(account: Account, claimed: Metrics, matching: Sequence[Metrics]) -> str:
    """The missing part of a proof; empty if the figures are proven."""
    if account.missing or not account.runs:
        return f"the archive lacks its runs (seeds {', '.join(map(str, account.missing))})"
    if account.rootless:
        return "the archive lacks grpo's runs, so its gain cannot be recomputed"
    if not _same_objective(account, claimed):
        return f"it was scored with another objective; rescore it: poise-git reflect {account.name}{account.option}"
    if account.twice:
        return f"seed {account.twice[0]} was trained twice, with different figures"
    if matching and intervals_apart(claimed, matching[0]):
        advice = f"poise-git reflect {account.name}{account.option}"
        return f"its intervals use another paired_deviation; recompute them: {advice}"
    if undone := next((each for each in outcomes(account.reproductions).values() if not each.reproduces), None):
        return f"seed {undone.seed} was repeated: {reproduction_text(undone)}"
    used = [run.isolation for run in account.runs if run.seed in (claimed.seeds or (run.seed,))]
    return next((reason for isolation in used if (reason := _unisolated(isolation))), "")


def _unisolated(isolation: Isolation | None) -> str:
    if isolation is None:
        return "a run was archived before isolation was recorded"
    if isolation.trusted:
        return "a run was trained with --trust, in the trainer's own process"
    return f"a run was trained without {', '.join(isolation.missing)}" if isolation.missing else ""


def _backed(account: Account) -> bool:
    """Whether note and evidence branch agree."""
    note, evidence = account.note, account.evidence
    return bool(note and evidence and note.status is evidence.status) and not _differences(
        note, evidence, OF_NOTES, account, scored=True
    )


def _same_objective(account: Account, metrics: Metrics) -> bool:
    return metrics.objective in ("", account.objective)


def _differences(
    said: Metrics | None, given: Metrics | None, tolerance: float, account: Account, *, scored: bool | None = None
) -> list[str]:
    """`differences`, with U if the objective is the present one, unless `scored` says it."""
    if said is None or given is None:
        return []
    scored = _same_objective(account, said) if scored is None else scored
    return differences(said, given, tolerance, scored=scored, paired=not account.rootless)


def _take_off(account: Account) -> str:
    """The commands that make a candidate count as not evaluated."""
    evaluate = f"poise-git evaluate {account.name}{account.option}"
    return f"{NOTES} --ref=poise/metrics remove poise/{account.name} && {evaluate}"


def _first_seed(account: Account) -> str:
    return f" --seed {min(run.seed for run in account.runs)}"


def _counted(foreign: Sequence[str]) -> str:
    return "a run is" if len(foreign) == 1 else f"{len(foreign)} runs are"


def _status(metrics: Metrics) -> str:
    return f"U {_value(metrics)}" if metrics.status is Status.EVALUATED else f"failed at {metrics.stage or 'a step'}"


def _value(metrics: Metrics) -> str:
    return shown(metrics.utility)
