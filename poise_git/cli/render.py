"""Text and JSON forms of the commands' output."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poise_git.archive.entries import ROOT, Candidate, Estimate, Metrics, Reproduction, Status, Violation
from poise_git.archive.genealogy import Genealogy
from poise_git.integrity.verdicts import Mark, Verdict, outcomes, reproduction_text
from poise_git.measurement.objective import description_of
from poise_git.measurement.statistics import beyond_noise, half_width
from poise_git.measurement.translation import Interpretation
from poise_git.search.plan import Slot
from poise_git.untrusted.display import one_line

SPARKS = "▁▂▃▄▅▆▇█"
GAP = "·"


def estimate_text(estimate: Estimate | None) -> str:
    """`0.1234 ± 0.0056`, with the standard error; an estimate from one run has none."""
    if estimate is None:
        return "–"
    return f"{estimate.value:.4f}" if estimate.se is None else f"{estimate.value:.4f} ± {estimate.se:.4f}"


def difference_text(difference: Estimate) -> str:
    """`+0.0123 ± 0.0045 *`: half the 95% interval, and a star if the interval excludes 0.

    There is no `±` if the noise is unknown.
    """
    half = half_width(difference) if difference.interval is None else difference.interval
    size = "" if half is None else f" ± {half:.4f}"
    return f"{difference.value:+.4f}{size}{' *' if beyond_noise(difference) else ''}"


def interval_text(difference: Estimate) -> str:
    """`, 95% interval +0.0123 to +0.0234`; empty if the noise is unknown."""
    half = half_width(difference) if difference.interval is None else difference.interval
    if half is None:
        return ""
    return f", 95% interval {difference.value - half:+.4f} to {difference.value + half:+.4f}"


def gain_text(metrics: Metrics) -> str:
    """The gain over the root; see `difference_text`."""
    return "" if metrics.gain is None else difference_text(metrics.gain)


def score_text(candidate: Candidate, protocol: str) -> str:
    """One candidate's result on one line."""
    metrics = candidate.metrics_under(protocol)
    if metrics is None:
        elsewhere = one_line(", ".join(sorted(candidate.metrics)))
        return f"not evaluated under this protocol (only {elsewhere})" if elsewhere else "pending"
    if metrics.status is Status.FAILED:
        return one_line(f"failed at {metrics.stage}: {metrics.reason}")
    return "  ".join([result_text(metrics), *(f"violates {one_line(each.constraint)}" for each in metrics.violations)])


def result_text(metrics: Metrics) -> str:
    """`U 0.1234 ± 0.0056  +0.0123 ± 0.0084 * vs grpo`: a standard error, and half an interval."""
    gain = gain_text(metrics)
    return f"U {estimate_text(metrics.utility)}" + (f"  {gain} vs {ROOT}" if gain else "")


def ledger_text(metrics: Metrics) -> str:
    """The cost of the agent's calls for a candidate: `$0.0123 in 4 calls: propose, implement, verify, reflect`."""
    operators = Counter(call.operator for call in metrics.calls)
    named = ", ".join(name if count == 1 else f"{count} {name}" for name, count in operators.items())
    failed = sum(call.outcome != "ok" for call in metrics.calls)
    without = f"; {failed} failed" if failed else ""
    return f"${metrics.usd:.4f} in {len(metrics.calls)} calls: {named}{without}"


def violation_text(violation: Violation) -> str:
    """`violates mean_length at most 12, by 1.2000 ± 0.1000`."""
    return f"violates {one_line(violation.constraint)}, by {estimate_text(violation.excess)}"


def tree_lines(
    genealogy: Genealogy, protocol: str, *, mark: str | None = None, verdicts: Mapping[str, Verdict] | None = None
) -> list[str]:
    """The genealogy as a tree with scores; `mark` is the candidate to mark, `verdicts` holds the integrity of each."""
    lines = list(_drawn(genealogy))
    width = max(len(text) for text, _ in lines)
    return [
        f"{text.ljust(width)}  {_mark_text(verdicts, candidate)}{score_text(candidate, protocol)}"
        f"{'  ← best' if candidate.name == mark else ''}"
        for text, candidate in lines
    ]


def _drawn(genealogy: Genealogy) -> Iterator[tuple[str, Candidate]]:
    """The lines of the tree, and the candidate of each. A crossover is below its first parent.

    A candidate that does not descend from the root here begins a tree of its own: a shallow clone has such candidates.
    """
    seen: set[str] = set()
    for first in (genealogy.root, *genealogy):
        # A stack, because a lineage may be longer than Python's limit of recursion.
        waiting = [(first, "", "")]
        while waiting:
            candidate, indent, branch = waiting.pop()
            if candidate.name in seen:
                continue
            seen.add(candidate.name)
            yield indent + branch + candidate.name, candidate
            deeper = indent + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
            children = [child for child in genealogy.children(candidate.name) if child.parents[0] == candidate.name]
            waiting += [(child, deeper, "└─ " if child is children[-1] else "├─ ") for child in reversed(children)]


