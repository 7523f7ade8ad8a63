"""Tables in Markdown about a protocol, from the runs of the calibration set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from calibration import CATASTROPHIC, CHEATS, KINDS, MILDLY_BAD, NOTHING, ROOT, TWINS, Kind
from calibration_figures import UTILITY, Calibration
from resolution_statistics import (
    Coverage,
    Range,
    balanced_choices,
    balanced_splits,
    closest_half,
    covered,
    differences_from,
    means,
    rank_correlation,
    ranks,
    split_correlation,
    t_value,
    variance_components,
)

from poise_git.archive.entries import Estimate
from poise_git.measurement.statistics import beyond_noise, detectable_difference, estimate, paired_difference

# A mechanism counts as different from GRPO beyond this many standard errors.
APART = 3.0
Row = Sequence[str]


def report(here: Calibration, elsewhere: Mapping[float, Calibration]) -> str:
    """All tables; `elsewhere` holds the same set at other learning rates, by factor."""
    sections = (
        calibration_table(here), ranking(here), null_pairs(here), separation(here), controls(here), honesty(here),
    )  # fmt: skip
    rates = [learning_rate(here, factor, other) for factor, other in elsewhere.items()]
    return "\n\n".join([*sections, *rates, cost(here), resolution(here)])


def calibration_table(here: Calibration) -> str:
    utilities = {name: estimate(list(own.values())) for name, own in here.table(UTILITY).items()}
    apart = {figure: differences_from(here.table(figure), ROOT) for figure in here.figures}
    rows = [
        [
            name,
            KINDS[name].value,
            with_error(utilities[name]),
            *(with_t(apart[figure].get(name)) for figure in here.figures),
            f"{here.cpu_seconds(name):.1f}",
        ]
        for name in sorted(here.algorithms, key=lambda name: -utilities[name].value)
    ]
    header = ["algorithm", "kind", UTILITY, *(f"{figure} − GRPO (t)" for figure in here.figures), "CPU s"]
    seeds = ", ".join(map(str, here.seeds))
    return f"## Calibration\n\nSeeds {seeds}; mean ± standard error, differences paired by seed.\n\n" + grid(
        header, rows
    )


def ranking(here: Calibration) -> str:
    """Goal 1: is the order of the sound algorithms the same on other seeds?"""
    sound, splits = here.of_kind(Kind.SOUND), balanced_splits(here.seeds, here.worlds)
    close = closest_half(means(here.table(UTILITY, sound), here.seeds)) if sound else []
    rows = []
    for figure in here.figures:
        table = here.table(figure, sound)
        parts = None if min(len(sound), len(here.seeds)) < 2 else variance_components(table, here.seeds)
        rows.append(
            [
                figure,
                with_range(split_correlation(table, splits)),
                with_range(split_correlation({name: table[name] for name in close}, splits)),
                *("" if parts is None else f"{parts.reliability(seeds):.2f}" for seeds in (1, 4, 8)),
                "" if parts is None else f"{math.sqrt(parts.algorithms):.4f}",
                "" if parts is None else f"{math.sqrt(parts.residual):.4f}",
            ]
        )
    header = ["figure", "rank correlation", "closest half", *(f"reliability, n = {n}" for n in (1, 4, 8))]
    return (
        f"## Ranking of {len(sound)} sound algorithms\n\nSpearman's correlation between two disjoint sets of "
        f"{here.worlds} seeds, one a world: mean (least to greatest) over {len(splits)} splits. Closest half, in the "
        f"order of U: {', '.join(close)}.\n\n" + grid([*header, "between algorithms", "residual"], rows)
    )


def null_pairs(here: Calibration) -> str:
    """Goal 1: does a 95% interval contain a true difference of 0 in 95% of trials?"""
    choices = balanced_choices(here.seeds, here.worlds)
    pairs = [(name, twin.of) for name, twin in TWINS.items() if {name, twin.of} <= set(here.algorithms)]
    rows, totals = [], []
    for figure in here.figures:
        table, noise = here.table(figure), here.noise(figure)
        own, stated = Coverage(0, 0), Coverage(0, 0)
        for twin, of in pairs:
            differences = {seed: table[twin][seed] - table[of][seed] for seed in here.seeds}
            identical = sum(value == 0.0 for value in differences.values())
            by_own, by_stated = (covered(differences, choices, known) for known in (None, noise))
            own, stated = own + by_own, stated + by_stated
            difference = with_t(paired_difference(table[twin], table[of]))
            rows.append([f"{twin} − {of}", figure, difference, f"{identical}", _share(by_own), _share(by_stated)])
        totals.append(["together", figure, "", "", _share(own), _share(stated)])
    header = ["pair", "figure", "difference (t)", "identical runs", "own interval", "stated interval"]
    return (
        f"## Null pairs\n\nTrials in which the 95% interval of the difference holds 0, by the trial's seeds alone "
        f"and with the noise that the other algorithms tell of (“stated”, as in an archive); a trial is one of the "
        f"{len(choices)} choices of {here.worlds} seeds, one a world. The trials share seeds: they are worth no more "
        f"than {len(here.seeds) // here.worlds} independent ones a pair.\n\n" + grid(header, rows + totals)
    )


def separation(here: Calibration) -> str:
    """Goal 2: which mechanisms does a regime distinguish from GRPO?"""
    rows = []
    for regime in here.weights:
        figures = [("value", here.table(regime))]
        if regime == "length":
            figures.append(("mean_length", here.final(regime, "mean_length")))
        for label, table in figures:
            apart = differences_from({name: table[name] for name in here.of_kind(Kind.SOUND)}, ROOT)
            beyond = [item for item in apart.items() if abs(t_value(item[1])) > APART]
            beyond.sort(key=lambda item: -abs(t_value(item[1])))
            above = [f"{name} {with_t(one)}" for name, one in beyond if one.value > 0]
            below = [f"{name} {with_t(one)}" for name, one in beyond if one.value < 0]
            rows.append([regime, label, "; ".join(above) or "none", "; ".join(below) or "none"])
    return f"## Sound mechanisms beyond {APART:g} standard errors of GRPO\n\n" + grid(
        ["regime", "figure", "above", "below"], rows
    )


def controls(here: Calibration) -> str:
    """Goal 3: do the controls rank as expected, and how would training-rollout correctness rank them?"""
    ranked = here.of_kind(Kind.SOUND, Kind.MILDLY_BAD, Kind.CATASTROPHIC)
    utilities = means(here.table(UTILITY, ranked), here.seeds)
    trained_on = means(here.training_correctness(ranked), here.seeds)
    by_utility, by_training = ranks(utilities), ranks(trained_on)
    third = 2 * len(ranked) / 3
    order = sorted(ranked, key=lambda name: -utilities[name])
    rows = [
        [
            name,
            KINDS[name].value,
            f"{by_utility[name]}",
            f"{by_training[name]}",
            f"{by_utility[name] - by_training[name]:+d}",
            f"{trained_on[name]:.4f}",
            _is_in_bottom_third(by_utility[name], third) if name in (*MILDLY_BAD, *CATASTROPHIC) else "",
        ]
        for name in order
    ]
    header = ["algorithm", "kind", "rank by U", "by training", "flattered by", "trained on, correct", "bottom third"]
    lines = [f"- {line}" for line in _no_baseline_against_leave_one_out(here)]
    correlation = rank_correlation(utilities, trained_on)
    return (
        f"## Controls among {len(ranked)} algorithms\n\n“By training” ranks by the correctness of the training "
        f"rollouts, which flatters an algorithm by as many places as it stands higher there; "
        f"the rank correlation of the two is {correlation:.2f}.\n\n" + "\n".join([grid(header, rows), "", *lines])
    )


def honesty(here: Calibration) -> str:
    """Do algorithms without effect gain nothing, random advantages lose, and cheats gain nothing?"""
    apart = differences_from(here.table(UTILITY), ROOT)
    rows = []
    for name in (*NOTHING, *CHEATS, "random-advantages"):
        difference = apart.get(name)
        if difference is None:
            verdict = "failed, as it may" if name in CHEATS else "no runs"
        elif name in (*NOTHING, *CHEATS):
            level = difference.value == 0 or not beyond_noise(difference)
            verdict = "level with GRPO" if level else "**not level**"
        else:
            below = difference.value < 0 and beyond_noise(difference)
            verdict = "below GRPO" if below else "**not below**"
        rows.append([name, KINDS[name].value, with_t(difference), verdict])
    return "## Honesty\n\n" + grid(["algorithm", "kind", f"{UTILITY} − GRPO (t)", "verdict"], rows)


def learning_rate(here: Calibration, factor: float, other: Calibration) -> str:
    """Goal 3: does the order hold at another learning rate?"""
    ranked = here.of_kind(Kind.SOUND, Kind.MILDLY_BAD, Kind.CATASTROPHIC)
    both = [name for name in ranked if name in other.algorithms]
    seeds = [seed for seed in here.seeds if seed in other.seeds]
    if len(both) < 2 or not seeds:
        return f"## Learning rate × {factor:g}\n\nToo few runs."
    left, right = (means(side.table(UTILITY, both), seeds) for side in (here, other))
    trained_on = ranks(means(other.training_correctness(both), seeds))
    of_left, of_right = ranks(left), ranks(right)
    apart = differences_from(other.table(UTILITY, both), ROOT)
    rows = [
        [
            name,
            KINDS[name].value,
            *(f"{of[name]:.4f}" for of in (left, right)),
            *(f"{of[name]}" for of in (of_left, of_right, trained_on)),
            with_t(apart.get(name)),
        ]
        for name in sorted(both, key=lambda name: of_left[name])
    ]
    sound = [name for name in both if KINDS[name] is Kind.SOUND]
    of_all = rank_correlation(left, right)
    of_sound = rank_correlation(*({name: side[name] for name in sound} for side in (left, right)))
    at = f"× {factor:g}"
    header = ["algorithm", "kind", UTILITY, f"U {at}", "rank", f"rank {at}", f"by training {at}", f"U − GRPO (t) {at}"]
    lines = [f"- At {at}: {line}" for line in _no_baseline_against_leave_one_out(other)]
    return (
        f"## Learning rate {at}\n\nOn {len(seeds)} seeds that both have. Rank correlation of U: {of_all:.2f} over "
        f"{len(both)} algorithms, {of_sound:.2f} over the {len(sound)} sound ones.\n\n"
        + "\n".join([grid(header, rows), "", *lines])
    )


def cost(here: Calibration) -> str:
    """Goal 4: CPU seconds of one run, over every algorithm's runs, and of a run in every world."""
    rows = []
    for label, times in (("one seed", 1), (f"{here.worlds} seeds", here.worlds)):
        for name, chosen in (("GRPO", [ROOT]), ("all algorithms", here.algorithms), ("dearest", [_dearest(here)])):
            runs = [run for algorithm in chosen for run in here.runs_of(algorithm)]
            training = times * math.fsum(run.training_seconds for run in runs) / len(runs)
            evaluation = times * math.fsum(run.evaluation_seconds for run in runs) / len(runs)
            who = f"{name} ({_dearest(here)})" if name == "dearest" else name
            rows.append([label, who, f"{training:.1f}", f"{evaluation:.1f}", f"{training + evaluation:.1f}"])
    return "## CPU seconds\n\n" + grid(["profile", "of", "training", "evaluation", "together"], rows)


