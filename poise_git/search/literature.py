"""Literature cards: published mechanisms as priors, one YAML file each in the archive's `literature/`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from poise_git.settings import StrictModel, load_settings


class Knob(StrictModel):
    """A named hyper-parameter: keyword `argument` of `function`, and the range worth trying.

    `neutral` is the value at which the mechanism does nothing; None where there is no such value.
    """

    function: str
    argument: str
    default: float
    neutral: float | None = None
    low: float
    high: float


class Edit(StrictModel):
    """One change of a stage function, exactly one of:

    replace: the new text of the function `stage`;
    add: the text of a new function, and a call of it is put into `stage`, before its `return`;
    set: new keyword defaults of `stage`.
    """

    stage: str
    replace: str | None = None
    add: str | None = None
    set: dict[str, float] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Edit:
        if sum(change is not None for change in (self.replace, self.add, self.set)) != 1:
            raise ValueError("exactly one of replace, add, set")
        return self


class CardClaim(StrictModel):
    statement: str
    check: str
    arguments: dict[str, Any] = {}


class Card(StrictModel):
    """One published mechanism.

    A card without `edits` is a prior for reading only. `conflicts` names cards that cannot be combined with it
    (same stage is a conflict already, where both replace it).
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    short: Annotated[str, Field(pattern=r"^[a-z0-9]+$", max_length=10)]
    title: str
    arxiv: str | None
    family: str
    mechanism: str
    formula: str
    helps: str
    risks: str
    tags: tuple[str, ...] = ()
    knobs: dict[str, Knob] = {}
    edits: tuple[Edit, ...] = ()
    claims: tuple[CardClaim, ...] = ()
    conflicts: tuple[str, ...] = ()


def load_card(text: str, file: str) -> Card:
    """Raises SettingsError with line and field."""
    return load_settings(text, Card, file)
