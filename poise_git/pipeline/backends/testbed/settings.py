"""The testbed's part of a protocol file (`settings:`), as strict models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from poise_git.errors import SettingsError
from poise_git.pipeline.protocol import Protocol
from poise_git.settings import PositiveInt, Share, StrictModel

Rate = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0)]
Worlds = Annotated[tuple[Seed, ...], Field(min_length=1)]

ESTIMATORS = ("learning-curve-area", "final")
# (length, hard steps) of each kind of arithmetic prompt.
CHAINS = {"chain-1": (1, 1), "chain-2": (2, 1), "chain-3": (3, 2), "chain-4": (4, 3)}


class ArithmeticChainSettings(StrictModel):
    """Chains of + and * modulo 97 with a scratchpad, and a tag that must be known for an answer to be valid."""

    name: Literal["arithmetic-chain"]
    worlds: Worlds
    training_mix: dict[str, Annotated[float, Field(ge=0.0)]]

    @field_validator("training_mix")
    @classmethod
    def _known_chains(cls, mix: dict[str, float]) -> dict[str, float]:
        for chain in mix:
            if chain not in CHAINS:
                raise ValueError(f"unknown: {chain}; known: {', '.join(CHAINS)}")
        if sum(mix.values()) <= 0:
            raise ValueError("the shares must sum to something positive")
        return mix


class ReasoningGymSettings(StrictModel):
    """A data set of the `reasoning-gym` package, checked by its own verifier.

    `demonstration_accuracy` is the share of demonstrations whose answer is right, `demonstration_validity` of those
    in the required form: together they set how imperfect the base policy is.
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
    """Supervised steps at a constant rate until `correct_rate` of sampled responses are correct, or `steps` at most.

    Then `cooldown_steps` more while the rate falls to 0. Stopping by strength makes the worlds alike.
    """

    demonstrations: PositiveInt
    correct_rate: Share
    steps: PositiveInt
    cooldown_steps: PositiveInt
    batch: PositiveInt
    learning_rate: Rate

    @property
    def total_steps(self) -> int:
        return self.steps + self.cooldown_steps


class RewardSettings(StrictModel):
    """Rewards: 0 for an invalid response, `valid_wrong` for a valid but wrong one, 1 for a correct one."""

    valid_wrong: Annotated[float, Field(gt=0.0, lt=1.0)]


class TrainingSettings(StrictModel):
    steps: PositiveInt
    prompts: PositiveInt
    group_size: PositiveInt
    minibatches: PositiveInt = 1
    epochs: PositiveInt = 1
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
    every: PositiveInt
    problems: PositiveInt
    samples: PositiveInt
    final_samples: PositiveInt
    pass_at: tuple[PositiveInt, ...]

    @model_validator(mode="after")
    def _enough_samples(self) -> EvaluationSettings:
        if self.pass_at and max(self.pass_at) > self.final_samples:
            raise ValueError(f"pass_at {max(self.pass_at)} needs as many final_samples, not {self.final_samples}")
        return self


class TestbedSettings(StrictModel):
    """`settings:` of a protocol whose backend is the testbed."""

    __test__ = False

    revision: PositiveInt
    task: TaskSettings
    policy: PolicySettings = PolicySettings()
    warm_start: WarmStartSettings
    reward: RewardSettings
    training: TrainingSettings
    evaluation: EvaluationSettings

    def evaluation_steps(self) -> tuple[int, ...]:
        """How many training steps lie before each point of the learning curve; the first is 0, the last all."""
        return (*range(0, self.training.steps, self.evaluation.every), self.training.steps)

    def world(self, seed: int) -> int:
        return self.task.worlds[seed % len(self.task.worlds)]


def parse_settings(protocol: Protocol, file: str) -> TestbedSettings:
    """The validated `settings` of `protocol`, which was read from `file`.

    Raises:
        SettingsError: with the field.
    """
    if protocol.estimator not in ESTIMATORS:
        raise SettingsError(file, 0, "estimator", f"unknown: {protocol.estimator}; known: {', '.join(ESTIMATORS)}")
    try:
        return TestbedSettings.model_validate(protocol.settings)
    except ValidationError as error:
        first = error.errors()[0]
        # A tagged union puts its tag into the location; the file has no such field.
        tags = {"arithmetic-chain", "reasoning-gym"}
        field = ".".join(["settings", *(str(part) for part in first["loc"] if part not in tags)])
        message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise SettingsError(file, 0, field, message) from error
