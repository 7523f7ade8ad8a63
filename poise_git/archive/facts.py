"""The facts of a reflection: what the evidence says, and the words that an agent adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from poise_git.untrusted.display import visible

# Fields that are tables of figures.
TABLES = ("against_parent", "against_root")


class _Fact(BaseModel):
    # What later versions and people add is kept, and printed again.
    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)


class FigureFact(_Fact):
    """One figure of a candidate against another candidate, paired by seed.

    `value` is the candidate's own, `se` the standard error of `difference`, `direction` up, down or within noise.
    """

    value: float | None = None
    difference: float
    se: float | None = None
    direction: str = ""


class ClaimFact(_Fact):
    """A claim's verdict (held, refuted, undecided) and a sentence of evidence."""

    statement: str = ""
    verdict: str = ""
    because: str = ""


def _texts(value: Any) -> Any:
    # People write `- yes` and `- 4` in YAML.
    return tuple(map(str, value)) if isinstance(value, list | tuple) else value


def _figure(value: Any) -> FigureFact | None:
    try:
        return FigureFact.model_validate(value)
    except ValidationError:
        return None


def _figures(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {str(name): found for name, row in value.items() if (found := _figure(row)) is not None}


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Table = Annotated[Mapping[str, FigureFact], BeforeValidator(_figures)]


class ReflectionFacts(_Fact):
    """What a reflection states beside its prose; `to_data` holds the fields that were given, and no others.

    Attributes:
        verdict: utility against the parent: better, worse, within noise; of the root: root.
        parent: the candidate's parent.
        seeds: how many paired seeds the figures are of.
        against_parent: figure -> its difference from the parent.
        against_root: the same from the root; empty where the parent is the root.
        claims: the verdict on each claim of the proposal.
        violations: the constraints of the objective that it breaks, in words.
        warnings: conspicuous dynamics, in words.
        focus: tags of mechanisms that address its weak spots; the agent's words, as all that follows.
        next: what to try next, a sentence each.
        unsupported_numbers: numbers in the prose that the evidence does not hold.
        diagnosis: why rules wrote the prose, where a model was asked.
    """

    verdict: str = ""
    parent: str = ""
    seeds: int | None = None
    against_parent: Table = {}
    against_root: Table = {}
    claims: tuple[ClaimFact, ...] = ()
    violations: Texts = ()
    warnings: Texts = ()
    focus: Texts = ()
    next: Texts = ()
    unsupported_numbers: Texts = ()
    diagnosis: str = ""

    @property
    def utility_change(self) -> FigureFact | None:
        """The row of the utility U against the parent."""
        return self.against_parent.get("utility")

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """From what is archived. People edit reflections: a field of another form counts as not there."""
        # pydantic takes no name with half of a character in it.
        named = {visible(str(name)): value for name, value in data.items()}
        try:
            return cls.model_validate(named)
        except ValidationError as error:
            wrong = {each["loc"][0] for each in error.errors(include_url=False, include_input=False)}
            return cls.model_validate({name: value for name, value in named.items() if name not in wrong})

    def to_data(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)

    def advising(self, focus: Sequence[str], advice: Sequence[str]) -> Self:
        """The same facts with an agent's `focus` and `next`."""
        return self.model_copy(update={"focus": tuple(focus), "next": tuple(advice)})

    def doubting(self, numbers: Sequence[str]) -> Self:
        """The same facts with numbers of the prose that the evidence does not hold."""
        return self.model_copy(update={"unsupported_numbers": tuple(numbers)})

    def by_rules(self, why: str) -> Self:
        """The same facts, where rules had to write the prose."""
        return self.model_copy(update={"diagnosis": f"by rules: {why}"})
