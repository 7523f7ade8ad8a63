"""A protocol fixes everything that must be equal in a comparison. Its hash is in every metrics file."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from poise_git.measurement.figures import RESERVED
from poise_git.settings import StrictModel, load_settings
from poise_git.untrusted.display import one_line

HASH_LENGTH = 12
# The offset of the seeds of replications: a multiple of any likely number of worlds.
FURTHER = 10_080
# What a file says about its figures cannot change them.
NOT_HASHED = {"description", "confirmation_seeds", "finalist_learning_rates", "paired_deviation", "predicts"}
PREDICTION_LENGTH = 240


LearningRateFactor = Annotated[float, Field(ge=1e-3, le=1e3)]


class PairedDeviation(StrictModel):
    """The standard deviation of one seed's paired difference in U, and its weight in degrees of freedom.

    The bounds are far from any real value, and keep the squares of statistics finite.
    """

    value: Annotated[float, Field(ge=1e-12, le=1e6)]
    freedom: Annotated[float, Field(gt=0.0, le=1e9)]


class Protocol(StrictModel):
    """One file of `protocols/`.

    Attributes:
        name: the file's name without its ending.
        description: free text; not part of the hash.
        backend: the name of the backend that runs it (`pipeline.backends.BACKENDS`).
        seeds: the seeds with which every candidate is trained; comparisons are paired by seed.
        confirmation_seeds: fresh seeds on which the winner is compared with the root; never used to select.
        finalist_learning_rates: further factors of the learning rate at which the winner and the root are trained,
            before they are compared on fresh seeds, each at its best rate. A mechanism may only shift the best rate.
        suites: evaluation suites and their weights in Overall; the weights need not sum to 1.
        estimator: the figure that represents a run; the backend knows the names.
        paired_deviation: the standard deviation of one seed's difference in U (under the protocol's own weights)
            between two algorithms, from a benchmark of this protocol; not part of the hash. Intervals of differences in
            U combine it with the deviation of the seeds themselves.
        predicts: what a result on this protocol predicts elsewhere, in one line; not part of the hash.
        settings: everything else, validated by the backend.
    """

    name: str
    description: str = ""
    backend: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    confirmation_seeds: tuple[int, ...] = ()
    finalist_learning_rates: tuple[LearningRateFactor, ...] = ()
    suites: Annotated[dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]], Field(min_length=1)]
    estimator: str
    paired_deviation: PairedDeviation | None = None
    predicts: Annotated[str, AfterValidator(one_line), Field(max_length=PREDICTION_LENGTH)] = ""
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _seeds_are_distinct(self) -> Protocol:
        seeds = (*self.seeds, *self.confirmation_seeds)
        if len({1.0, *self.finalist_learning_rates}) <= len(self.finalist_learning_rates):
            raise ValueError("finalist_learning_rates must differ from each other and from 1, which is always tried")
        if len(set(seeds)) < len(seeds):
            raise ValueError("seeds and confirmation_seeds must all be different")
        if not 0 < sum(self.suites.values()) < math.inf:
            raise ValueError("the weights of the suites must sum to a positive, finite number")
        if taken := RESERVED & self.suites.keys():
            raise ValueError(f"suites: {min(taken)} is the name of a computed figure; choose another one")
        return self

    @property
    def hash(self) -> str:
        """The first 12 hex digits of the SHA-256 of everything that can change the figures of a run."""
        data = self.model_dump(mode="json", exclude=NOT_HASHED)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]

    @property
    def confirmation_runs(self) -> int:
        """The most runs that a confirmation takes, of the winner and the root together."""
        fresh = len(self.confirmation_seeds) * (2 if self.finalist_learning_rates else 1)
        return 2 * (fresh + len(self.finalist_learning_rates) * len(self.seeds)) if self.confirmation_seeds else 0

    @property
    def further_seeds(self) -> tuple[int, ...]:
        """The same number of fresh seeds again, on which a promising candidate is replicated."""
        used = {*self.seeds, *self.confirmation_seeds}
        step = FURTHER
        while not used.isdisjoint(seed + step for seed in self.seeds):
            step += FURTHER
        return tuple(seed + step for seed in self.seeds)

    @property
    def suite_weights(self) -> dict[str, float]:
        """The weights of the suites, summing to 1."""
        total = sum(self.suites.values())
        return {suite: weight / total for suite, weight in self.suites.items()}


def load_protocol(text: str, file: str) -> Protocol:
    """Parse a protocol file.

    Raises:
        SettingsError: the file is wrong; the error names line and field.
    """
    return load_settings(text, Protocol, file)