def resolution(here: Calibration) -> str:
    """The minimal detectable difference, by number of seeds."""
    rows = []
    for figure in here.figures:
        noise = here.noise(figure)
        if noise is not None:
            found = (detectable_difference(noise.deviation, seeds, noise) for seeds in (1, 2, 4, 8, 16))
            least = ["" if difference is None else f"{difference:.4f}" for difference in found]
            of_root = estimate(list(here.table(figure)[ROOT].values())).value
            rows.append([figure, f"{of_root:.4f}", f"{noise.deviation:.4f}", f"{noise.freedom:.0f}", *least])
    header = ["figure", "GRPO", "deviation", "freedom", *(f"n = {n}" for n in (1, 2, 4, 8, 16))]
    return (
        "## Resolution\n\nThe true difference from GRPO that n paired seeds find with 80% power (two-sided, 5%), from "
        "the deviation of one seed's difference, as the sound algorithms tell of it.\n\n" + grid(header, rows)
    )


def with_error(of: Estimate) -> str:
    return f"{of.value:.4f}" if of.se is None else f"{of.value:.4f} ± {of.se:.4f}"


def with_t(difference: Estimate | None) -> str:
    if difference is None:
        return ""
    if not difference.se:
        return f"{difference.value:+.4f}"
    return f"{difference.value:+.4f} ± {difference.se:.4f} ({t_value(difference):+.1f})"


def with_range(of: Range | None) -> str:
    return "" if of is None or math.isnan(of.mean) else f"{of.mean:.2f} ({of.low:.2f} to {of.high:.2f})"


def grid(header: Row, rows: Iterable[Row]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def _share(coverage: Coverage) -> str:
    return f"{coverage.share:.2f} of {coverage.trials}" if coverage.trials else ""


def _is_in_bottom_third(rank: int, third: float) -> str:
    return "yes" if rank > third else "no"


def _no_baseline_against_leave_one_out(here: Calibration) -> list[str]:
    lower, upper = "no-baseline", "leave-one-out"
    if not {lower, upper} <= set(here.algorithms):
        return []
    lines = []
    for label, table in (
        *((figure, here.table(figure)) for figure in here.figures),
        ("training", here.training_correctness()),
    ):
        lines.append(f"{lower} − {upper}, {label}: {with_t(paired_difference(table[lower], table[upper]))}")
    return lines


def _dearest(here: Calibration) -> str:
    return max(here.algorithms, key=here.cpu_seconds)
