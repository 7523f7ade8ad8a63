"""Does the testbed's ranking predict published comparisons on language models?

python tests/benchmarks/testbed_resolution.py run --results FILE --protocol PROTOCOL --seeds 2000-2007 --workers 2
python tests/benchmarks/external_validity.py --results FILE --protocol PROTOCOL [--half choice] [--weights weak=0]

The first command trains. The second compares with data/predictions.yaml and data/published_comparisons.yaml, and prints
Markdown: every prediction with the published and the measured effect, and how many of the counted ones agree. A
published effect closer to 0 than half a percentage point is level. A measured one agrees with it if it is level, too,
and with any other if it has the same sign. Several entries of a study count as one, and authors' own papers do not
count. An effect's interval uses its own seeds and the noise that all algorithms show together; the effect is resolved
if 0 is outside. The number of agreements has an interval from resampled studies and seeds. Its rate has one that treats
the mechanisms as a sample (Wilson).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from calibration import KINDS, ROOT
from calibration_runs import Record, read_records
from numpy.typing import NDArray
from published_comparisons import Comparison, Strength, published
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from resolution_statistics import fit_noise
from scipy import stats

from poise_git.measurement.statistics import Noise, estimate, half_width
from poise_git.pipeline.protocol import Protocol, load_protocol

PREDICTIONS = Path(__file__).parent / "data" / "predictions.yaml"
# Half a percentage point: differences below it are seldom resolved on either side.
LEVEL = 0.005
# A figure of at least so many attempts is about diversity, not about accuracy.
MANY = 8
RESAMPLES = 4000


class Direction(StrEnum):
    UP = "up"
    LEVEL = "level"
    DOWN = "down"

    @classmethod
    def of(cls, effect: float) -> Direction:
        """The direction of an effect on a share, in [-1, 1]."""
        return cls.LEVEL if abs(effect) < LEVEL else cls.UP if effect > 0 else cls.DOWN


class Conditions(BaseModel):
    """Which published effects belong to a prediction; an empty list stands for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_strength: tuple[Strength, ...] = ()
    off_policyness: tuple[Literal["on-policy", "mild", "stale", "unknown"], ...] = ()
    attempts: Literal["one", "many"] = "one"

    def hold_for(self, comparison: Comparison) -> bool:
        return (
            (not self.base_strength or comparison.base_strength in self.base_strength)
            and (not self.off_policyness or comparison.off_policyness in self.off_policyness)
            and (comparison.attempts >= MANY) == (self.attempts == "many")
        )


class Prediction(BaseModel):
    """One entry of predictions.yaml; see there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mechanism: str | None = None
    algorithm: Annotated[str, Field(pattern="|".join(map("^{}$".format, KINDS)))]
    half: Literal["choice", "report"]
    counts: bool = False
    regime: str
    figure: str
    expected: Direction
    published: Conditions | None = None
    reason: str


def predictions() -> tuple[Prediction, ...]:
    """Every prediction. Raises pydantic.ValidationError if an entry is malformed."""
    entries = yaml.safe_load(PREDICTIONS.read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Prediction, ...]).validate_python(entries)


def study_effects(mechanism: str, conditions: Conditions, comparisons: Iterable[Comparison]) -> dict[str, float]:
    """Study -> its mean effect against GRPO, a share in [-1, 1]."""
    found: dict[str, list[float]] = {}
    for each in comparisons:
        fits = each.mechanism == mechanism and each.is_against_grpo and each.kind != "own-paper"
        if fits and not each.is_of_form and conditions.hold_for(each):
            found.setdefault(each.study, []).append(each.effect / 100)
    return {study: statistics.fmean(effects) for study, effects in found.items()}


@dataclass(frozen=True)
class Runs:
    """The records of one protocol, with the weights of the regimes in U."""

    records: Mapping[tuple[str, int], Record]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, records: Iterable[Record], protocol: Protocol, weights: Mapping[str, float]) -> Runs:
        total = sum(weights.values())
        kept = {(r.algorithm, r.seed): r for r in records if r.protocol == protocol.hash and r.failure is None}
        return cls(kept, {name: weight / total for name, weight in weights.items()})

    def figure(self, algorithm: str, regime: str, figure: str) -> dict[int, float]:
        own = {seed: record for (name, seed), record in self.records.items() if name == algorithm}
        if regime == "U":
            return {s: sum(w * r.values[name] for name, w in self.weights.items()) for s, r in own.items()}
        if figure == "value":
            return {seed: record.values[regime] for seed, record in own.items()}
        return {seed: record.details[regime][figure] for seed, record in own.items()}

    def noise(self, regime: str, figure: str) -> Noise | None:
        """Of one seed's difference of any algorithm from GRPO."""
        names = {name for name, _ in self.records} - {ROOT}
        apart = (list(self.differences(name, regime, figure).values()) for name in sorted(names))
        return fit_noise(estimate(values) for values in apart if values)

    def differences(self, algorithm: str, regime: str, figure: str) -> dict[int, float]:
        """The difference from GRPO by seed."""
        own, root = self.figure(algorithm, regime, figure), self.figure(ROOT, regime, figure)
        return {seed: own[seed] - root[seed] for seed in sorted(own.keys() & root.keys())}


