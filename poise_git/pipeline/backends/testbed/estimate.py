"""Estimate the cost of a run of a testbed protocol by arithmetic on its settings."""

from __future__ import annotations

from dataclasses import dataclass

from poise_git.pipeline.backends.testbed.settings import RegimeSettings, parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.estimate import Cost, CostEstimate, Quantity
from poise_git.pipeline.protocol import Protocol

# Seconds to start, to sample a response and to learn from it once, measured with the shipped policy on one core.
START_SECONDS, SAMPLE_SECONDS, LEARN_SECONDS = (0.5, 2.0), (0.08e-3, 0.16e-3), (0.13e-3, 0.25e-3)
MEASURED_PARAMETERS = 2 * (4 * 64 * 64 + 2 * 64 * 256)


def estimate_cost(protocol: Protocol, file: str) -> CostEstimate:
    """Estimate one run of `protocol`, which was read from `file`.

    Raises:
        SettingsError: the protocol is wrong.
    """
    settings = parse_settings(protocol, file)
    regimes = [_Regime.of(regime) for regime in settings.regimes.values()]
    steps = sum(regime.steps for regime in regimes)
    prompts = sum(regime.prompts for regime in regimes)
    rollouts = sum(regime.rollouts for regime in regimes)
    answers = sum(regime.answers for regime in regimes)
    sampled = sum((regime.rollouts + regime.answers) * regime.relative_work for regime in regimes)
    learned = sum(regime.rollouts * regime.epochs * regime.relative_work for regime in regimes)
    low, high = (START_SECONDS[i] + sampled * SAMPLE_SECONDS[i] + learned * LEARN_SECONDS[i] for i in (0, 1))
    return CostEstimate(
        quantities=(
            Quantity("training steps", steps, steps),
            Quantity("prompts", prompts, prompts),
            Quantity("rollouts", rollouts, rollouts),
            Quantity("evaluation responses", answers, answers),
        ),
        costs=(
            Cost(
                "training and evaluation on one CPU core",
                low / 3600,
                high / 3600,
                "core hours",
                f"{SAMPLE_SECONDS[0] * 1e3:g} to {SAMPLE_SECONDS[1] * 1e3:g} ms to sample a response, "
                f"{LEARN_SECONDS[0] * 1e3:g} to {LEARN_SECONDS[1] * 1e3:g} to learn from it, measured",
            ),
        ),
        notes=("the base policies are trained once per machine, before the first run, and cached",),
    )


@dataclass(frozen=True)
class _Regime:
    """The work of one regime; `relative_work` is that of a response, 1 for the policy that was measured."""

    steps: int
    prompts: int
    rollouts: int
    epochs: int
    answers: int
    relative_work: float

    @classmethod
    def of(cls, settings: RegimeSettings) -> _Regime:
        training, evaluation, policy = settings.training, settings.evaluation, settings.policy
        prompts = training.steps * training.prompts
        suites = len(evaluation.suites) or len(build_task(settings, settings.task.worlds[0]).suites)
        points = len(settings.evaluation_steps())
        # Each problem gets a greedy response beside the sampled ones.
        answers = suites * evaluation.problems * (points * (1 + evaluation.samples))
        answers += suites * (evaluation.final_problems or evaluation.problems) * evaluation.final_samples
        # Weights of the layers (attention and feed-forward), without biases.
        parameters = policy.layers * (4 * policy.width * policy.width + 2 * policy.width * policy.feedforward)
        work = parameters / MEASURED_PARAMETERS
        return cls(training.steps, prompts, prompts * training.group_size, training.epochs, answers, work)
