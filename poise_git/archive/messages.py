"""The format of commit messages. The message alone is enough to read a candidate's description back.

    algorithm(<name>): <mechanism>

    Mechanism: <the whole mechanism, if the subject had to shorten it>

    Hypothesis: <prose, any number of paragraphs>

    Knobs:                          see `statements`
    - <function>.<argument> = <value>

    Claims:
    - <statement> [<check> <argument>=<value> ...]

    Poise-Candidate: <name>
    Poise-Parent: <parent>          one per parent
    Poise-Family: <family>
    Poise-Prior: <card>             one per prior
    Poise-Agent: <agent>

The trailers are always the last paragraph, so prose cannot forge them. Lines of prose that git would remove (comments,
the `---` of a mailed patch) or that would begin knobs or claims are indented by one space; the reader removes the space
again. People write the same messages by hand: prose without a label is the hypothesis.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from poise_git.archive import statements
from poise_git.archive.entries import ROOT, Claim, Estimate, Metrics, Proposal, Status
from poise_git.untrusted.display import one_line, visible

SUBJECT_LENGTH = 72
# The rest of a longer message is ignored. No legitimate message is longer, and every command reads all messages.
MESSAGE_LENGTH = 512 * 1024
MESSAGES_REMEMBERED = 16_384
_LABELLED = re.compile(r"(?:mechanism|hypothesis|knobs?|claims?):", re.IGNORECASE)
_SUBJECT = re.compile(r"algorithm\([^)]*\): ?(.*)")
_TRAILER = re.compile(r"([A-Za-z0-9-]+): ?(.*)")
_HYPOTHESIS = re.compile(r"Hypothesis:(?: |\n)")
_ENTRY = re.compile(r"[-*] ")
_NOT_PROSE = r"#|---|(?i:knobs?:|claims?:)"
_TO_INDENT = re.compile(rf"^( *(?:{_NOT_PROSE}))", re.MULTILINE)
_INDENTED = re.compile(rf"^ ( *(?:{_NOT_PROSE}))", re.MULTILINE)


@dataclass(frozen=True)
class Description:
    """The content of a candidate's commit message; `name` is empty if the trailer is missing.

    Knobs and claims are kept as text, without their labels, because most readers do not need them.
    """

    name: str
    parents: tuple[str, ...]
    mechanism: str
    hypothesis: str
    family: str
    priors: tuple[str, ...]
    agent: str
    knobs_text: str = ""
    claims_text: str = ""

    @property
    def knobs(self) -> dict[str, float]:
        return statements.parse_knobs(self.knobs_text)[0]

    @property
    def claims(self) -> tuple[Claim, ...]:
        return statements.parse_claims(self.claims_text)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Invalid entries among the knobs."""
        return statements.parse_knobs(self.knobs_text)[1]


def describe(proposal: Proposal) -> Description:
    """The part of a proposal that its commit message contains, as `parse_candidate` reads it back."""
    parents = (proposal.parent, proposal.second_parent)
    return Description(
        name=proposal.name,
        parents=tuple(parent for parent in parents if parent),
        mechanism=one_line(proposal.mechanism),
        hypothesis=tidy(visible(tidy(proposal.hypothesis))),
        family=one_line(proposal.family),
        priors=tuple(line for prior in proposal.priors if (line := one_line(prior))),
        agent=one_line(proposal.agent),
        knobs_text=statements.format_knobs(proposal.knobs),
        claims_text=statements.format_claims(proposal.claims),
    )


def format_candidate(description: Description) -> str:
    """The message of a candidate's commit."""
    subject = shorten(description.mechanism, SUBJECT_LENGTH)
    body = [f"algorithm({description.name}): {subject}".rstrip()]
    if subject != description.mechanism:
        body.append(f"Mechanism: {description.mechanism}")
    if description.hypothesis:
        body.append("Hypothesis: " + _TO_INDENT.sub(r" \1", description.hypothesis))
    if description.knobs_text:
        body.append(f"{statements.KNOBS}\n{description.knobs_text}")
    if description.claims_text:
        body.append(f"{statements.CLAIMS}\n{description.claims_text}")
    trailers = [
        ("Poise-Candidate", description.name),
        *(("Poise-Parent", parent) for parent in description.parents),
        ("Poise-Family", description.family),
        *(("Poise-Prior", prior) for prior in description.priors),
        ("Poise-Agent", description.agent),
    ]
    body.append("\n".join(f"{key}: {value}".rstrip() for key, value in trailers))
    return "\n\n".join(body) + "\n"


