"""The verl backend's part of a protocol file (`settings:`), as strict models.

The protocol's hash covers everything here, `hardware` too: the number of devices, the precision and micro-batches
change floating-point sums, and so change figures slightly. A choice that cannot change a figure, such as the place of
caches or the number of parallel runs, is not a setting of a protocol.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from poise_git.errors import SettingsError
from poise_git.pipeline.backends.verl.sources import AnswerFormat, SuiteSettings, SuiteSource
from poise_git.pipeline.protocol import Protocol
from poise_git.settings import PositiveInt, Share, StrictModel

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0)]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]

ESTIMATOR = "final"


class HubModelSettings(StrictModel):
    """A model of the Hugging Face hub, pinned to a commit; null takes the newest or the cached version."""

    repository: str
    revision: Revision | None = None


class DemonstrationSettings(StrictModel):
    """Sums that a generated model learns before reinforcement learning, so that training has something to improve.

    A share `valid` of the demonstrations has the answer's form (boxed), and a share `correct` of those is right. A
    policy that imitates them is valid and correct about as often.
    """

    lowest: int = 0
    highest: int = 9
    valid: Share = 0.6
    correct: Share = 0.5
    steps: PositiveInt = 400
    batch: PositiveInt = 64
    learning_rate: Positive = 3e-3


class TinyModelSettings(StrictModel):
    """A generated Qwen2 with a byte-level tokenizer: random weights, or trained on `demonstrations`."""

    name: Literal["tiny-qwen2"]
    layers: PositiveInt = 2
    width: PositiveInt = 64
    heads: PositiveInt = 2
    feedforward: PositiveInt = 128
    positions: PositiveInt = 512
    demonstrations: DemonstrationSettings | None = None
    seed: Natural = 0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class ModelSettings(StrictModel):
    """The base policy: exactly one of a hub model, a folder in Hugging Face format, a generated model."""

    hub: HubModelSettings | None = None
    path: str | None = None
    generator: TinyModelSettings | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        _require_one(self, "hub", "path", "generator")
        return self


class DataSettings(StrictModel):
    """Training problems: `rows` of `source`, drawn with `seed` (null: all of them), each put into `prompt`."""

    source: SuiteSource
    rows: PositiveInt | None = None
    seed: Natural = 0
    prompt: str
    answer_format: AnswerFormat = "boxed"
    max_prompt_tokens: PositiveInt

    @model_validator(mode="after")
    def _asks_the_question(self) -> Self:
        if "{question}" not in self.prompt:
            raise ValueError("prompt must contain {question}")
        return self


class RewardSettings(StrictModel):
    """Rewards: 0 for an invalid response, `valid_wrong` for a valid but wrong one, 1 for a correct one."""

    valid_wrong: Annotated[float, Field(gt=0.0, lt=1.0)]


class TrainingSettings(StrictModel):
    """One training run: `prompts` per step with `group_size` responses each; exactly one of `steps` and `epochs`.

    `minibatch_prompts` times `group_size` responses go into one optimizer step. verl writes checkpoints every
    `checkpoint_every` steps and at the end; null means only at the end. The trainer adds no penalty toward a
    reference policy, because such a penalty belongs in a candidate's own `regularizer`.
    """

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    prompts: PositiveInt
    group_size: PositiveInt
    minibatch_prompts: PositiveInt
    max_response_tokens: PositiveInt
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    learning_rate: Positive
    warmup_steps: Natural = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    gradient_clip: Positive = 1.0
    loss_aggregation: Literal[
        "token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
    ] = "token-mean"
    checkpoint_every: PositiveInt | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_one(self, "steps", "epochs")
        if self.prompts % self.minibatch_prompts:
            raise ValueError(f"prompts {self.prompts} is not a multiple of minibatch_prompts {self.minibatch_prompts}")
        return self


class EarlyStop(StrictModel):
    """Fail the run once a series is beyond `threshold` for `patience` consecutive steps."""

    threshold: Annotated[float, Field(allow_inf_nan=False)]
    patience: PositiveInt = 1


class EarlyStopSettings(StrictModel):
    """The collapses that end a run before its last step; null switches one off.

    Thresholds: nats per token (entropy, KL to the sampling policy), share of responses (at the length limit, valid),
    norm before clipping (gradient).
    """

    entropy_below: EarlyStop | None = None
    kl_above: EarlyStop | None = None
    length_at_limit_share_above: EarlyStop | None = None
    gradient_norm_above: EarlyStop | None = None
    valid_rate_below: EarlyStop | None = None


class LimitSettings(StrictModel):
    """Training fails after `stall_minutes` without a new step, or after `hours` in total."""

    stall_minutes: Positive
    hours: Positive
    evaluation_hours: Positive


class HardwareSettings(StrictModel):
    """The hardware of one run, and the layout of the run on it.

    Attributes:
        gpus: devices of one training run, on one machine; 0 with device cpu.
        evaluation_gpus: devices of one evaluation shard; 0 with device cpu.
        cpus: cores of one run.
        precision: of the forward and backward passes and of sampling; optimizer state is float32.
        gpu_memory_utilization: share of a device that vLLM takes while sampling.
        tensor_parallel: devices that share one copy of the model while sampling.
        attention: sdpa is part of torch; flash_attention_2 needs the package flash-attn and trains without padding.
        micro_batch_tokens: prompt and response tokens on one device in one pass of training, padding included.
        sampling_sequences: sequences that one vLLM engine processes at once.
        sampling_tokens: tokens that one vLLM engine processes in one step.
        offload: optimizer state and parameters stay in the machine's memory during sampling.
    """

    device: Literal["cuda", "cpu"]
    gpus: Natural = 0
    evaluation_gpus: Natural = 0
    cpus: PositiveInt = 1
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    tensor_parallel: PositiveInt = 1
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"
    micro_batch_tokens: PositiveInt = 16384
    sampling_sequences: PositiveInt = 256
    sampling_tokens: PositiveInt = 8192
    offload: Literal["none", "optimizer", "all"] = "none"

    @model_validator(mode="after")
    def _devices_fit(self) -> Self:
        needed = self.device == "cuda"
        for name, count in (("gpus", self.gpus), ("evaluation_gpus", self.evaluation_gpus)):
            if (count > 0) != needed:
                raise ValueError(f"{name} must be {'at least 1' if needed else '0'} with device {self.device}")
        if self.workers % self.tensor_parallel:
            raise ValueError(f"gpus {self.gpus} is not a multiple of tensor_parallel {self.tensor_parallel}")
        if self.attention == "flash_attention_2" and not needed:
            raise ValueError("attention flash_attention_2 needs device cuda")
        return self

    @property
    def workers(self) -> int:
        """Processes that hold a share of the model in training: one per device, or one on a machine without a GPU."""
        return max(self.gpus, 1)


class EvaluationSettings(StrictModel):
    """Held-out evaluation of the last checkpoint with vLLM.

    A suite may set its own number of responses and its own limits; otherwise these hold. `shards` groups suites into
    parts that can run separately, on different machines; all suites not named there form one more part.
    """

    max_tokens: PositiveInt = 4096
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    suites: Annotated[dict[str, SuiteSettings], Field(min_length=1)]
    shards: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")], tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _greedy_samples_are_one(self) -> Self:
        for name, suite in self.suites.items():
            greedy = (self.temperature if suite.temperature is None else suite.temperature) == 0.0
            if greedy and suite.samples > 1:
                raise ValueError(f"suites.{name}: {suite.samples} samples at temperature 0 are identical; use 1")
        return self

    @model_validator(mode="after")
    def _shards_hold_suites(self) -> Self:
        named = [suite for suites in self.shards.values() for suite in suites]
        for suite in named:
            if suite not in self.suites:
                raise ValueError(f"shards: unknown suite {suite}; known: {', '.join(self.suites)}")
        if len(set(named)) < len(named):
            raise ValueError("shards: a suite is in two shards")
        return self

    def suites_by_shard(self) -> dict[str, tuple[str, ...]]:
        """Map each shard to its suites; every suite occurs once."""
        named = {suite for suites in self.shards.values() for suite in suites}
        rest = tuple(suite for suite in self.suites if suite not in named)
        return dict(self.shards) | ({"rest" if self.shards else "all": rest} if rest else {})


class VerlSettings(StrictModel):
    """`settings:` of a protocol whose backend is verl."""

    revision: PositiveInt
    model: ModelSettings
    data: DataSettings
    reward: RewardSettings
    training: TrainingSettings
    early_stops: EarlyStopSettings = EarlyStopSettings()
    limits: LimitSettings
    hardware: HardwareSettings
    evaluation: EvaluationSettings

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        rows = self.data.rows
        if self.training.epochs and rows is None:
            raise ValueError("training.epochs needs data.rows")
        if rows is not None and rows < self.training.prompts:
            raise ValueError(f"data.rows {rows} does not fill one step of training.prompts {self.training.prompts}")
        responses, workers = self.training.minibatch_prompts * self.training.group_size, self.hardware.workers
        if responses % workers:
            raise ValueError(
                f"training: {responses} responses of a minibatch cannot be divided evenly over {workers} devices"
            )
        if self.max_sequence_tokens > self.hardware.micro_batch_tokens:
            raise ValueError(
                f"hardware.micro_batch_tokens {self.hardware.micro_batch_tokens} is too small for one sequence of "
                f"{self.max_sequence_tokens} (data.max_prompt_tokens and training.max_response_tokens)"
            )
        return self

    @property
    def max_sequence_tokens(self) -> int:
        return self.data.max_prompt_tokens + self.training.max_response_tokens

    @property
    def micro_batch_sequences(self) -> int:
        """Sequences on one device in one pass of training: equal parts that fit into `micro_batch_tokens`."""
        share = self.training.minibatch_prompts * self.training.group_size // self.hardware.workers
        room = self.hardware.micro_batch_tokens // self.max_sequence_tokens
        return max(size for size in range(1, min(room, share) + 1) if share % size == 0)

    @property
    def steps(self) -> int:
        """Training steps: verl drops the rows of an epoch that do not fill a batch."""
        training = self.training
        if training.steps is not None:
            return training.steps
        assert training.epochs is not None
        assert self.data.rows is not None
        return training.epochs * (self.data.rows // training.prompts)


def parse_settings(protocol: Protocol, file: str) -> VerlSettings:
    """The validated `settings` of `protocol`, which was read from `file`.

    Raises:
        SettingsError: a setting is wrong; the error names its field.
    """
    if protocol.estimator != ESTIMATOR:
        raise SettingsError(file, 0, "estimator", f"unknown: {protocol.estimator}; known: {ESTIMATOR}")
    try:
        settings = VerlSettings.model_validate(protocol.settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["settings", *(str(part) for part in first["loc"])])
        message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise SettingsError(file, 0, field, message) from error
    for suite in protocol.suites:
        if suite not in settings.evaluation.suites:
            known = ", ".join(settings.evaluation.suites)
            raise SettingsError(file, 0, f"suites.{suite}", f"not described in settings.evaluation.suites: {known}")
    for suite in settings.evaluation.suites:
        if suite not in protocol.suites:
            raise SettingsError(
                file,
                0,
                f"settings.evaluation.suites.{suite}",
                "has no weight; add it to suites, with weight 0 to only watch it",
            )
    return settings


def _require_one(model: StrictModel, *fields: str) -> None:
    if sum(getattr(model, field) is not None for field in fields) != 1:
        raise ValueError(f"give exactly one of {', '.join(fields)}")
