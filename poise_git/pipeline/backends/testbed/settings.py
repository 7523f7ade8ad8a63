"""The testbed's part of a protocol file (`settings:`), as strict models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from poise_git.errors import SettingsError
from poise_git.pipeline.protocol import Protocol
from poise_git.settings import PositiveInt, Share, StrictModel

Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0)]
RegimeName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
FigureName = Annotated[str, Field(pattern=r"^(greedy|pass@[1-9][0-9]{0,3})$")]
Worlds = Annotated[tuple[Seed, ...], Field(min_length=1)]

ESTIMATORS = ("learning-curve-area", "final")
# Tables that have a meaning only as a whole, so a regime's own table replaces the shared one.
WHOLE_TABLES = ("training_mix", "config", "figure")
# The share of problems that the likeliest response solves.
GREEDY = "greedy"
# The (length, hard steps) of each kind of arithmetic prompt.
CHAINS = {"chain-1": (1, 1), "chain-2": (2, 1), "chain-3": (3, 2), "chain-4": (4, 3)}


class KnowledgeSettings(StrictModel):
    """The average share of right demonstrations about an entry of each table. Without `tags`, responses have no tag."""

    sums: OpenShare = 0.8
    products: OpenShare = 0.32
    tags: OpenShare | None = 0.53


class StrategySettings(StrictModel):
    """The ways to read the operands of a prompt, and how demonstrators choose among them.

    Demonstrators choose strategy k of `count` with a probability proportional to
    exp(-`skew` log(k + 1) + `insight` [k is right] + noise): they prefer some strategies on every prompt, and know a
    little about which one a prompt needs. A share `exceptions` of the prompts needs a strategy of its own, which
    follows from no other prompt and which demonstrators know nothing of.
    """

    count: Annotated[int, Field(ge=2, le=6)] = 6
    skew: Annotated[float, Field(ge=0.0, le=5.0)] = 1.0
    insight: Annotated[float, Field(ge=0.0, le=20.0)] = 1.0
    exceptions: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class ArithmeticChainSettings(StrictModel):
    """Chains of + and * modulo 97 with a scratchpad and a tag; only an answer with the right tag is valid.

    `training_mix` holds the share of each chain among training prompts. A share `defects` of the demonstrations has a
    defect of form, and a wrong step of a demonstration is, with probability `favorite_errors`, the error that belongs
    to the entry, else any number. Demonstrations hold, on average, `idle_tokens` tokens that do nothing. A response is
    cut off after `response_cap` tokens.
    """

    name: Literal["arithmetic-chain"]
    worlds: Worlds
    training_mix: dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]
    known: KnowledgeSettings = KnowledgeSettings()
    strategies: StrategySettings | None = None
    defects: Share = 0.2
    favorite_errors: Share = 0.65
    idle_tokens: Annotated[float, Field(ge=0.0, le=64.0)] = 0.0
    response_cap: Annotated[int, Field(ge=6, le=64)] = 14

    @field_validator("training_mix")
    @classmethod
    def _known_chains(cls, mix: dict[str, float]) -> dict[str, float]:
        for chain in mix:
            if chain not in CHAINS:
                raise ValueError(f"unknown: {chain}; known: {', '.join(CHAINS)}")
        if not 0 < sum(mix.values()) < math.inf:
            raise ValueError("the shares must sum to a positive, finite number")
        return mix


class ReasoningGymSettings(StrictModel):
    """A data set of the `reasoning-gym` package, checked by its own verifier.

    `demonstration_accuracy` is the share of demonstrations with a right answer, and `demonstration_validity` the share
    in the required form. Together they set how imperfect the base policy is.
    """

    name: Literal["reasoning-gym"]
    worlds: Worlds = (0,)
    dataset: str
    config: dict[str, Any] = {}
    demonstration_accuracy: Share = 0.5
    demonstration_validity: Share = 0.7


TaskSettings = Annotated[ArithmeticChainSettings | ReasoningGymSettings, Field(discriminator="name")]


class PolicySettings(StrictModel):
    width: PositiveInt = 64
    layers: PositiveInt = 2
    heads: PositiveInt = 2
    feedforward: PositiveInt = 256

    @model_validator(mode="after")
    def _heads_divide_width(self) -> PolicySettings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class WarmStartSettings(StrictModel):
    """Supervised steps until the regime's figure reaches `strength` on demonstrated prompts; `steps` at most.

    A base policy that has not reached it by then is an error; with `strength: null`, all `steps` are taken. The base
    policy is the exponential moving average of the weights, so its strength can be measured before the learning rate
    has fallen. Stopping at a given strength makes the worlds alike. Then follow `settling_steps`, in which the learning
    rate falls to 0. Without them a policy still errs because its training is not over; with them it errs where its
    demonstrators do.
    """

    demonstrations: PositiveInt
    strength: Share | None = None
    steps: PositiveInt
    settling_steps: Annotated[int, Field(ge=0)] = 0
    ema_decay: OpenShare
    batch: PositiveInt
    learning_rate: Rate

    @property
    def all_steps(self) -> int:
        """The number of steps, if the base policy does not reach its strength earlier."""
        return self.steps + self.settling_steps


class RewardSettings(StrictModel):
    """Rewards: 0 for an invalid response, `valid_wrong` for a valid but wrong one, 1 for a correct one.

    With `valid_wrong` 0, a candidate cannot tell a wrong response from an invalid one, as in most training of language
    models on verifiable answers.
    """

    valid_wrong: Annotated[float, Field(ge=0.0, lt=1.0)]


class TrainingSettings(StrictModel):
    """The rollouts of a step were sampled `lag` steps earlier, as in asynchronous training."""

    steps: PositiveInt
    prompts: PositiveInt
    group_size: PositiveInt
    minibatches: PositiveInt = 1
    epochs: PositiveInt = 1
    lag: Annotated[int, Field(ge=0, le=64)] = 0
    learning_rate: Rate
    final_learning_rate: Share = 1.0
    warmup_steps: PositiveInt = 1
    gradient_clip: Rate = 1.0
    loss_aggregation: Literal[
        "token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
    ] = "token-mean"

    @model_validator(mode="after")
    def _minibatches_divide_prompts(self) -> TrainingSettings:
        if self.prompts % self.minibatches:
            raise ValueError(f"prompts {self.prompts} is not a multiple of minibatches {self.minibatches}")
        return self


class EvaluationSettings(StrictModel):
    """The learning curve: one point before training, and `points` more, evenly spaced from `scored_from` to the end.

    Each point is measured on `problems` held-out prompts of each of the task's `suites` (empty: of all suites), with
    one greedy response and `samples` ones a prompt, sampled at `temperature`. Its value is the mean of the figures that
    `figure` names, with these weights. At the end, pass@k is computed for each k of `pass_at`, from `final_samples`
    responses where k is larger than `samples`. Those are drawn at temperature 1 for the first `final_problems` prompts
    of each suite; null: for all and at `temperature`, and then every figure of the last point rests on them.
    """

    points: PositiveInt
    scored_from: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    suites: tuple[str, ...] = ()
    problems: PositiveInt
    samples: PositiveInt
    temperature: Annotated[float, Field(ge=0.05, le=5.0)] = 1.0
    figure: Annotated[dict[FigureName, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]], Field(min_length=1)] = {
        GREEDY: 1.0,
        "pass@2": 1.0,
    }
    final_samples: PositiveInt
    final_problems: PositiveInt | None = None
    pass_at: tuple[PositiveInt, ...]

    @model_validator(mode="after")
    def _enough_samples(self) -> EvaluationSettings:
        if self.pass_at and max(self.pass_at) > max(self.samples, self.final_samples):
            raise ValueError(f"pass_at {max(self.pass_at)} needs as many final_samples, not {self.final_samples}")
        if not 0 < sum(self.figure.values()) < math.inf:
            raise ValueError("the weights of figure must sum to a positive, finite number")
        for name in self.figure:
            if name != GREEDY and attempts_of(name) > self.samples:
                raise ValueError(f"figure {name} needs as many samples, not {self.samples}")
        if self.final_problems is not None and self.final_problems > self.problems:
            raise ValueError(f"final_problems {self.final_problems} is more than problems {self.problems}")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The weights of `figure`, summing to 1."""
        total = sum(self.figure.values())
        return {name: weight / total for name, weight in self.figure.items()}


