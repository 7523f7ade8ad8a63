"""An independent copy of every card's formula: plain Python over lists, one response or token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

EPSILON = 1e-6
WEIGHT_OF_FORMAT = 0.4


@dataclass(frozen=True)
class Response:
    score: float
    length: int
    group: int

    @property
    def valid(self) -> float:
        return float(self.score > 0)

    @property
    def correct(self) -> float:
        return float(self.score == 1)


Group = Sequence[Response]
Advantages = list[float]
# (group, its GRPO advantages, all groups) -> the group's advantages
Formula = Callable[[Group, Sequence[Group]], Advantages]


def scores(group: Group) -> list[float]:
    return [response.score for response in group]


def deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def rate(group: Group) -> float:
    return fmean(response.correct for response in group)


def normalised(values: Sequence[float], alone: float = 1.0) -> list[float]:
    """GRPO of any signal; a group of one keeps its signal, divided by `alone`."""
    if len(values) == 1:
        return [values[0] / (alone + EPSILON)]
    return [(value - fmean(values)) / (deviation(values) + EPSILON) for value in values]


def centred(values: Sequence[float]) -> list[float]:
    return list(values) if len(values) == 1 else [value - fmean(values) for value in values]


def grpo(group: Group, batch: Sequence[Group]) -> Advantages:
    return normalised(scores(group))


def no_std(group: Group, batch: Sequence[Group]) -> Advantages:
    return centred(scores(group))


def leave_one_out(group: Group, batch: Sequence[Group]) -> Advantages:
    found = []
    for i, response in enumerate(group):
        others = [other.score for j, other in enumerate(group) if j != i]
        found.append(response.score - (fmean(others) if others else 0.0))
    return found


def batch_std(group: Group, batch: Sequence[Group]) -> Advantages:
    spread = deviation([response.score for each in batch for response in each])
    return [value / (spread + EPSILON) for value in centred(scores(group))]


def bernoulli(successes: float, trials: float) -> float:
    smoothed = (successes + 0.5) / (trials + 1.0)
    return math.sqrt(smoothed * (1 - smoothed))


def analytic_variance(group: Group, batch: Sequence[Group]) -> Advantages:
    correct = [response.correct for response in group]
    valid = [response.valid for response in group]
    spread = bernoulli(sum(correct), len(group))
    return [a / spread + WEIGHT_OF_FORMAT * (f - fmean(valid)) for a, f in zip(centred(correct), valid, strict=True)]


def hierarchy(group: Group, of_valid: Callable[[float], float]) -> Advantages:
    valid = [max(-5.0, min(5.0, of_valid(response.score))) for response in group if response.valid]
    if not valid:
        return [0.0] * len(group)
    below = -(1.0 + max(0.0, -min(valid)))
    remaining = iter(valid)
    return [next(remaining) if response.valid else below for response in group]


def validity_masking(group: Group, batch: Sequence[Group]) -> Advantages:
    valid = [response.score for response in group if response.valid]
    spread = (deviation(valid) if len(valid) > 1 else 1.0) + EPSILON
    return hierarchy(group, lambda score: (score - fmean(valid)) / spread)


def validity_masking_centred(group: Group, batch: Sequence[Group]) -> Advantages:
    found = validity_masking(group, batch)
    return [value - fmean(found) for value in found]


def validity_masked_analytic_variance(group: Group, batch: Sequence[Group]) -> Advantages:
    correct = [response.correct for response in group if response.valid]
    spread = bernoulli(sum(correct), len(correct))
    return hierarchy(group, lambda score: (float(score == 1) - fmean(correct)) / spread)


def difficulty_weighting(group: Group, batch: Sequence[Group]) -> Advantages:
    return [(1 - rate(group)) * value for value in grpo(group, batch)]


def sign_asymmetry(group: Group, batch: Sequence[Group]) -> Advantages:
    return [0.1 * value if value > 0 else value for value in grpo(group, batch)]


def all_fail_penalty(group: Group, batch: Sequence[Group]) -> Advantages:
    return grpo(group, batch) if rate(group) > 0 else [-0.5] * len(group)


def lengths_of_correct(group: Group) -> list[int]:
    return [response.length for response in group if response.correct]


def length_gate(group: Group, batch: Sequence[Group]) -> Advantages:
    lengths = lengths_of_correct(group)
    gate = min(max((rate(group) - 0.5) / 0.5, 0.0), 1.0)
    found = []
    for response, value in zip(group, grpo(group, batch), strict=True):
        if response.correct:
            efficiency = (fmean(lengths) - response.length) / (deviation(lengths) + EPSILON)
            value += 0.3 * gate * min(max(efficiency, -1.0), 1.0)
        found.append(value)
    return found


def difficulty_scaled_length(group: Group, batch: Sequence[Group]) -> Advantages:
    lengths = lengths_of_correct(group)

    def share(length: int) -> float:
        return 1 / (1 + math.exp(-(length - fmean(lengths)) / (deviation(lengths) + EPSILON)))

    found = []
    for response, value in zip(group, grpo(group, batch), strict=True):
        if response.correct:
            value += 0.2 * rate(group) * (fmean(map(share, lengths)) - share(response.length))
        found.append(value)
    return found


def gated_length_cost(group: Group, batch: Sequence[Group]) -> Advantages:
    lengths = lengths_of_correct(group)
    signal = []
    for response in group:
        cost = 0.0
        if response.correct and rate(group) >= 0.5 and max(lengths) > min(lengths):
            cost = 0.2 * (response.length - min(lengths)) / (max(lengths) - min(lengths))
        signal.append(response.score - cost)
    return normalised(signal)


def length_bonus(group: Group, batch: Sequence[Group]) -> Advantages:
    usual = fmean(response.length for response in group)
    return normalised([response.score + 0.2 * (usual - response.length) / usual for response in group])


def pass_at_k(group: Group, batch: Sequence[Group]) -> Advantages:
    size, right = len(group), int(sum(response.correct for response in group))
    k = min(4, size)
    pass_rate = 1 - math.comb(size - right, k) / math.comb(size, k)
    spread = math.sqrt(pass_rate * (1 - pass_rate)) + EPSILON
    wrong = 0.0 if right == size else 1 - math.comb(size - right - 1, k - 1) / math.comb(size - 1, k - 1)
    base = pass_rate if size > 1 else 0.0
    return [((1.0 if response.correct else wrong) - base) / spread for response in group]


def virtual_maximum(group: Group, batch: Sequence[Group]) -> Advantages:
    extended = [*scores(group), 1.0]
    return [(score - fmean(extended)) / (stdev(extended) + EPSILON) for score in scores(group)]


def scale_floor(group: Group, batch: Sequence[Group]) -> Advantages:
    spread = deviation(scores(group)) if len(group) > 1 else 1.0
    return [value / (max(spread, 0.25) + EPSILON) for value in centred(scores(group))]


def length_weighted_baseline(group: Group, batch: Sequence[Group]) -> Advantages:
    weighted = sum(response.length * response.score for response in group) / sum(r.length for r in group)
    return [response.score - weighted for response in group]


def decoupled_streams(group: Group, batch: Sequence[Group]) -> Advantages:
    valid = [response.valid for response in group]
    spread = deviation(valid) + EPSILON
    correct = normalised([response.correct for response in group])
    return [a + WEIGHT_OF_FORMAT * (f - fmean(valid)) / spread for a, f in zip(correct, valid, strict=True)]


def batch_variance(batch: Sequence[Group]) -> float:
    return fmean((response.score - fmean(scores(group))) ** 2 for group in batch for response in group)


def multi_scale(group: Group, batch: Sequence[Group]) -> Advantages:
    own = deviation(scores(group)) if len(group) > 1 else 1.0
    whole = math.sqrt(batch_variance(batch))
    return [0.5 * value / (own + EPSILON) + 0.5 * value / (whole + EPSILON) for value in centred(scores(group))]


def variance_shrinkage(group: Group, batch: Sequence[Group]) -> Advantages:
    own = deviation(scores(group)) ** 2 if len(group) > 1 else 1.0
    variance = (len(group) * own + 4.0 * batch_variance(batch)) / (len(group) + 4.0)
    return [value / (math.sqrt(variance) + EPSILON) for value in centred(scores(group))]


def length_normalised_advantage(group: Group, batch: Sequence[Group]) -> Advantages:
    usual = fmean(response.length for response in group)
    return [
        value * min(max(math.sqrt(usual / response.length), 0.5), 2.0)
        for response, value in zip(group, grpo(group, batch), strict=True)
    ]


def advantage_clip(group: Group, batch: Sequence[Group]) -> Advantages:
    return [min(max(value, -1.5), 1.5) for value in grpo(group, batch)]


def positive_only(group: Group, batch: Sequence[Group]) -> Advantages:
    return [max(value, 0.0) for value in grpo(group, batch)]


def batch_whitening(group: Group, batch: Sequence[Group]) -> Advantages:
    everybody = [value for each in batch for value in centred(scores(each))]
    mean = fmean(everybody)
    spread = math.sqrt(fmean((value - mean) ** 2 for value in everybody)) + EPSILON
    return [(value - mean) / spread for value in centred(scores(group))]


def active_group_scaling(group: Group, batch: Sequence[Group]) -> Advantages:
    responses = sum(len(each) for each in batch)
    active = sum(len(each) for each in batch if len(set(scores(each))) > 1)
    factor = responses / active if len(set(scores(group))) > 1 else 1.0
    return [value * factor for value in grpo(group, batch)]


def pass_at_k_credit(group: Group, batch: Sequence[Group]) -> Advantages:
    size, right = len(group), int(sum(response.correct for response in group))
    k = min(4, size)
    credit = k / size * math.comb(size - right, k - 1) / math.comb(size - 1, k - 1)
    return [credit if response.correct else 0.0 for response in group]


def best_of_group(group: Group, batch: Sequence[Group]) -> Advantages:
    if len(group) == 1:
        return [0.0]
    best, second = sorted(scores(group), reverse=True)[:2]
    return [best - second if response.score == best else 0.0 for response in group]


def quantile_baseline(group: Group, batch: Sequence[Group]) -> Advantages:
    if len(group) == 1:
        return grpo(group, batch)
    quantile = sorted(scores(group))[math.ceil(0.4 * len(group) - EPSILON) - 1]
    return [(score - quantile) / (deviation(scores(group)) + EPSILON) for score in scores(group)]


def adaptive_length_penalty(group: Group, batch: Sequence[Group]) -> Advantages:
    usual, ease = fmean(response.length for response in group), max(rate(group), 1 / len(group))
    return normalised([response.score - 0.1 * ease * response.length / usual for response in group])


def length_range_reward(group: Group, batch: Sequence[Group]) -> Advantages:
    shortest, longest = (extreme(response.length for response in group) for extreme in (min, max))
    signal = []
    for response in group:
        place = 0.0 if longest == shortest else 0.5 - (response.length - shortest) / (longest - shortest)
        signal.append(response.score + 0.2 * (place if response.correct else min(0.0, place)))
    return normalised(signal)


def length_discount(group: Group, batch: Sequence[Group]) -> Advantages:
    lengths, signal = lengths_of_correct(group), []
    for response in group:
        discount = 0.0
        if response.correct:
            discount = 1 / (1 + math.exp(-(response.length - fmean(lengths)) / (deviation(lengths) + EPSILON)))
        signal.append(response.score - 0.2 * discount)
    return normalised(signal)


def difficulty_rescaled_length(group: Group, batch: Sequence[Group]) -> Advantages:
    longest = max(response.length for response in group)
    return normalised(
        [response.score + 0.2 * rate(group) * response.correct * (1 - response.length / longest) for response in group]
    )


def rank_length(group: Group, batch: Sequence[Group]) -> Advantages:
    lengths = sorted(lengths_of_correct(group))
    found = []
    for response, value in zip(group, grpo(group, batch), strict=True):
        if response.correct and len(lengths) > 1:
            rank = fmean(place for place, length in enumerate(lengths) if length == response.length)
            value += 0.2 * rate(group) ** 2 * (0.5 - rank / (len(lengths) - 1))
        found.append(value)
    return found


def batch_anchor(group: Group, batch: Sequence[Group]) -> Advantages:
    anchor = fmean(score for each in batch for score in scores(each))
    extended = [*scores(group), anchor]
    return [(score - fmean(extended)) / (stdev(extended) + 1e-3) for score in scores(group)]


def dual_anchors(group: Group, batch: Sequence[Group]) -> Advantages:
    return [(score - fmean([*scores(group), 0.0, 1.0])) / 0.5 for score in scores(group)]


def standardised(values: Sequence[float]) -> list[float]:
    return [(value - fmean(values)) / (deviation(values) + EPSILON) for value in values]


def regime_routing(group: Group, batch: Sequence[Group]) -> Advantages:
    correct = normalised([response.correct for response in group])
    if rate(group) == 1:
        lengths = standardised([response.length for response in group])
        return [a - 0.2 * z for a, z in zip(correct, lengths, strict=True)]
    valid = standardised([response.valid for response in group])
    return [a + 0.4 * f for a, f in zip(correct, valid, strict=True)]


def conditional_streams(group: Group, batch: Sequence[Group]) -> Advantages:
    lengths, found = lengths_of_correct(group), []
    valid = standardised([response.valid for response in group])
    for response, a, f in zip(group, normalised([each.correct for each in group]), valid, strict=True):
        streams = [0.4 * f]
        if response.correct:
            streams.append(0.2 * (fmean(lengths) - response.length) / (deviation(lengths) + EPSILON))
        limit = 0.4 * abs(a) if 0 < rate(group) < 1 else math.inf
        found.append(a + sum(min(max(stream, -limit), limit) for stream in streams))
    return found


def negative_only(group: Group, batch: Sequence[Group]) -> Advantages:
    return [min(value, 0.0) for value in grpo(group, batch)]


ADVANTAGES: dict[str, Formula] = {
    "no-std": no_std,
    "leave-one-out": leave_one_out,
    "batch-std": batch_std,
    "analytic-variance": analytic_variance,
    "validity-masking": validity_masking,
    "validity-masking-centred": validity_masking_centred,
    "validity-masked-analytic-variance": validity_masked_analytic_variance,
    "difficulty-weighting": difficulty_weighting,
    "sign-asymmetry": sign_asymmetry,
    "all-fail-penalty": all_fail_penalty,
    "length-gate": length_gate,
    "difficulty-scaled-length": difficulty_scaled_length,
    "gated-length-cost": gated_length_cost,
    "length-bonus": length_bonus,
    "pass-at-k": pass_at_k,
    "virtual-maximum": virtual_maximum,
    "scale-floor": scale_floor,
    "length-weighted-baseline": length_weighted_baseline,
    "decoupled-streams": decoupled_streams,
    "multi-scale": multi_scale,
    "variance-shrinkage": variance_shrinkage,
    "length-normalised-advantage": length_normalised_advantage,
    "advantage-clip": advantage_clip,
    "positive-only": positive_only,
    "batch-whitening": batch_whitening,
    "active-group-scaling": active_group_scaling,
    "pass-at-k-credit": pass_at_k_credit,
    "best-of-group": best_of_group,
    "quantile-baseline": quantile_baseline,
    "adaptive-length-penalty": adaptive_length_penalty,
    "length-range-reward": length_range_reward,
    "length-discount": length_discount,
    "difficulty-rescaled-length": difficulty_rescaled_length,
    "rank-length": rank_length,
    "batch-anchor": batch_anchor,
    "dual-anchors": dual_anchors,
    "regime-routing": regime_routing,
    "conditional-streams": conditional_streams,
    "negative-only": negative_only,
}


# Loss: for one response with advantage A, per token, d(maximized objective)/d(log π), before aggregation.
# Arguments: A, old log-probabilities, new ones.
Gradient = Callable[[float, Sequence[float], Sequence[float]], list[float]]


def ratios(old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [math.exp(n - o) for o, n in zip(old, new, strict=True)]


def clipped_gradient(advantage: float, ratio: float, low: float = 0.2, high: float = 0.2) -> float:
    """PPO with the dual clip at 3."""
    if advantage > 0:
        return advantage * ratio if ratio <= 1 + high else 0.0
    return advantage * ratio if 1 - low <= ratio <= 3.0 else 0.0


def ppo(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [clipped_gradient(advantage, ratio) for ratio in ratios(old, new)]


def clip_higher(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [clipped_gradient(advantage, ratio, high=0.28) for ratio in ratios(old, new)]


def sequence_ratio(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    shared = math.exp(fmean(n - o for o, n in zip(old, new, strict=True)))
    return [clipped_gradient(advantage, shared, 0.03, 0.04)] * len(old)


def geometric_mean_ratio(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    logs = [n - o for o, n in zip(old, new, strict=True)]
    bounded = [min(x, 0.4) if advantage > 0 else max(x, -0.4) for x in logs]
    mean = math.exp(fmean(bounded))
    # Each of the T tokens holds 1/T of the mean, so the sum over the response is the mean.
    return [advantage * mean if x == b else 0.0 for x, b in zip(logs, bounded, strict=True)]


def soft_gate(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    tau = 1.0 if advantage > 0 else 1.05
    gates = [1 / (1 + math.exp(-tau * (ratio - 1))) for ratio in ratios(old, new)]
    return [advantage * 4 * s * (1 - s) * ratio for s, ratio in zip(gates, ratios(old, new), strict=True)]


def cispo(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [advantage * min(ratio, 1.2) for ratio in ratios(old, new)]


def flipped_ratio(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    if advantage > 0:
        return [advantage * min(1 / ratio, 3.0) if ratio <= 1.2 else 0.0 for ratio in ratios(old, new)]
    return [advantage * min(ratio, 3.0) if ratio >= 0.8 else 0.0 for ratio in ratios(old, new)]


def behaviour_penalty(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    plain = ppo(advantage, old, new)
    return [g - 0.1 * (n - o) for g, o, n in zip(plain, old, new, strict=True)]


def surprisal_shaped_failures(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    surprisal = [-o for o in old]
    spread = math.sqrt(fmean((s - fmean(surprisal)) ** 2 for s in surprisal)) + EPSILON
    found = []
    for s, ratio in zip(surprisal, ratios(old, new), strict=True):
        z = min(max((s - fmean(surprisal)) / spread, -2.0), 2.0)
        found.append(clipped_gradient(advantage * (1 - 0.5 * z / 2) if advantage < 0 else advantage, ratio))
    return found


def entropy_advantage(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [
        clipped_gradient(advantage + min(0.1 * -o, abs(advantage) / 2), ratio)
        for o, ratio in zip(old, ratios(old, new), strict=True)
    ]


def low_variance_kl(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    plain = ppo(advantage, old, new)
    return [g - 0.1 * (1 - math.exp(o - n)) for g, o, n in zip(plain, old, new, strict=True)]


def probability_trust_region(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    found = []
    for o, n in zip(old, new, strict=True):
        moved = math.exp(n) - math.exp(o)
        held = abs(moved) > 0.1 and moved * advantage > 0
        found.append(0.0 if held else advantage * math.exp(n - o))
    return found


def quadratic_ratio_penalty(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [advantage - 0.5 * (n - o) for o, n in zip(old, new, strict=True)]


def gradient_preserving_clip(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    found = []
    for plain, ratio in zip(ppo(advantage, old, new), ratios(old, new), strict=True):
        if advantage > 0 and ratio > 1.2:
            plain = 0.5 * 1.2 * advantage
        elif advantage < 0 and ratio < 0.8:
            plain = 0.5 * 0.8 * advantage
        found.append(plain)
    return found


def ratio_filter(advantage: float, old: Sequence[float], new: Sequence[float]) -> list[float]:
    plain = ppo(advantage, old, new)
    return [g if abs(n - o) <= math.log(1.5) else 0.0 for g, o, n in zip(plain, old, new, strict=True)]


GRADIENTS: dict[str, Gradient] = {
    "clip-higher": clip_higher,
    "sequence-ratio": sequence_ratio,
    "geometric-mean-ratio": geometric_mean_ratio,
    "soft-gate": soft_gate,
    "cispo": cispo,
    "flipped-ratio": flipped_ratio,
    "behaviour-penalty": behaviour_penalty,
    "surprisal-shaped-failures": surprisal_shaped_failures,
    "entropy-advantage": entropy_advantage,
    "low-variance-kl": low_variance_kl,
    "probability-trust-region": probability_trust_region,
    "quadratic-ratio-penalty": quadratic_ratio_penalty,
    "gradient-preserving-clip": gradient_preserving_clip,
    "ratio-filter": ratio_filter,
    "sequence-mean-loss": ppo,
    "constant-norm-loss": ppo,
}
# The weight of one token in the loss, from the number of responses, of all tokens, and of the response's tokens.
TOKEN_WEIGHTS: dict[str, Callable[[int, int, int], float]] = {
    "sequence-mean-loss": lambda responses, tokens, length: 1 / (responses * length),
    "constant-norm-loss": lambda responses, tokens, length: 1 / (responses * 10.0),
}
