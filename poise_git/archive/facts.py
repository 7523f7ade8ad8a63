"""The facts of a reflection: the results from the evidence, and the words that an agent adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from poise_git.untrusted.display import visible

# Fields that are tables of figures.
TABLES = ("against_parent", "against_root")


class _Fact(BaseModel):
    # Keep and print the fields that later versions and people add.
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
    # YAML reads `- yes` and `- 4`, which people write, as a boolean and a number.
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
    """The facts of a reflection, without its prose; `to_data` holds only the fields that were given.

    Attributes:
        verdict: utility against the parent: better, worse or within noise; "root" for the root.
        parent: the candidate's parent.
        seeds: the number of paired seeds.
        against_parent: figure -> its difference from the parent.
        against_root: figure -> its difference from the root; empty if the parent is the root.
        claims: the verdict on each claim of the proposal.
        violations: the constraints of the objective that it breaks, in words.
        warnings: conspicuous dynamics, in words.
        focus: tags of mechanisms that address its weak spots. The agent adds this field and those below.
        next: the next steps to try, one sentence each.
        unsupported_numbers: numbers in the prose that are not in the evidence.
        diagnosis: the reason why rules wrote the prose after a model was asked.
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
        """Read archived data. People edit reflections, so a field of another type counts as missing."""
        # pydantic rejects a name with a lone surrogate.
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
        """The same facts with the numbers of the prose that are not in the evidence."""
        return self.model_copy(update={"unsupported_numbers": tuple(numbers)})

    def by_rules(self, why: str) -> Self:
        """The same facts with the reason why rules wrote the prose."""
        return self.model_copy(update={"diagnosis": f"by rules: {why}"})
