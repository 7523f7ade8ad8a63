"""The readers of strangers' texts, each as a function of bytes that may only raise a PoiseError.

To add a reader, add an entry to `TARGETS`: its function, texts that it accepts as seeds, and the errors by which it may
refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from pydantic import ValidationError

from poise_git.agents.anthropic import replies
from poise_git.agents.anthropic.editing import edited
from poise_git.agents.anthropic.messages import Reply
from poise_git.agents.library.ideas import idea_of
from poise_git.analysis.lessons import Lesson
from poise_git.archive.documents import dump_yaml, load_field, load_reflection, load_yaml
from poise_git.archive.entries import Call, Claim, Metrics, Proposal, Reflection
from poise_git.archive.facts import ReflectionFacts
from poise_git.archive.messages import describe, format_candidate, parse_candidate
from poise_git.archive.notes import KINDS, algorithm_in, latest_metrics, latest_runs, unreadable_lines
from poise_git.errors import PoiseError
from poise_git.package_data import read_prompt, template_files
from poise_git.pipeline.protocol import load_protocol
from poise_git.search.context.item_text import principle_texts
from poise_git.search.literature import load_card
from poise_git.search.plan import Plan
from poise_git.settings import PoiseSettings, load_settings
from poise_git.untrusted.data import read_entry
from poise_git.untrusted.display import json_text, visible
from poise_git.untrusted.template import fill_template
from tests.pipeline.boundary.test_fuzz import channel_case, frame

REPLIES = (
    replies.ProposalAnswer,
    replies.ObjectiveAnswer,
    replies.OpinionsAnswer,
    replies.CodeAnswer,
    replies.ReadingAnswer,
    replies.ReflectionAnswer,
    replies.PrinciplesAnswer,
)
VALUES = {
    "parent": "grpo",
    "budget": 100,
    "dropped": [("card", ["a", "b"])],
    "groups": [("code", [("name", "reason", "text\n" * 9)] * 4), ("card", [])],
}


@dataclass(frozen=True)
class Target:
    """`read` raises one of `refusals`, or nothing; `seeds` are texts that it reads."""

    read: Callable[[bytes], None]
    seeds: Callable[[], tuple[str, ...]]
    refusals: tuple[type[Exception], ...] = (PoiseError,)

    def run(self, data: bytes) -> bool:
        """Whether the reader accepted the bytes."""
        try:
            self.read(data)
        except self.refusals:
            return False
        return True


def text_of(data: bytes) -> str:
    """Decode bytes as the archive decodes git objects."""
    return data.decode(errors="replace")


def read_notes(data: bytes) -> None:
    text = text_of(data)
    for metrics in latest_metrics.__wrapped__(text).values():
        json_text(metrics.to_data())
    for run in latest_runs.__wrapped__(text, "b"):
        assert all(isinstance(value, float) for series in run.series.values() for value in series)
        json_text(run.to_data())
    for kind in KINDS.values():
        unreadable_lines(text, kind)
    algorithm_in(text)


def read_message(data: bytes) -> None:
    said = parse_candidate.__wrapped__(text_of(data))
    proposal = Proposal(
        "child", "grpo", said.mechanism, said.hypothesis, said.family, said.agent, said.knobs, said.claims
    )
    written = format_candidate(describe(proposal))
    assert visible(written) == written
    assert [claim.arguments for claim in parse_candidate(written).claims] == [
        claim.arguments for claim in said.claims
    ] or ("NaN" in written)
    dump_yaml(proposal.to_data())
    assert said.unreadable is not None


def read_document(data: bytes) -> None:
    found = load_yaml(text_of(data), "a.yaml")
    refused = 0
    for kind in (Proposal.from_data, Metrics.from_data, Call.from_data):
        try:
            json_text(read_entry(kind, found, "a.yaml").to_data(), default=str)
        except PoiseError:
            refused += 1
    list(principle_texts(found))
    idea_or_not(found)
    Lesson.of(Proposal("a", "b", "c", "d", "e", "f"), Reflection(ReflectionFacts.from_data(found), ""))
    if refused == 3:
        Plan.from_data(found)


def idea_or_not(plan: dict[str, object]) -> None:
    try:
        idea_of(plan, ())
    except (KeyError, ValueError, TypeError):
        return


def read_reflection(data: bytes) -> None:
    text = text_of(data)
    load_field(text, "slots", "a.yaml")
    load_reflection(text, "a.md")


def read_settings(data: bytes) -> None:
    load_settings(text_of(data), PoiseSettings, "poise.yaml")


def read_protocol(data: bytes) -> None:
    assert load_protocol(text_of(data), "a.yaml").hash


def read_card(data: bytes) -> None:
    load_card(text_of(data), "a.yaml")


def read_reply(data: bytes) -> None:
    with suppress(ValidationError):
        Reply.model_validate_json(data)
    failures = []
    for kind in REPLIES:
        try:
            answer = kind.model_validate_json(data)
        except ValidationError as error:
            failures.append(error)
            continue
        if isinstance(answer, replies.ProposalAnswer):
            claims = tuple(claim.to_claim() for claim in answer.claims)
            dump_yaml(
                Proposal(
                    answer.name, "b", answer.mechanism, answer.hypothesis, "e", "f", answer.knobs, claims
                ).to_data()
            )
        elif isinstance(answer, replies.CodeAnswer):
            edited(algorithm(), answer)
    if len(failures) == len(REPLIES):
        raise failures[0]


def read_edit(data: bytes) -> None:
    head, _, tail = text_of(data).partition("\0")
    patch = [replies.Replacement(old=tail[:20], new=head)] if tail else []
    edited(algorithm(), replies.CodeAnswer(functions=[head], patch=patch))


def read_template(data: bytes) -> None:
    fill_template(text_of(data), "a.j2", VALUES, {"quoted": str})


def show(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    shown = visible(text)
    assert visible(shown) == shown
    shown.encode()
    written = json_text({text: [text]})
    assert visible(written) == written
    assert json.loads(written) == {text: [text]}


@cache
def algorithm() -> str:
    return template_files()["recipe/algorithm.py"]


def _shipped(folder: str) -> tuple[str, ...]:
    return tuple(text for path, text in template_files().items() if path.startswith(folder) and isinstance(text, str))


def _notes() -> tuple[str, ...]:
    metrics = {
        "U": [0.1, 0.2, 3],
        "gain": [0.1, None, 1, 0.2],
        "y": {"a": [0.1, 0.2, 3]},
        "status": "evaluated",
        "protocol": "p",
        "seeds": [0],
        "cpu": 1.5,
        "violations": [["a", "b", [1.5, None, 1]]],
        "at": 1.5,
        "v": 1,
        "dynamics": {"a": 0.5},
        "usd": 0.25,
        "objective": "o",
        "algorithm": "b",
    }
    failed = {"status": "failed", "stage": "s", "reason": "r", "protocol": "p", "at": 2.0, "v": 1}
    run = {
        "protocol": "p",
        "seed": 0,
        "values": {"a": 0.5},
        "details": {"a": {"b": 0.5}},
        "series": {"a": [0.1, float("nan")]},
        "curve": [{"step": 1}],
        "cpu_seconds": 1.0,
        "isolation": {"missing": ["a"], "trusted": False},
        "at": 1.0,
        "v": 1,
        "algorithm": "b",
    }
    lines = [json.dumps(each) for each in (metrics, failed, run)]
    return (*lines, "\n".join(lines))


def _proposal() -> Proposal:
    claims = (Claim("s", "order", {"levels": ["a", "b"]}), Claim("t", "reduction", {"function": "f", "value": 0.5}))
    plan = {"operation": "add", "card": "c", "knobs": {"k": 0.5}}
    return Proposal("n", "grpo", "m", "h", "f", "a", {"x.y": 0.5}, claims, ("p",), plan)


def _documents() -> tuple[str, ...]:
    call = Call("k", "o", "s", "m", "p", 1, 2, 3, 4, 0.5, 1.5, "ok").to_data()
    metrics = {"status": "evaluated", "protocol": "p", "utility": {"value": 0.1, "se": None, "n": 1}, "calls": [call]}
    proposed = _proposal().to_data()
    slot = {
        "parent": "p",
        "reason": "r",
        "seed": 1,
        "proposals": [
            {"proposal": proposed, "verdict": "passed", "reason": "", "scores": {"novelty": 0.5}, "score": 0.5}
        ],
    }
    plan = {
        "round": 1,
        "protocol": "p",
        "agent": "a",
        "directive": "",
        "seed": 1,
        "policy": "tree",
        "acquisition": {},
        "slots": [slot],
        "again": [],
    }
    facts = {"against_parent": {"utility": {"difference": 0.1, "se": 0.2}}, "seeds": 2, "focus": ["a"], "next": ["b"]}
    aliased = "a: &a {b: 1}\nc: {<<: *a, d: [*a, *a]}\n"
    return (*map(dump_yaml, (proposed, metrics, call, plan, facts)), aliased)


def _replies() -> tuple[str, ...]:
    proposal = {
        "name": "a-b",
        "mechanism": "m",
        "hypothesis": "h",
        "family": "f",
        "knobs": {"a.b": 0.5},
        "priors": ["p"],
        "claims": [{"check": "order", "levels": ["invalid", "correct"], "statement": "s"}],
        "steps": "s",
    }
    code = {"functions": ["def added(x):\n    return x\n"], "patch": [{"old": "import math", "new": "import math  #"}]}
    call = {
        "content": [{"type": "tool_use", "name": "answer", "input": {}}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return tuple(map(json.dumps, (proposal, code, call, {"opinions": []}, {"implements": True, "reason": "r"})))


def _frames() -> tuple[str, ...]:
    """The messages of a candidate's process: it has loaded, then an answer of each entry point."""
    shape = [["float32", [4, 6]]]
    answers = (
        frame({"loaded": True}),
        frame({"returned": [{"tensor": 0, "requires_grad": False}] * 2}, shape, bytes(96)),
        frame({"returned": [{"tensor": 0}], "metrics": []}, [["float32", []], *shape], bytes(104)),
        frame({"failed": "compute_advantages raised ValueError: no"}),
    )
    return tuple(answer.decode("latin-1") for answer in answers)


TARGETS: dict[str, Target] = {
    "notes": Target(read_notes, _notes),
    "messages": Target(read_message, lambda: (format_candidate(describe(_proposal())), "x\n\nKnobs:\n- a = 1, b: 2\n")),
    "documents": Target(read_document, _documents),
    "reflections": Target(read_reflection, lambda: tuple(f"---\n{text}---\n\nProse.\n" for text in _documents())),
    "settings": Target(read_settings, lambda: _shipped("poise.yaml")),
    "protocols": Target(read_protocol, lambda: _shipped("protocols/")),
    "cards": Target(read_card, lambda: _shipped("literature/")),
    "replies": Target(read_reply, _replies, (PoiseError, ValidationError)),
    "edits": Target(read_edit, lambda: ("def added(x: float = 0.5):\n    return x\n", algorithm()[-600:])),
    "templates": Target(read_template, lambda: (read_prompt("context.md.j2"),)),
    "display": Target(show, lambda: ("a\x1b[2J\u202e\u200b\r\n",)),
    "channel": Target(channel_case, _frames),
}
