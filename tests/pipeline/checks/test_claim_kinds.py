"""A kind of claim is one file and one registration; messages, schemas, decisions and descriptions follow from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from poise_git.agents.anthropic.replies import any_claim
from poise_git.archive.entries import Claim
from poise_git.archive.messages import parse_candidate
from poise_git.archive.statements import parse_claims
from poise_git.package_data import template_files
from poise_git.pipeline.checks import batches, claims
from poise_git.pipeline.checks.claims import ClaimKind, Decided, Decision, decide
from poise_git.pipeline.checks.claims.order import Level
from poise_git.pipeline.checks.message import message_problems
from poise_git.pipeline.checks.trial import Trial
from tests.agents.library.support import load, root_text

DOCS = Path(__file__).parents[3] / "docs"


class Spread(ClaimKind):
    name = "spread"
    decided = Decided.BY_CODE
    wording = "the largest and the smallest advantage are at least `least` apart"

    least: Annotated[float, Field(ge=0.0, allow_inf_nan=False, description="a finite number, 0 or more")]

    def decide(self, candidate: Trial, parent: Trial) -> Decision:
        advantages = candidate.advantages(batches.mixed())
        apart = float(advantages.max() - advantages.min())
        return apart >= self.least, f"they are {apart:.3g} apart"


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "CLAIM_KINDS", (*claims.CLAIM_KINDS, Spread))


def problems(claim: str) -> tuple[str, ...]:
    return message_problems(parse_candidate(f"algorithm(x): y\n\nClaims:\n- As said. [{claim}]\n"), None)


@pytest.mark.usefixtures("spread")
def test_messages_accept_a_registered_kind() -> None:
    assert problems("spread least=1") == ()
    assert problems("spread") == ("claim 'As said.': spread needs least=",)
    assert problems("spread least=-1") == ("claim 'As said.': least is a finite number, 0 or more",)
    assert problems("spread least=1 most=2") == ("claim 'As said.': spread takes no most=",)


@pytest.mark.usefixtures("spread")
def test_a_registered_kind_is_in_the_schema_of_a_model() -> None:
    reader: TypeAdapter[Any] = TypeAdapter(any_claim(claims.CLAIM_KINDS))
    schema = reader.json_schema()["$defs"]["SpreadClaim"]
    assert schema["description"] == f"T{Spread.wording[1:]}."
    assert schema["required"] == ["statement", "check", "least"]
    said = {"statement": "As said.", "check": "spread", "least": 1.0}
    assert reader.validate_python(said).to_claim() == Claim("As said.", "spread", {"least": 1.0})
    with pytest.raises(ValidationError):
        reader.validate_python({**said, "least": -1.0})


@pytest.mark.usefixtures("spread")
def test_a_registered_kind_is_decided() -> None:
    trial = load(root_text())
    held, because = decide("spread", {"least": 1.0}, trial, trial)
    assert (held, because.startswith("they are ")) == (True, True)
    assert decide("spread", {"least": 100.0}, trial, trial)[0] is False
    assert decide("spread", {"least": "much"}, trial, trial) == (
        None,
        "spread could not be decided: least is a finite number, 0 or more",
    )


@pytest.mark.parametrize("kind", claims.CLAIM_KINDS)
def test_every_kind_has_a_description(kind: type[ClaimKind]) -> None:
    assert kind.wording
    assert all(field.description for field in kind.model_fields.values())
    assert (kind.decide is not ClaimKind.decide) == (kind.decided is Decided.BY_CODE)


def test_the_manual_has_a_row_for_every_kind() -> None:
    arguments = {
        kind: ", ".join(f"`{name}` ({field.description})" for name, field in kind.model_fields.items())
        for kind in claims.CLAIM_KINDS
    }
    rows = [
        f"| `{kind.name}` | {kind.wording} | {arguments[kind]} | {kind.decided} |".replace("|  |", "| |")
        for kind in claims.CLAIM_KINDS
    ]
    written = (DOCS / "human.md").read_text(encoding="utf-8").splitlines()
    head = written.index("| check | claim | arguments | decided |")
    assert written[head + 2 : head + 2 + len(rows)] == rows


def test_the_template_of_a_message_has_an_example_of_every_kind_in_brackets() -> None:
    text = template_files()["candidate-message.txt"]
    examples = parse_claims("\n".join(re.findall(r"^#?(- .*\])$", text, flags=re.MULTILINE)))
    assert {claim.check for claim in examples} == {
        kind.name for kind in claims.CLAIM_KINDS if kind.decided is not Decided.BY_CODE_REVIEW
    }
    for claim in examples:
        kind = claims.kind_named(claim.check)
        assert kind is not None
        kind.of(claim.arguments)


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        ("reduction function=f argument=a value=NaN", "value is a finite number or a text, neutral for the mechanism"),
        ("reduction function=f argument=a value=[1]", "value is a finite number or a text, neutral for the mechanism"),
        ("reduction", "reduction needs function= and argument= and value="),
        ("order levels=correct", "levels is two or all of invalid, valid-wrong and correct, lowest first"),
        ("order levels=wrong,correct", "levels is two or all of invalid, valid-wrong and correct, lowest first"),
        ("bounded limit=0", "limit is a finite number above 0"),
        ("effect figure=utility direction=higher", "direction is up or down"),
    ],
)
def test_arguments_out_of_range_are_named(claim: str, problem: str) -> None:
    assert problems(claim) == (f"claim 'As said.': {problem}",)


@pytest.mark.parametrize(
    ("value", "recipe"), [(0, "f(a=0)"), (0.0, "f(a=0.0)"), (True, "f(a=True)"), ("mean", "f(a=mean)")]
)
def test_the_value_of_a_reduction_keeps_its_type(value: object, recipe: str) -> None:
    claim = Claim("s", "reduction", {"function": "f", "argument": "a", "value": value})
    assert [knob.recipe for knob in claims.knobs_of([claim, Claim("s", "zero-mean"), Claim("s", "none")])] == [recipe]


def test_levels_match_the_levels_of_the_batches() -> None:
    assert get_args(Level) == tuple(batches.LEVELS)


def test_hooks_read_the_kinds_without_torch() -> None:
    code = "import sys, poise_git.pipeline.checks.message; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
