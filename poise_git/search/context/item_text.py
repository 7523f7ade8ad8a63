"""The text of each kind of item: plain text, and figures with their errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from poise_git.archive.entries import Candidate, Estimate, Metrics, Proposal, Run, Status
from poise_git.measurement.objective import Objective
from poise_git.search.context.context import CandidateRecord
from poise_git.search.literature import Card
from poise_git.settings import OVERALL
from poise_git.untrusted import source_text


def figure(estimate: Estimate | None, *, signed: bool = False) -> str:
    """`0.1912 ± 0.0041`; an estimate from one run has no error."""
    if estimate is None:
        return "not measured"
    value = f"{estimate.value:+.4f}" if signed else f"{estimate.value:.4f}"
    return value if estimate.se is None else f"{value} ± {estimate.se:.4f}"


def objective_text(objective: Objective) -> str:
    """The definition of U in words, and the definition of "overall" if U uses it."""
    terms = " + ".join(f"{weight:.3g} {suite}" for suite, weight in objective.suites.items() if weight)
    meaning = f"\n{OVERALL} = {terms}" if OVERALL in objective.metrics else ""
    return f"{objective.description}{meaning}"


def proposal_text(candidate: Candidate, proposal: Proposal | None) -> str:
    """The archived proposal, or the commit message of a candidate that a person committed."""
    lines = [f"mechanism: {candidate.mechanism}", f"family: {candidate.family or 'unclassified'}"]
    if candidate.priors:
        lines.append(f"priors: {', '.join(candidate.priors)}")
    if candidate.hypothesis:
        lines.append(f"hypothesis: {candidate.hypothesis}")
    if proposal and proposal.knobs:
        lines.append(f"knobs: {_knobs(proposal.knobs)}")
    for claim in proposal.claims if proposal else ():
        lines.append(f"claim ({claim.check}): {claim.statement}")
    return "\n".join(lines)


def rejected_text(proposal: Proposal, reason: str) -> str:
    """A rejected proposal, and the reason."""
    lines = [f"rejected: {reason}", f"mechanism: {proposal.mechanism}", f"family: {proposal.family}"]
    if proposal.priors:
        lines.append(f"priors: {', '.join(proposal.priors)}")
    if proposal.knobs:
        lines.append(f"knobs: {_knobs(proposal.knobs)}")
    return "\n".join(lines)


def metrics_text(metrics: Metrics | None) -> str:
    """U, the gain over the root and every suite, each with its standard error; or the reason why they are missing."""
    if metrics is None:
        return "not evaluated under this protocol"
    if metrics.status is Status.FAILED:
        return f"failed at {metrics.stage}: {metrics.reason}"
    lines = [f"U: {figure(metrics.utility)} over {len(metrics.seeds)} seeds"]
    if metrics.gain:
        lines.append(f"gain over the root: {_gain(metrics.gain)}")
    lines += [f"violates {each.constraint}, by {figure(each.excess)}" for each in metrics.violations]
    lines += [f"{name}: {figure(estimate)}" for name, estimate in (*metrics.values.items(), *metrics.further.items())]
    lines += [f"{name} late in training: {value:.4g}" for name, value in metrics.dynamics.items()]
    return "\n".join(lines)


def trajectory_text(runs: Sequence[Run]) -> str:
    """Start, end and extremes (with their steps) of each training series, averaged over seeds."""
    if not runs:
        return "no training run is archived under this protocol"
    lines = []
    for name in runs[0].series:
        rows = [run.series[name] for run in runs if run.series.get(name)]
        mean = [sum(step) / len(step) for step in zip(*rows, strict=False)]
        if mean:
            low, high = (mean.index(extreme) for extreme in (min(mean), max(mean)))
            lines.append(
                f"{name}: {mean[0]:.4g} to {mean[-1]:.4g} in {len(mean)} steps, "
                f"least {mean[low]:.4g} at {low + 1}, most {mean[high]:.4g} at {high + 1}"
            )
    return "\n".join(lines)


def ancestor_text(candidate: Candidate, metrics: Metrics | None, gain: float | None) -> str:
    """One line: utility, gain over its parent, mechanism."""
    of = "" if gain is None else f", {gain:+.4f} over its parent"
    return f"U {figure(metrics.utility if metrics else None)}{of}: {candidate.mechanism}"


def reference_text(known: CandidateRecord, change: str) -> str:
    """Another candidate: its verdict, its advice, and its `change` of the code."""
    metrics = known.metrics
    lines = [f"U: {figure(metrics.utility if metrics else None)}"]
    if metrics and metrics.gain:
        lines.append(f"gain over the root: {_gain(metrics.gain)}")
    lines.append(proposal_text(known.candidate, known.proposal))
    lines += _verdict(known)
    return "\n".join([*lines, *(["change from its parent:", change] if change else [])])


def sibling_text(known: CandidateRecord, gain: float | None) -> str:
    """Another child of the parent: its change and its result."""
    metrics = known.metrics
    if metrics is None:
        result = "not evaluated yet"
    elif metrics.status is Status.FAILED:
        result = f"failed at {metrics.stage}: {metrics.reason}"
    else:
        of = "" if gain is None else f", {gain:+.4f} over this parent"
        result = f"U {figure(metrics.utility)}{of}"
    lines = [f"{known.candidate.mechanism} [{known.candidate.family or 'unclassified'}]", result]
    if known.proposal and known.proposal.knobs:
        lines.append(f"knobs: {_knobs(known.proposal.knobs)}")
    return "\n".join([*lines, *_verdict(known)])


def change_text(before: str, after: str) -> str:
    """A diff of two texts with one line of context, without file names and line numbers."""
    old, new = ([line.removesuffix("\n") for line in source_text.lines(text)] for text in (before, after))
    # Two algorithms share most of their text, so the diff skips the common start and end.
    head = _alike(zip(old, new, strict=False))
    tail = _alike(zip(reversed(old[head:]), reversed(new[head:]), strict=False))
    first = max(head - 1, 0)
    lines = difflib.unified_diff(old[first : len(old) - tail + 1], new[first : len(new) - tail + 1], n=1, lineterm="")
    return "\n".join("@@" if line.startswith("@@") else line for line in lines if not line.startswith(("---", "+++")))


def _alike(pairs: Iterable[tuple[str, str]]) -> int:
    """The number of equal pairs before the first difference."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def card_text(card: Card, effects: Sequence[float]) -> str:
    """A literature card without its code; `effects` are its gains in this archive, in units of the noise."""
    lines = [
        f"{card.title} ({card.source})",
        f"family: {card.family}; stages: {', '.join(card.stages)}",
        f"mechanism: {card.mechanism}",
        f"formula: {card.formula}",
        f"helps: {card.helps}",
        f"risks: {card.risks}",
    ]
    lines += [
        f"knob {knob.function}.{knob.argument}: {knob.default:g} in [{knob.low:g}, {knob.high:g}]"
        + ("" if knob.neutral is None else f", has no effect at {knob.neutral:g}")
        for knob in card.knobs.values()
    ]
    if effects:
        tried = ", ".join(f"{effect:+.1f}" for effect in effects)
        lines.append(f"tried in this archive, gains over the parent in units of the noise: {tried}")
    return "\n".join(lines)


def principle_texts(principles: Mapping[str, Any]) -> Iterator[str]:
    """The principles of `principles.yaml`, which may have any fields."""
    for name, content in principles.items():
        if isinstance(content, list | tuple):
            yield from map(_plain, content)
        elif name != "version":
            yield f"{name}: {_plain(content)}"


def _plain(content: Any) -> str:
    if isinstance(content, Mapping):
        return "\n".join(f"{name}: {value}" for name, value in content.items())
    return str(content)


def _verdict(known: CandidateRecord) -> Iterator[str]:
    if known.reflection is None:
        return
    facts = known.reflection.facts
    if facts.verdict:
        yield f"verdict: {facts.verdict}"
    if facts.next:
        yield f"advice: {' '.join(facts.next)}"


def _gain(gain: Estimate) -> str:
    interval = "" if gain.interval is None else f", 95% interval ± {gain.interval:.4f}"
    return f"{figure(gain, signed=True)}{interval}"


def _knobs(knobs: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in knobs.items())
