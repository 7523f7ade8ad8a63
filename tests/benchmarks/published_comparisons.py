"""Published comparisons of mechanisms with GRPO on real language models, and what they say together.

python tests/benchmarks/published_comparisons.py [--read source]

prints, for each mechanism and strength of the base model, the number of studies, the median of their mean effects in
percentage points, and how many of them are positive. Several entries of a study count as one. A median over studies has
no interval here: most published effects have no standard error.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).parent / "data" / "published_comparisons.yaml"
BASELINE = "GRPO"

Strength = Literal["weak", "medium", "capable", "unknown"]
Points = Annotated[float, Field(ge=-100.0, le=100.0)]


class Comparison(BaseModel):
    """One published effect: the mechanism minus its baseline, on one metric, in percentage points.

    `base_accuracy` is the accuracy of the base model on the task, in [0, 1]. `se` is the standard error of the effect.
    `read` says whether the figure was read in the source itself or in another author's notes on it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mechanism: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    against: str
    study: str
    model: str = ""
    size_b: Annotated[float, Field(gt=0)] | None = None
    base_strength: Strength
    base_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    off_policyness: Literal["on-policy", "mild", "stale", "unknown"]
    task: str = ""
    metric: str = ""
    effect: Points
    se: Annotated[float, Field(ge=0)] | None = None
    value: float | None = None
    baseline_value: float | None = None
    seeds: Annotated[int, Field(ge=1)] | None = None
    kind: Literal["independent", "baseline-row", "own-paper"]
    source: Annotated[str, Field(min_length=1)]
    where: str = ""
    read: Literal["source", "notes"]
    comment: str = ""

    @property
    def is_against_grpo(self) -> bool:
        """Variants of GRPO that a source names, as with another aggregation of losses, are among them."""
        return self.against.startswith(BASELINE)

    @property
    def is_of_form(self) -> bool:
        """Whether the metric is about the form of responses alone."""
        return self.metric.startswith("format")

    @property
    def attempts(self) -> int:
        """k of pass@k; 1 for the accuracy of single responses, averaged or greedy."""
        found = re.search(r"pass@(\d+)", self.metric)
        return int(found[1]) if found else 1


@cache
def published() -> tuple[Comparison, ...]:
    """Every comparison of the data file. Raises pydantic.ValidationError if an entry is malformed."""
    return tuple(Comparison.model_validate(entry) for entry in yaml.safe_load(FILE.read_text(encoding="utf-8")))


def effects_by_study(comparisons: Iterable[Comparison]) -> dict[tuple[str, Strength], Mapping[str, float]]:
    """(mechanism, strength of the base) -> study -> mean effect against GRPO.

    Authors' own papers are left out, because a paper reports the settings in which its method wins.
    """
    found: dict[tuple[str, Strength], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in comparisons:
        if each.against == BASELINE and each.kind != "own-paper":
            found[each.mechanism, each.base_strength][each.study].append(each.effect)
    return {key: {study: statistics.fmean(own) for study, own in of.items()} for key, of in found.items()}


def table(comparisons: Iterable[Comparison]) -> Iterator[str]:
    yield f"{'mechanism':28} {'base':8} {'studies':>7} {'median':>7} {'positive':>8}"
    for (mechanism, strength), studies in sorted(effects_by_study(comparisons).items()):
        effects = list(studies.values())
        positive = sum(effect > 0 for effect in effects)
        yield f"{mechanism:28} {strength:8} {len(effects):7d} {statistics.median(effects):+7.1f} {positive:8d}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--read", choices=("source", "notes"), help="only figures that were read there")
    given = arguments.parse_args()
    print("\n".join(table(each for each in published() if given.read in (None, each.read))))


if __name__ == "__main__":
    main()
