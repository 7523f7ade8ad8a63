"""Settings files: strict models, and errors that name the file, the line and the field."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from poise_git.errors import SettingRenamed, SettingsError
from poise_git.untrusted.yaml_text import SETTINGS, BadYaml, parse

Model = TypeVar("Model", bound=BaseModel)
# Old path -> new name. Old names are accepted, with a warning, until version 2 of the file's format.
RENAMED = {("search", "reserve"): "exploration_share", ("search", "distil_every"): "distill_every"}
# The objective's name for the protocol's own mean of suites.
OVERALL = "overall"
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """Base of all settings models. Unknown fields are errors, because an ignored option would mislead the user."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _as_written(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse values that only look like numbers: `true` is not 1, and `010` is neither 8 nor 10."""
        found = validate(data)
        for name in cls.model_fields.keys() & data.keys() if isinstance(data, dict) else ():
            wrong = _mistaken(data[name], getattr(found, name))
            if wrong is not None:
                what = PydanticCustomError("number_expected", f"{wrong} is not a number; write it in decimal digits")
                raise ValidationError.from_exception_data(
                    cls.__name__, [{"type": what, "loc": (name,), "input": wrong}]
                )
        return found


def _mistaken(written: Any, found: Any) -> str | None:
    """The value that only looks like a number but was read as one; None if there is none."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        if isinstance(written, bool):
            return str(written).lower()
        octal = isinstance(written, str) and isinstance(found, int) and not _WHOLE.fullmatch(written)
        return written if octal else None
    if isinstance(found, list | tuple) and isinstance(written, list | tuple):
        pairs = zip(written, found, strict=False)
    elif isinstance(found, dict) and isinstance(written, dict):
        pairs = zip(written.values(), found.values(), strict=False)
    else:
        return None
    return next((wrong for pair in pairs if (wrong := _mistaken(*pair)) is not None), None)


def _number_or_root(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        raise ValueError("expected a finite number, or root") from error


# A figure is compared with a number, or with the root's figure on the same seeds.
Bound = Annotated[
    Annotated[float, Field(allow_inf_nan=False, strict=True)] | Literal["root"], WrapValidator(_number_or_root)
]


class Term(StrictModel):
    """One metric of the objective; `scale` is the amount that counts as one unit, in the metric's own units."""

    weight: Amount = 1.0
    direction: Literal["maximize", "minimize"] = "maximize"
    scale: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_the_weight(cls, data: Any) -> Any:
        return {"weight": data} if isinstance(data, int | float) and not isinstance(data, bool) else data

    @field_validator("direction", mode="before")
    @classmethod
    def _british_spelling(cls, direction: Any) -> Any:
        """Accept the British spelling of earlier archives."""
        return (
            {"maximise": "maximize", "minimise": "minimize"}.get(direction, direction)
            if isinstance(direction, str)
            else direction
        )

    def to_data(self) -> float | dict[str, Any]:
        """The shortest data that parse to this term: the weight alone if nothing else is stated."""
        data = self.model_dump(exclude_defaults=True)
        return self.weight if data.keys() <= {"weight"} else {"weight": self.weight, **data}


class Constraint(StrictModel):
    """A bound of one metric; an estimate may lie up to `slack` standard errors beyond it."""

    metric: str
    at_least: Bound | None = None
    at_most: Bound | None = None
    slack: Amount = 1.0

    @model_validator(mode="after")
    def _one_bound(self) -> Constraint:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("needs one bound, at_least or at_most")
        return self


class ObjectiveSettings(StrictModel):
    """The objective of a search. Without metrics it is the protocol's mean of suites."""

    metrics: dict[str, Term] = {}
    constraints: tuple[Constraint, ...] = ()

    @model_validator(mode="after")
    def _something_counts(self) -> ObjectiveSettings:
        if self.metrics and not 0 < sum(term.weight for term in self.metrics.values()) < math.inf:
            raise ValueError("metrics: the weights must sum to a positive, finite number")
        return self

    @property
    def terms(self) -> Mapping[str, Term]:
        """The metrics in U, with their terms."""
        return self.metrics or {OVERALL: Term()}

    def to_data(self) -> dict[str, Any]:
        """The shortest plain data that parse to this objective; they always name the metrics in U."""
        return {
            "metrics": {metric: term.to_data() for metric, term in self.terms.items()},
            "constraints": [constraint.model_dump(exclude_defaults=True) for constraint in self.constraints],
        }


class AcquisitionWeights(StrictModel):
    """Weights of the four acquisition terms; a term that is not named has weight 0."""

    pareto: Share = 0.0
    perf: Share = 0.0
    div: Share = 0.0
    bayes: Share = 0.0

    @model_validator(mode="after")
    def _something_counts(self) -> AcquisitionWeights:
        if self.pareto + self.perf + self.div + self.bayes <= 0:
            raise ValueError("at least one of pareto, perf, div, bayes must be positive")
        return self


class ScreeningWeights(StrictModel):
    """Weights of the four scores of a proposal."""

    consistency: Share = 0.3
    feasibility: Share = 0.2
    novelty: Share = 0.2
    improvement: Share = 0.3

    @model_validator(mode="after")
    def _something_counts(self) -> ScreeningWeights:
        if self.consistency + self.feasibility + self.novelty + self.improvement <= 0:
            raise ValueError("at least one of consistency, feasibility, novelty, improvement must be positive")
        return self