def attempts_of(figure: str) -> int:
    """k of the figure pass@k."""
    return int(figure.removeprefix("pass@"))


class RegimeSettings(StrictModel):
    """A regime of training and evaluation. A candidate starts anew in each regime, from the regime's base policy."""

    task: TaskSettings
    policy: PolicySettings = PolicySettings()
    warm_start: WarmStartSettings
    reward: RewardSettings
    training: TrainingSettings
    evaluation: EvaluationSettings

    @model_validator(mode="after")
    def _a_step_between_two_points(self) -> RegimeSettings:
        steps = self.evaluation_steps()
        if len(set(steps)) < len(steps):
            raise ValueError(f"{self.evaluation.points} evaluation points need more than {self.training.steps} steps")
        return self

    def evaluation_steps(self) -> tuple[int, ...]:
        """The number of training steps before each point of the learning curve, from 0 to all steps."""
        points, first = self.evaluation.points, self.evaluation.scored_from
        shares = (first + (1.0 - first) * i / points for i in range(1, points + 1))
        return (0, *(round(share * self.training.steps) for share in shares))

    def world(self, seed: int) -> int:
        return self.task.worlds[seed % len(self.task.worlds)]


SECTIONS = tuple(RegimeSettings.model_fields)


class TestbedSettings(StrictModel):
    """`settings:` of a protocol whose backend is the testbed.

    In a file, the sections beside `regimes` hold for all regimes; a regime states only its own values. Runs train and
    are evaluated on `device`; base policies are made on the CPU.
    """

    __test__ = False

    revision: PositiveInt
    device: Literal["cpu", "cuda"] = "cpu"
    regimes: Annotated[dict[RegimeName, RegimeSettings], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _complete_regimes(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("regimes"), dict):
            return data
        shared = {name: value for name, value in data.items() if name in SECTIONS}
        regimes = {name: _merge(shared, own or {}) for name, own in data["regimes"].items()}
        return {name: value for name, value in data.items() if name not in SECTIONS} | {"regimes": regimes}

    @model_validator(mode="after")
    def _as_many_points(self) -> TestbedSettings:
        if len({regime.evaluation.points for regime in self.regimes.values()}) > 1:
            raise ValueError("evaluation.points must be the same in all regimes")
        return self


def _merge(shared: Any, own: Any) -> Any:
    """Merge section by section: `own` where it has a value, else `shared`; a mix or other free table is one value.

    A task of another name is also one value, because it has none of the shared task's fields.
    """
    if not isinstance(shared, dict) or not isinstance(own, dict):
        return own
    if "name" in shared and own.get("name", shared["name"]) != shared["name"]:
        return own
    return shared | {
        name: value if name in WHOLE_TABLES else _merge(shared.get(name), value) for name, value in own.items()
    }


def parse_settings(protocol: Protocol, file: str) -> TestbedSettings:
    """The validated `settings` of `protocol`, which was read from `file`.

    Raises:
        SettingsError: a setting is wrong; the error names its field.
    """
    if protocol.estimator not in ESTIMATORS:
        raise SettingsError(file, 0, "estimator", f"unknown: {protocol.estimator}; known: {', '.join(ESTIMATORS)}")
    try:
        settings = TestbedSettings.model_validate(protocol.settings)
    except ValidationError as error:
        # An error in a shared section also shows up in every regime that states a part of the section.
        field, first = min(
            ((field_in_file(protocol, each["loc"]), each) for each in error.errors()),
            key=lambda found: found[0].startswith("settings.regimes."),
        )
        message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise SettingsError(file, 0, field, message) from error
    if settings.regimes.keys() != protocol.suites.keys():
        names = ", ".join(settings.regimes)
        raise SettingsError(
            file, 0, "suites", f"must give every regime a weight (0 is allowed) and no other name: {names}"
        )
    return settings


def field_in_file(protocol: Protocol, location: Sequence[int | str]) -> str:
    """The place in the file of the models' `location`: in a regime, or in a section that holds for all."""
    # A tagged union puts its tag into the location; the file has no such field.
    path = [
        part
        for part, before in zip(location, ("", *location), strict=False)
        if before != "task" or part not in ("arithmetic-chain", "reasoning-gym")
    ]
    shared = len(path) > 2 and path[0] == "regimes" and path[2] in SECTIONS
    if shared and not _holds(protocol.settings, path):
        path = path[2:]
    return ".".join(["settings", *map(str, path)])


def _holds(data: Any, path: Sequence[int | str]) -> bool:
    for part in path:
        if not isinstance(data, dict) or part not in data:
            return isinstance(data, list)
        data = data[part]
    return True
