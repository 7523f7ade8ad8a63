"""Build the evidence table of a reflection from runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from poise_git.analysis.evidence import EFFECT, ClaimVerdict, Difference, Direction, Evidence, Verdict
from poise_git.archive.entries import Claim, Estimate, Run
from poise_git.measurement.figures import UTILITY, by_regime, late, mean_of_means, of_all_regimes
from poise_git.measurement.metrics import Measured, compared
from poise_git.measurement.objective import Objective
from poise_git.measurement.statistics import Noise, beyond_noise
from poise_git.settings import OVERALL


def gather_evidence(
    candidate: str,
    parent: str,
    root: str,
    protocol: str,
    runs: Mapping[str, Sequence[Run]],
    further: Mapping[str, Sequence[Run]],
    objective: Objective,
    claims: Sequence[Claim],
    checked: Sequence[ClaimVerdict],
    noise: Noise | None = None,
) -> Evidence:
    """The table for `candidate`; `runs` holds its own, its parent's and the root's runs under `protocol`.

    `further` holds the runs on further seeds, for candidates that were replicated.

    This function decides claims about effects, against the parent and by 95% intervals. The verdicts on all other
    claims come from `checked`, made before training. `noise` is the prior knowledge of the noise of differences in U.
    """
    measured = {
        name: Measured(objective.figures(rows), objective.figures(further.get(name, ()))) for name, rows in runs.items()
    }
    own = measured[candidate]
    differences = []
    for other in dict.fromkeys((parent, root)):
        for figure in own.own:
            if figure not in measured[other].own or (figure == OVERALL and objective.is_overall):
                continue
            known = noise if figure == UTILITY else None
            value, difference = compared(figure, own, measured[other], known)
            if difference is not None:
                differences.append(Difference(figure, other, value, difference, _direction(difference)))
    seeds = own.every[UTILITY].keys() & measured[parent].every[UTILITY].keys()
    return Evidence(
        candidate=candidate,
        parent=parent,
        root=root,
        protocol=protocol,
        runs=len(seeds),
        differences=tuple(differences),
        claims=(
            *(verdict for verdict in checked if verdict.claim.check != EFFECT),
            *(_effect(claim, parent, differences) for claim in claims if claim.check == EFFECT),
        ),
        warnings=(*_inert(parent, differences), *_warnings(runs[candidate])),
        dynamics=_dynamics(of_all_regimes(runs[candidate])),
        violations=objective.violations(own.every, measured[root].every),
    )


def _direction(difference: Estimate) -> Direction:
    if not beyond_noise(difference):
        return Direction.WITHIN_NOISE
    return Direction.UP if difference.value > 0 else Direction.DOWN


def _effect(claim: Claim, parent: str, differences: Sequence[Difference]) -> ClaimVerdict:
    figure, direction = str(claim.arguments.get("figure", "")), str(claim.arguments.get("direction", ""))
    found = next((entry for entry in differences if entry.figure == figure and entry.against == parent), None)
    if found is None or direction not in (Direction.UP, Direction.DOWN):
        return ClaimVerdict(claim, Verdict.UNDECIDED, f"no measurement of {figure!r} in the direction {direction!r}")
    half = found.difference.interval
    size = f"{figure} {found.difference.value:+.4g}{'' if half is None else f' ± {half:.2g}'} against {parent}"
    if found.direction is Direction.WITHIN_NOISE:
        return ClaimVerdict(claim, Verdict.UNDECIDED, f"{size}: within noise")
    verdict = Verdict.HELD if found.direction == direction else Verdict.REFUTED
    return ClaimVerdict(claim, verdict, size)


def _inert(parent: str, differences: Sequence[Difference]) -> tuple[str, ...]:
    """A warning if the mechanism had no effect.

    Runs share their random numbers, so all figures are then equal to the last digit.
    """
    against = [entry for entry in differences if entry.against == parent]
    if against and all(entry.difference.value == 0 and not entry.difference.se for entry in against):
        return (f"every figure equals {parent}'s: the mechanism had no effect under this protocol",)
    return ()


def _dynamics(recorded: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, tuple[float, float]]:
    """The mean of each series over training and over its last fifth, averaged over runs and regimes."""
    return {name: (mean_of_means(rows), mean_of_means(map(late, rows))) for name, rows in recorded.items()}


def _warnings(runs: Sequence[Run]) -> tuple[str, ...]:
    """Conspicuous dynamics in words, regime by regime."""
    return tuple(
        f"{warning} (regime {regime})" if regime else warning
        for regime, recorded in by_regime(runs).items()
        for warning in _warnings_of(recorded)
    )


def _warnings_of(recorded: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    warnings = []
    dynamics = _dynamics(recorded)
    starts = {name: math.fsum(values[0] for values in rows) / len(rows) for name, rows in recorded.items()}
    if "entropy" in dynamics and starts["entropy"] > 0:
        late = dynamics["entropy"][1]
        if late < 0.1 * starts["entropy"]:
            warnings.append(f"entropy collapsed: {starts['entropy']:.2f} at the start, {late:.3f} at the end")
        if late > 1.5 * starts["entropy"]:
            warnings.append(f"entropy rose: {starts['entropy']:.2f} at the start, {late:.2f} at the end")
    if "valid_rate" in dynamics and dynamics["valid_rate"][1] < 0.5 * starts["valid_rate"]:
        late = dynamics["valid_rate"][1]
        warnings.append(f"validity was lost: {starts['valid_rate']:.0%} at the start, {late:.0%} at the end")
    if "clip_fraction" in dynamics and dynamics["clip_fraction"][0] > 0.3:
        warnings.append(f"{dynamics['clip_fraction'][0]:.0%} of the tokens were clipped")
    if "gradient_norm" in dynamics and dynamics["gradient_norm"][0] < 1e-6:
        warnings.append("the gradient vanished")
    return warnings
