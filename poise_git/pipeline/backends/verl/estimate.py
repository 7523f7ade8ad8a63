"""Estimate the cost of a run of a verl protocol from its settings, without loading or running anything."""

from __future__ import annotations

import re
from dataclasses import dataclass

from poise_git.pipeline.backends.verl.settings import ModelSettings, TinyModelSettings, VerlSettings, parse_settings
from poise_git.pipeline.estimate import Cost, CostEstimate, Quantity
from poise_git.pipeline.protocol import Protocol

# Floating-point operations a token and parameter (arXiv:2001.08361, section 2.1): forward 2, backward 4.
FORWARD, FORWARD_AND_BACKWARD = 2.0, 6.0
# Responses and prompts seldom fill their limits. These are the smallest shares that are assumed.
SHORTEST_RESPONSE, SHORTEST_PROMPT = 0.2, 0.1
# The low and high share of the peak that is reached in training, and in sampling hundreds of sequences at once.
TRAINING_USE, SAMPLING_USE = (0.2, 0.45), (0.04, 0.12)
# Byte-level vocabulary with three special tokens.
_TINY_VOCABULARY = 259


@dataclass(frozen=True)
class Hardware:
    """`peak` operations per second of one device; seconds (low, high) of a `start` and of a `step` besides its work."""

    name: str
    peak: float
    start: tuple[float, float]
    step: tuple[float, float]


# Dense bfloat16 peaks are from NVIDIA's data sheets. The CPU's are measured: a start took 80 to 100 s, a step 2.6 s.
A100 = Hardware("A100", 312e12, (120.0, 300.0), (5.0, 20.0))
H100 = Hardware("H100 or H200", 989e12, (120.0, 300.0), (5.0, 20.0))
CPU = Hardware("CPU core", 30e9, (80.0, 150.0), (2.0, 5.0))


@dataclass(frozen=True)
class Range:
    low: float
    high: float

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)

    def plus(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)


def estimate_cost(protocol: Protocol, file: str) -> CostEstimate:
    """Estimate one run of `protocol`, which was read from `file`.

    Raises:
        SettingsError: the protocol is wrong.
    """
    settings = parse_settings(protocol, file)
    training, prompts = settings.training, settings.steps * settings.training.prompts
    rollouts = prompts * training.group_size
    prompt = Range(SHORTEST_PROMPT, 1.0).times(settings.data.max_prompt_tokens)
    response = Range(SHORTEST_RESPONSE, 1.0).times(training.max_response_tokens)
    sampled, trained = response.times(rollouts), prompt.plus(response).times(rollouts)
    evaluated, answers = _evaluation(settings)
    counted = [
        Quantity("training steps", settings.steps, settings.steps),
        Quantity("prompts", prompts, prompts),
        Quantity("rollouts", rollouts, rollouts),
        Quantity("sampled tokens", sampled.low, sampled.high, "tokens"),
        Quantity("trained tokens, prompts included", trained.low, trained.high, "tokens"),
        Quantity("evaluation responses", answers, answers),
        Quantity("evaluation tokens", evaluated.low, evaluated.high, "tokens"),
    ]
    parameters = model_parameters(settings.model)
    if parameters is None:
        note = "no operations or hours: the size of the model is not known from its name (for example Qwen2.5-0.5B)"
        return CostEstimate(tuple(counted), (), (note, _LENGTHS))
    # The trainer recomputes the log-probabilities of the samples before it trains on them.
    learning = trained.times(parameters * (FORWARD + FORWARD_AND_BACKWARD))
    generating, evaluating = sampled.times(parameters * FORWARD), evaluated.times(parameters * FORWARD)
    counted += [
        Quantity("parameters", parameters, parameters),
        *(
            Quantity(name, range_.low, range_.high, "FLOP")
            for name, range_ in (("sampling", generating), ("training", learning), ("evaluation", evaluating))
        ),
    ]
    kinds = (A100, H100) if settings.hardware.device == "cuda" else (CPU,)
    costs = tuple(cost for kind in kinds for cost in _costs(settings, kind, generating, learning, evaluating))
    return CostEstimate(tuple(counted), costs, (_FORMULA, _LENGTHS))


