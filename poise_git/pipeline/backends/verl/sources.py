"""Sources of problems, as strict models: a generator, a local file, or a file of the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from poise_git.settings import PositiveInt, StrictModel

# boxed: exactly one balanced \boxed{}, not cut off. plain: exactly one integer, for models too small for a form.
AnswerFormat = Literal["boxed", "plain"]
# Compare an answer as an integer (AIME, AMC), as mathematics, as Minerva's physics, or as one or more answers.
AnswerKind = Literal["integer", "math", "minerva", "olympiad"]


class HubFile(StrictModel):
    """A file of a data set of the Hugging Face hub, pinned to a commit."""

    repository: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    file: str


class SumsGenerator(StrictModel):
    """`problems` sums of two numbers from `lowest` to `highest`, drawn with `seed`."""

    name: Literal["sums"]
    problems: PositiveInt
    lowest: int = 0
    highest: int = 9
    seed: Annotated[int, Field(ge=0)] = 0


class FieldNames(StrictModel):
    """The names of the columns; `answers` may hold several accepted answers."""

    question: str = "problem"
    answer: str = "answer"
    answers: str | None = None


class SuiteSource(StrictModel):
    """Exactly one of `generator`, `path` (JSONL or parquet) and `hub`; with the names and the kind of its columns."""

    generator: SumsGenerator | None = None
    path: str | None = None
    hub: HubFile | None = None
    fields: FieldNames = FieldNames()
    kind: AnswerKind = "math"

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("generator", "path", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of generator, path, hub")
        return self


class SuiteSettings(StrictModel):
    """A suite: its problems, the number of responses to each, and the figure computed from them.

    Attributes:
        metric: `acc@1` is the share of right responses; `pass@k` is the unbiased estimate (arXiv:2107.03374, eq. 1).
        samples: responses per problem; at least the k of pass@k.
        problems: the required number of problems; it checks the file, and estimates use it.
        temperature: null means the evaluation's own; 0 is greedy.
        max_tokens: null means the evaluation's own.
    """

    source: SuiteSource
    metric: Annotated[str, Field(pattern=r"^(acc@1|pass@[1-9][0-9]*)$")] = "acc@1"
    samples: PositiveInt = 1
    problems: PositiveInt
    temperature: Annotated[float, Field(ge=0.0)] | None = None
    max_tokens: PositiveInt | None = None

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.samples < self.k:
            raise ValueError(f"{self.metric} needs at least {self.k} samples, not {self.samples}")
        return self

    @property
    def k(self) -> int:
        return int(self.metric.partition("@")[2])
