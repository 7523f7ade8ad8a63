"""Literature cards: published mechanisms as priors, one YAML file each in the archive's `literature/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from poise_git.errors import SettingsError
from poise_git.settings import StrictModel, load_settings
from poise_git.untrusted import source_text


class Knob(StrictModel):
    """A named hyper-parameter: keyword `argument` of `function`, and the range worth trying.

    `neutral` is the value at which the mechanism has no effect; None if there is none.
    """

    function: str
    argument: str
    default: float
    neutral: float | None = None
    low: float
    high: float


# The stages where a mechanism can act: those of `recipe/algorithm.py` in their order, and one outside it.
Stage = Literal[
    "reward_signal",
    "baseline",
    "scale",
    "shape_advantages",
    "shape_token_advantages",
    "importance_log_ratio",
    "token_objective",
    "loss_aggregation",
    "regularizer",
    "sampling",
]
DERIVED = "derived"


class Edit(StrictModel):
    """One change of a stage function, exactly one of:

    replace: the new text of the function `stage`;
    add: the text of a new function, and a call of it is put into `stage`, before its `return`;
    set: new keyword defaults of `stage`.
    """

    stage: Stage
    replace: str | None = None
    add: str | None = None
    set: dict[str, float] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Edit:
        if sum(change is not None for change in (self.replace, self.add, self.set)) != 1:
            raise ValueError("give exactly one of replace, add and set")
        return self

    @field_validator("replace", "add")
    @classmethod
    def _is_code(cls, text: str | None) -> str | None:
        try:
            if text is not None:
                source_text.parse(text)
        except source_text.SourceRefused as refusal:
            raise ValueError(f"not code: {refusal}") from refusal
        return text


class CardClaim(StrictModel):
    statement: str
    check: str
    arguments: dict[str, Any] = {}


class Card(StrictModel):
    """One published mechanism.

    `arxiv` names its publication, or is "derived" if it was composed for this project. A card without `edits` is
    background and states its own `stages`; otherwise the edits determine them. `conflicts` names cards that cannot be
    combined with it. Two cards that replace the same stage conflict in any case.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    short: Annotated[str, Field(pattern=r"^[a-z0-9]+$", max_length=10)]
    title: str
    arxiv: Annotated[str, Field(pattern=rf"^(\d{{4}}\.\d{{4,5}}|{DERIVED})$")]
    family: str
    mechanism: str
    formula: str
    helps: str
    risks: str
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    tags: tuple[str, ...] = ()
    knobs: dict[str, Knob] = {}
    edits: tuple[Edit, ...] = ()
    claims: tuple[CardClaim, ...] = ()
    conflicts: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _stages_of_edits(cls, data: Any) -> Any:
        edits = data.get("edits") if isinstance(data, dict) else None
        if not isinstance(edits, list) or not edits:
            return data
        if "stages" in data:
            raise ValueError("the edits determine the stages; leave this field out")
        named = [edit.get("stage") for edit in edits if isinstance(edit, dict)]
        # The validation of the edit reports a value that is not text.
        return {**data, "stages": list(dict.fromkeys(stage for stage in named if isinstance(stage, str)))}

    @property
    def source(self) -> str:
        """`arXiv:2503.20783`, or "derived"."""
        return DERIVED if self.arxiv == DERIVED else f"arXiv:{self.arxiv}"


def load_card(text: str, file: str) -> Card:
    """Parse a card. Raises SettingsError with line and field."""
    return load_settings(text, Card, file)


def load_cards(texts: Mapping[str, str]) -> tuple[Card, ...]:
    """The cards of a literature, by path.

    Raises:
        SettingsError: a card is malformed, two share a name or short name, or one conflicts with an unknown card.
    """
    loaded = {file: load_card(text, file) for file, text in sorted(texts.items())}
    for field in ("name", "short"):
        seen: dict[str, str] = {}
        for file, card in loaded.items():
            value = getattr(card, field)
            if value in seen:
                raise SettingsError(
                    file, _line(texts[file], field), field, f"{value} is also the {field} of {seen[value]}"
                )
            seen[value] = file
    names = {card.name for card in loaded.values()}
    for file, card in loaded.items():
        if unknown := sorted(set(card.conflicts) - names):
            line = _line(texts[file], "conflicts")
            raise SettingsError(file, line, "conflicts", f"there is no card {unknown[0]}")
    return tuple(loaded.values())


def _line(text: str, field: str) -> int:
    """The line (from 1) of a top-level field."""
    return next((number for number, line in enumerate(text.splitlines(), 1) if line.startswith(f"{field}:")), 1)