_FORMULA = (
    "FLOP: 2 per parameter and token for a forward pass, 6 for training (arXiv:2001.08361, section 2.1), "
    "attention not counted"
)
_LENGTHS = (
    f"low: responses of {SHORTEST_RESPONSE:.0%} and prompts of {SHORTEST_PROMPT:.0%} of their limits; high: all at the "
    f"limit"
)


def model_parameters(model: ModelSettings) -> float | None:
    """The number from a tiny model's settings or from a model's name (Qwen2.5-Math-1.5B); None if unknown."""
    if model.generator is not None:
        return _tiny_parameters(model.generator)
    name = model.hub.repository if model.hub is not None else str(model.path)
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])", name, flags=re.IGNORECASE)
    return None if found is None else float(found[1]) * {"B": 1e9, "M": 1e6}[found[2].upper()]


def _tiny_parameters(model: TinyModelSettings) -> float:
    """Qwen2 without shared embeddings: attention with biases for q, k, v; a gated feed-forward; two norms a layer."""
    width, inner = model.width, model.feedforward
    layer = 4 * width * width + 3 * width + 3 * width * inner + 2 * width
    return float(model.layers * layer + 2 * _TINY_VOCABULARY * width + width)


def _evaluation(settings: VerlSettings) -> tuple[Range, int]:
    """The tokens and the number of all responses of the evaluation."""
    evaluation, tokens, answers = settings.evaluation, Range(0.0, 0.0), 0
    for suite in evaluation.suites.values():
        responses = suite.problems * suite.samples
        longest = suite.max_tokens or evaluation.max_tokens
        tokens = tokens.plus(Range(SHORTEST_RESPONSE, 1.0).times(responses * longest))
        answers += responses
    return tokens, answers


def _costs(
    settings: VerlSettings, kind: Hardware, generating: Range, learning: Range, evaluating: Range
) -> tuple[Cost, Cost]:
    hardware, shards = settings.hardware, len(settings.evaluation.suites_by_shard())
    devices, evaluators = (hardware.gpus, hardware.evaluation_gpus) if hardware.gpus else (hardware.cpus, hardware.cpus)
    unit = "GPU hours" if hardware.device == "cuda" else "core hours"
    # Starts and overheads also occupy all devices of the run.
    waiting = Range(*kind.start).plus(Range(*kind.step).times(settings.steps)).times(devices)
    training = _seconds(generating, kind, SAMPLING_USE).plus(_seconds(learning, kind, TRAINING_USE)).plus(waiting)
    starts = Range(*kind.start).times(shards * evaluators)
    evaluation = _seconds(evaluating, kind, SAMPLING_USE).plus(starts)
    speed = f"{kind.peak / 1e12:g} TFLOP/s"
    sampling_use = f"{SAMPLING_USE[0]:.0%} to {SAMPLING_USE[1]:.0%} of {speed} in sampling"
    training_use = f"{TRAINING_USE[0]:.0%} to {TRAINING_USE[1]:.0%} in training"
    return (
        _cost(f"training on {kind.name}", training, unit, f"{sampling_use}, {training_use}"),
        _cost(f"evaluation on {kind.name}", evaluation, unit, sampling_use),
    )


def _cost(hardware: str, seconds: Range, unit: str, assumption: str) -> Cost:
    return Cost(hardware, seconds.low / 3600, seconds.high / 3600, unit, assumption)


def _seconds(operations: Range, kind: Hardware, use: tuple[float, float]) -> Range:
    """Device seconds: the low count of operations at the high share of the peak, the high count at the low share."""
    return Range(operations.low / (kind.peak * use[1]), operations.high / (kind.peak * use[0]))