class SearchSettings(StrictModel):
    parents: PositiveInt = 3
    proposals: PositiveInt = 4
    screening: ScreeningWeights = ScreeningWeights()
    resamples: Annotated[int, Field(ge=0)] = 2
    policy: str = "tree"
    distill_every: PositiveInt = 2
    weights: AcquisitionWeights | None = None
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.85
    beta: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    top_descendants: PositiveInt = 3
    kappa: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    bayes_after: PositiveInt = 6
    exploration_share: Share | None = None
    context_tokens: PositiveInt = 24_000


class CheckSettings(StrictModel):
    repairs: Annotated[int, Field(ge=0)] = 3


class SandboxSettings(StrictModel):
    memory_mb: PositiveInt = 4096
    cpu_seconds: PositiveInt = 600
    wall_seconds: PositiveInt = 900
    check_seconds: PositiveInt = 120
    file_mb: PositiveInt = 64
    disk_mb: PositiveInt = 2048
    files: PositiveInt = 10_000
    processes: PositiveInt = 64
    require_isolation: bool = False


class ExecutorSettings(StrictModel):
    """The place where training and evaluation run."""

    kind: str = "local"
    gpus: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    address: str | None = None
    shared: Path | None = None
    attempts: PositiveInt = 3


class Price(StrictModel):
    """US dollars per million tokens of a model; reads and writes of its prompt cache have separate prices."""

    input: Amount
    output: Amount
    cache_write: Amount
    cache_read: Amount


class ReplaySettings(StrictModel):
    """Replies are kept in files of `folder`, a folder inside the archive."""

    folder: Annotated[str, Field(min_length=1)]
    mode: Literal["record", "replay"] = "replay"

    @field_validator("folder")
    @classmethod
    def _inside(cls, folder: str) -> str:
        # An archive from a stranger must not choose a place on this machine to write to.
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts or path.parts[:1] in ((".git",), ()):
            raise ValueError("must be a folder inside the archive, such as recordings")
        return folder


class AnthropicSettings(StrictModel):
    """The settings with which the `anthropic` agent calls its model."""

    model: Annotated[str, Field(min_length=1)] = "claude-sonnet-5-5"
    base_url: str | None = None
    max_tokens: PositiveInt = 16000
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    tool_choice: Literal["auto", "tool"] = "auto"
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    retries: Annotated[int, Field(ge=0)] = 4
    parallel: PositiveInt = 8
    replay: ReplaySettings | None = None
    prices: dict[str, Price] = {
        "claude-opus-5-5": Price(input=4.0, output=20.0, cache_write=5.0, cache_read=0.2),
        "claude-sonnet-5-5": Price(input=2.0, output=10.0, cache_write=2.5, cache_read=0.1),
        "claude-sonnet-5": Price(input=2.0, output=10.0, cache_write=2.5, cache_read=0.2),
        "claude-haiku-5-5": Price(input=0.5, output=2.5, cache_write=0.625, cache_read=0.05),
    }


class PoiseSettings(StrictModel):
    """`poise.yaml`."""

    version: Literal[1] = 1
    protocol: str = "testbed"
    agent: str = "library"
    directive: str = ""
    seed: int = 0
    workers: PositiveInt | None = None
    objective: ObjectiveSettings = ObjectiveSettings()
    search: SearchSettings = SearchSettings()
    checks: CheckSettings = CheckSettings()
    sandbox: SandboxSettings = SandboxSettings()
    executor: ExecutorSettings = ExecutorSettings()
    anthropic: AnthropicSettings = AnthropicSettings()


def load_settings(text: str, model: type[Model], file: str) -> Model:
    """Parse and validate `text`, the content of `file`.

    Raises:
        SettingsError: the text is not YAML or not a mapping, or a field is unknown or has a wrong value.
    """
    try:
        parsed = parse(text, SETTINGS)
    except BadYaml as error:
        raise SettingsError(file, error.line, "", error.what) from error
    data = {} if parsed.data is None else parsed.data
    if not isinstance(data, dict):
        raise SettingsError(file, 1, "", "expected `field: value` lines")
    data = _renamed(data, parsed.tree, file)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        location = _as_written([part for part in first["loc"] if isinstance(part, str | int)], parsed.data)
        message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise SettingsError(file, _line_of(parsed.tree, location), ".".join(map(str, location)), message) from error


def _renamed(data: dict[str, Any], tree: yaml.Node | None, file: str) -> dict[str, Any]:
    """Return `data` with the new names of fields. Raises SettingsError if a field occurs under both names."""
    for path, new in RENAMED.items():
        section, old = data.get(path[0]), path[-1]
        if not isinstance(section, dict) or old not in section:
            continue
        line, field = _line_of(tree, path), ".".join(path)
        if new in section:
            raise SettingsError(file, line, field, f"is the old name of {new}, which is there too; remove this line")
        warnings.warn(f"{file}:{line}: {field} is called {new} now; rename it", SettingRenamed, stacklevel=3)
        data = {**data, path[0]: {new if name == old else name: value for name, value in section.items()}}
    return data


def _as_written(location: Sequence[str | int], data: Any) -> Sequence[str | int]:
    """The location of a field in the file, where it may have its old name."""
    for path, new in RENAMED.items():
        if tuple(location[: len(path)]) == (*path[:-1], new) and path[-1] in (data.get(path[0]) or {}):
            return [*path, *location[len(path) :]]
    return location


def field_error(text: str, file: str, location: Sequence[str | int], what: str) -> SettingsError:
    """Make the error of a field that is wrong only in view of other files; `text` is the content of `file`."""
    line = _line_of(parse(text, SETTINGS).tree, location)
    return SettingsError(file, line, ".".join(map(str, location)), what)


def _line_of(tree: yaml.Node | None, location: Sequence[str | int]) -> int:
    """The line (from 1) of the deepest part of `location` that occurs in the file."""
    line, node = 1, tree
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