@dataclass(frozen=True)
class Compared:
    """A prediction, the effects of the studies that it rests on, and the measured differences by seed.

    `noise` is what the other algorithms say of the noise of such a difference.
    """

    prediction: Prediction
    studies: Mapping[str, float]
    measured: Mapping[int, float]
    noise: Noise | None = None

    @property
    def published(self) -> Direction:
        return Direction.of(statistics.median(self.studies.values())) if self.studies else self.prediction.expected

    @property
    def agrees(self) -> bool:
        return bool(_agree(np.array([statistics.fmean(self.measured.values())]), np.array([_sign(self.published)]))[0])

    @property
    def half_width(self) -> float | None:
        """Of the measured effect's 95% interval."""
        return half_width(estimate(list(self.measured.values())), self.noise)

    @property
    def is_resolved(self) -> bool:
        half = self.half_width
        return half is not None and abs(statistics.fmean(self.measured.values())) > half

    def resampled(self, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Whether it agrees, in `RESAMPLES` draws of studies and of seeds."""
        measured = _resampled(list(self.measured.values()), generator).mean(1)
        if not self.studies:
            return _agree(measured, np.array([_sign(self.published)]))
        return _agree(measured, np.median(_resampled(list(self.studies.values()), generator), axis=1))


def _resampled(values: Sequence[float], generator: np.random.Generator) -> NDArray[np.float64]:
    return generator.choice(np.array(values), (RESAMPLES, len(values)))


def _agree(measured: NDArray[np.float64], published: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Elementwise: the same sign, or both level where the published effect is level."""
    same_sign = np.sign(measured) == np.sign(published)
    return np.where(np.abs(published) < LEVEL, np.abs(measured) < LEVEL, same_sign)


def _sign(direction: Direction) -> float:
    return {Direction.UP: 1.0, Direction.LEVEL: 0.0, Direction.DOWN: -1.0}[direction]


def compare(runs: Runs, chosen: Iterable[Prediction], in_utility: bool) -> list[Compared]:
    """Predictions whose algorithms have run: each in its own regime and figure, or all of them in U."""
    comparisons, found = published(), []
    for prediction in chosen:
        conditions = Conditions() if in_utility else prediction.published
        place = ("U", "value") if in_utility else (prediction.regime, prediction.figure)
        measured = runs.differences(prediction.algorithm, *place)
        if measured:
            asked = prediction.mechanism is not None and conditions is not None
            studies = study_effects(prediction.mechanism or "", conditions or Conditions(), comparisons)
            found.append(Compared(prediction, studies if asked else {}, measured, runs.noise(*place)))
    return found


def agreement_text(compared: Sequence[Compared]) -> str:
    """ "9 of 12 agree (resampled 7 to 10; rate .47 to .91; 8 of the effects are resolved)"."""
    if not compared:
        return "none has run"
    generator = np.random.default_rng(0)
    counts = np.sum([each.resampled(generator) for each in compared], axis=0)
    low, high = np.quantile(counts, (0.025, 0.975))
    agreed = sum(each.agrees for each in compared)
    resolved = sum(each.is_resolved for each in compared)
    rate = stats.binomtest(agreed, len(compared)).proportion_ci(method="wilson")
    return (
        f"{agreed} of {len(compared)} agree (resampled {low:.0f} to {high:.0f}; "
        f"rate {rate.low:.2f} to {rate.high:.2f}; {resolved} of the effects are resolved)"
    )


def table(compared: Iterable[Compared], place: str | None = None) -> list[str]:
    lines = [
        "| mechanism | half | regime, figure | published | studies | testbed | agrees |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in compared:
        prediction, where = each.prediction, place or f"{each.prediction.regime}, {each.prediction.figure}"
        effects = list(each.studies.values())
        stated = f"{100 * statistics.median(effects):+.1f}" if effects else prediction.expected.value
        verdict = "yes" if each.agrees else "no"
        lines.append(
            f"| {prediction.algorithm} | {prediction.half} | {where} | {stated} | {len(effects) or '–'} | "
            f"{_effect(each)} | {verdict} |"
        )
    return lines


def _effect(compared: Compared) -> str:
    value, half = statistics.fmean(compared.measured.values()), compared.half_width
    return f"{100 * value:+.1f}" + (f" ± {100 * half:.1f}" if half is not None else "")


def report(runs: Runs, chosen: Sequence[Prediction]) -> str:
    counted = [prediction for prediction in chosen if prediction.counts]
    matched, in_utility = compare(runs, counted, in_utility=False), compare(runs, counted, in_utility=True)
    others = compare(runs, [prediction for prediction in chosen if not prediction.counts], in_utility=False)
    parts = [
        "Effects in percentage points, with 95% intervals over seeds.",
        f"In the matching regime: {agreement_text(matched)}.",
        *table(matched),
        "",
        f"In U: {agreement_text(in_utility)}.",
        *table(in_utility, "U"),
        "",
        f"Further predictions: {agreement_text(others)}.",
        *table(others),
    ]
    return "\n".join(parts)


def _weight(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name, float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--protocol", type=Path, required=True)
    parser.add_argument("--half", choices=("choice", "report"))
    parser.add_argument("--weights", nargs="+", type=_weight, default=[], metavar="REGIME=WEIGHT")
    given = parser.parse_args()
    protocol = load_protocol(given.protocol.read_text(encoding="utf-8"), given.protocol.name)
    runs = Runs.of(read_records(given.results), protocol, {**protocol.suites, **dict(given.weights)})
    print(report(runs, [each for each in predictions() if given.half in (None, each.half)]))


if __name__ == "__main__":
    main()