# The genealogy is read often, and few of its messages change.
@lru_cache(MESSAGES_REMEMBERED)
def parse_candidate(message: str) -> Description:
    """Read the message of a candidate, which an agent or a person wrote; missing parts are empty."""
    paragraphs = tidy(message[:MESSAGE_LENGTH]).split("\n\n")
    trailers = _take_trailers(paragraphs)
    subject = paragraphs.pop(0)
    if found := _SUBJECT.match(subject):
        subject = found[1]
    if paragraphs and paragraphs[0].startswith("Mechanism: "):
        subject = paragraphs.pop(0).removeprefix("Mechanism: ")
    prose, stated = _take_statements(paragraphs)
    if found := _HYPOTHESIS.match(prose):
        prose = prose[found.end() :]

    def last(key: str) -> str:
        return trailers.get(key, [""])[-1]

    return Description(
        name=last("Poise-Candidate"),
        parents=tuple(trailers.get("Poise-Parent", ())),
        mechanism=one_line(subject),
        hypothesis=_INDENTED.sub(r"\1", prose),
        family=last("Poise-Family"),
        priors=tuple(trailers.get("Poise-Prior", ())),
        agent=last("Poise-Agent"),
        knobs_text=stated["knob"].strip("\n"),
        claims_text=stated["claim"].strip("\n"),
    )


def _take_trailers(paragraphs: list[str]) -> dict[str, list[str]]:
    """Split off the trailers of the last paragraph; git puts them directly after a labeled line."""
    lines = paragraphs[-1].split("\n")
    ours = next((place for place, line in enumerate(lines) if line.startswith("Poise-")), None)
    if len(paragraphs) == 1 or ours is None:
        return {}
    first = ours if _LABELLED.match(lines[0]) else 0
    paragraphs[-1:] = ["\n".join(lines[:first])] if first else []
    trailers: dict[str, list[str]] = {}
    for line in lines[first:]:
        if found := _TRAILER.fullmatch(line):
            trailers.setdefault(found[1], []).append(found[2])
    return trailers


def _take_statements(paragraphs: list[str]) -> tuple[str, dict[str, str]]:
    """The prose, and the entries of knobs ("knob") and claims ("claim"); blank lines may separate entries."""
    prose: list[str] = []
    stated: dict[str, str] = {"knob": "", "claim": ""}
    under = ""
    for paragraph in paragraphs:
        label = statements.LABEL.match(paragraph)
        if label:
            under, paragraph = label[1].lower().removesuffix("s"), paragraph[label.end() :]
        elif not (under and _ENTRY.match(paragraph)):
            under = ""
        if under:
            stated[under] += f"\n{paragraph}"
        else:
            prose.append(paragraph)
    return "\n\n".join(prose), stated


def format_proposal_added(name: str) -> str:
    return f"evidence({name}): proposal\n"


def format_evidence(name: str, metrics: Metrics) -> str:
    """The message of an evidence commit; its subject states the result."""
    return f"evidence({name}): {result_line(metrics)}\n\nPoise-Candidate: {name}\nPoise-Protocol: {metrics.protocol}\n"


def result_line(metrics: Metrics) -> str:
    """The result in a few words: `U 0.752 ± 0.009, +0.021 vs grpo` or `failed at numeric: loss is NaN`.

    A violated constraint is added: `U 0.752 ± 0.009, +0.021 vs grpo, violates mean_length at most 12`.
    """
    if metrics.status is Status.FAILED:
        return f"failed at {one_line(metrics.stage)}: {shorten(one_line(metrics.reason), SUBJECT_LENGTH)}"
    if metrics.utility is None:
        return str(metrics.status)
    gain = f", {metrics.gain.value:+.3f} vs {ROOT}" if metrics.gain else ""
    violated = "".join(f", violates {one_line(violation.constraint)}" for violation in metrics.violations)
    return f"U {_with_error(metrics.utility)}{gain}{violated}"


def result_note(metrics: Metrics) -> str:
    """The result as a line of `git lineage`: `U 0.7521 ± 0.0093  +0.0213 ± 0.0104 * vs grpo`.

    U has its standard error; the gain has half of its 95% interval, and a star if 0 lies outside the interval.
    """
    if metrics.status is Status.FAILED or metrics.utility is None:
        return result_line(metrics)
    error = "" if metrics.utility.se is None else f" ± {metrics.utility.se:.4f}"
    violated = "".join(f"  violates {one_line(violation.constraint)}" for violation in metrics.violations)
    return f"U {metrics.utility.value:.4f}{error}{_gain_note(metrics.gain)}{violated}"


def _gain_note(gain: Estimate | None) -> str:
    if gain is None:
        return ""
    half = "" if gain.interval is None else f" ± {gain.interval:.4f}"
    star = " *" if gain.interval is not None and abs(gain.value) > gain.interval else ""
    return f"  {gain.value:+.4f}{half}{star} vs {ROOT}"


def _with_error(estimate: Estimate) -> str:
    error = f" (n = {estimate.n})" if estimate.se is None else f" ± {estimate.se:.3f}"
    return f"{estimate.value:.3f}{error}"


def tidy(text: str) -> str:
    r"""`text` in git's form of a message: `\n` line ends, no trailing white space, single blank lines between
    paragraphs."""
    lines = [line.rstrip() for line in re.split(r"\r\n|\r|\n", text)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def shorten(text: str, length: int) -> str:
    """At most `length` characters, cut at a word if possible, with an ellipsis."""
    if len(text) <= length:
        return text
    cut = text[: length - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip() + "…"