def _mark_text(verdicts: Mapping[str, Verdict] | None, candidate: Candidate) -> str:
    """The integrity mark as a column. The reasons are below the tree."""
    if not verdicts:
        return ""
    verdict = verdicts.get(candidate.name)
    return (str(verdict.integrity.mark) if verdict else "").ljust(max(map(len, Mark))) + "  "


def reason_lines(verdicts: Mapping[str, Verdict]) -> list[str]:
    """The reasons: one line per suspicious candidate, and one line per reason for unverified ones."""
    lines = [
        f"{name} is suspicious: {verdict.integrity.reason}"
        for name, verdict in verdicts.items()
        if verdict.integrity.mark is Mark.SUSPICIOUS
    ]
    reasons = Counter(
        verdict.integrity.reason for verdict in verdicts.values() if verdict.integrity.mark is Mark.UNVERIFIED
    )
    counts = {reason: "1 candidate" if count == 1 else f"{count} candidates" for reason, count in reasons.items()}
    return lines + [f"unverified: {reason} ({counts[reason]})" for reason in reasons]


def kept_edits_text(file: str) -> str:
    """A file of the work tree keeps a person's edits, because they conflict with a new commit on main."""
    place = shlex.quote(file)
    return f"{file} keeps your uncommitted changes, which conflict with main; compare them: git diff main -- {place}"


def reproduction_lines(reproductions: Sequence[Reproduction]) -> list[str]:
    """The outcomes of repeated runs, one per seed."""
    return [
        f"{'reproduced' if each.reproduces else 'not reproduced'}: seed {seed}, {reproduction_text(each)}"
        + (f" (torch {each.torch}, {each.processor})" if each.torch else "")
        for seed, each in outcomes(reproductions).items()
    ]


def candidate_data(
    candidate: Candidate, protocol: str, verdicts: Mapping[str, Verdict] | None = None
) -> dict[str, Any]:
    """The JSON object of a candidate; `integrity` is null if it has no figures."""
    verdict = (verdicts or {}).get(candidate.name)
    metrics = candidate.metrics_under(protocol)
    return {
        "name": candidate.name,
        "commit": candidate.commit,
        "parents": list(candidate.parents),
        "mechanism": candidate.mechanism,
        "family": candidate.family,
        "priors": list(candidate.priors),
        "agent": candidate.agent,
        "status": str(candidate.status_under(protocol)),
        "metrics": metrics.to_data() if metrics else None,
        "integrity": verdict.integrity.to_data() if verdict else None,
    }


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded to their widest cell; the first column to the left, the others to the right."""
    header, rows = [one_line(cell) for cell in header], [[one_line(cell) for cell in row] for row in rows]
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def screening_lines(number: int, slot: Slot) -> list[str]:
    """The proposals for a slot, each with its direction, scores, verdict and reason."""
    asked = "" if slot.attempts == 1 else f", {slot.attempts} attempts"
    scores = ("consistency", "feasibility", "novelty", "improvement")
    header = [f"round {number}, parent {slot.parent}{asked}", "score", *scores]
    rows = []
    for entry in slot.proposals:
        figures = {"score": entry.score, **entry.scores}
        cells = (f"{figures[name]:.2f}" if name in figures else "–" for name in ("score", *scores))
        rows.append([entry.proposal.name, *cells])
    said = ["verdict"]
    for entry in slot.proposals:
        sent = entry.proposal.direction
        where = f"; direction {sent.kind} {sent.name}" if sent else ""
        departed = f", departed: {sent.departure}" if sent and sent.departure else ""
        said.append(one_line(f"{entry.verdict}: {entry.reason}{where}{departed}"))
    return [f"{line}  {why}" for line, why in zip(table_lines(header, rows), said, strict=True)]


def interpretation_lines(directive: str, reading: Interpretation) -> list[str]:
    """The translation of a directive, with reasons, and the words that were not understood."""
    lines = [f"directive: {directive}"]
    if reading.objective is not None:
        lines.append(f"objective: {description_of(reading.objective)}")
    lines += [f"  {reason}" for reason in reading.reasons]
    if reading.strange:
        lines.append(f"not understood: {', '.join(reading.strange)}; known words: {', '.join(reading.known)}")
    if reading.objective is None:
        lines.append("the objective stays unchanged; agents still see the words of the directive")
    return lines


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The newest `width` values as block characters, between their own least and largest; a gap for a missing value."""
    shown = list(values)[-width:]
    known = [value for value in shown if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    # Halve first, because the difference of two large numbers can overflow.
    span = (high / 2 - low / 2) or 1.0

    def spark(value: float) -> str:
        if not math.isfinite(value):
            return GAP
        return SPARKS[min(int((value / 2 - low / 2) / span * len(SPARKS)), len(SPARKS) - 1)]

    return "".join(map(spark, shown))


def missing_layers_text(layers: Sequence[str], *, allowed: bool) -> str:
    """One line: the layers that this machine's sandbox lacks, and the consequence."""
    what = (
        "all code runs without them, as you have allowed"
        if allowed
        else "shipped code runs without them, other code is refused"
    )
    return f"WARNING: the sandbox lacks {', '.join(layers)} on this machine: {what}; for details: poise-git doctor"
