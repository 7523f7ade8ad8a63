"""The calibration set: algorithms whose quality is known well enough to judge the testbed by them.

Sound ones are GRPO and mechanisms of the literature cards, under the cards' names, with the cards' own knobs. Mildly
bad ones learn, but do what everybody advises against; catastrophic ones must not learn. A twin is another algorithm
of the set in other words, jittered by a thousandth so that its runs part from its original's early: the difference of
the two is pure noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from poise_git.agents.library.mechanisms import install
from poise_git.agents.library.surgery import functions, mend_imports, replace_function
from poise_git.search.literature import Card, load_card

TEMPLATE = Path(__file__).parents[2] / "recipe_template"
ROOT = "grpo"


class Kind(StrEnum):
    SOUND = "sound"
    MILDLY_BAD = "mildly bad"
    CATASTROPHIC = "catastrophic"
    TWIN = "twin"


@dataclass(frozen=True)
class Twin:
    """GRPO with `stages` replaced, which is the algorithm `of` in other words."""

    of: str
    stages: tuple[str, ...]


# One mechanism each, alone on GRPO.
SOUND: tuple[str, ...] = (
    ROOT,
    "leave-one-out",
    "no-std",
    "analytic-variance",
    "validity-masked-analytic-variance",
    "validity-masking-centred",
    "clip-higher",
    "sequence-ratio",
    "flipped-ratio",
    "soft-gate",
    "geometric-mean-ratio",
    "positive-only",
    "pass-at-k",
    "decoupled-streams",
    "virtual-maximum",
    "length-gate",
    "gated-length-cost",
)

NOT_SCALED = '''
def scale(signal: Tensor, rollouts: Rollouts) -> Tensor:
    """What the difference is divided by: nothing. (N,)"""
    return torch.ones_like(signal)
'''
NO_BASELINE = '''
def baseline(signal: Tensor, rollouts: Rollouts) -> Tensor:
    """What a response is compared with: nothing. (N,)"""
    return torch.zeros_like(signal)
'''
NOISY_ADVANTAGES = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts, deviation: float = 1.0) -> Tensor:
    """A_i + N(0, deviation²). (N,)"""
    return advantages + deviation * torch.randn_like(advantages)
'''
# The two levels are read off the batch: regimes have different ones. Without a valid but wrong response there is none.
FLIPPED_REWARDS = '''
def reward_signal(rollouts: Rollouts, share: float = 0.1) -> Tensor:
    """The reward, but a valid response's verdict is turned round with probability `share`. (N,)"""
    wrong = rollouts.valid * (1.0 - rollouts.correct)
    level = masked_mean(rollouts.score, wrong)
    turned = torch.where(rollouts.correct > 0, level, torch.ones_like(rollouts.score))
    flipped = (torch.rand_like(rollouts.score) < share) & (rollouts.valid > 0) & (wrong.sum() > 0)
    return torch.where(flipped, turned, rollouts.score)
'''
SIGN_FLIPPED = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """-A_i. (N,)"""
    return -advantages
'''
SHUFFLED = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """Every response gets the advantage of another of the batch. (N,)"""
    return advantages[torch.randperm(len(advantages), device=advantages.device)]
'''
# r_i - 1/(G-1) Σ_{j≠i} r_j = G/(G-1) (r_i - mean r).
RESCALED = '''
def scale(signal: Tensor, rollouts: Rollouts) -> Tensor:
    """What the difference is divided by: (G - 1)/G; a group of one is divided by 1. (N,)"""
    size = rollouts.group_size()
    return torch.where(size > 1, (size - 1.0) / size, torch.ones_like(size))
'''
# Σ_i (r_i - mean r)² / (G-1) = Σ_ij (r_i - r_j)² / (2 G (G-1)); unlike Σ r² - G mean² it loses no digits.
PAIRWISE_DEVIATION = '''
def scale(signal: Tensor, rollouts: Rollouts, epsilon: float = 1e-6) -> Tensor:
    """What the difference is divided by: the group's deviation, from the differences of all pairs. (N,)"""
    size = rollouts.group_size()
    same = (rollouts.group.unsqueeze(0) == rollouts.group.unsqueeze(1)).to(signal.dtype)
    squares = rollouts.group_sum(((signal.unsqueeze(0) - signal.unsqueeze(1)) ** 2 * same).sum(1))
    spread = (squares / (2.0 * size * (size - 1.0).clamp(min=1.0))).sqrt()
    return torch.where(size > 1, spread, torch.ones_like(spread)) + epsilon
'''
# Far below what any algorithm means by its advantages. Rounding alone parts some runs late, or never; a difference that
# is exactly 0 says nothing of noise.
JITTERED = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """A thousandth up or down, at random. (N,)"""
    return advantages * (1.0 + 1e-3 * torch.randn_like(advantages))
'''

# Stage functions that stand in the place of GRPO's.
MILDLY_BAD: Mapping[str, tuple[str, ...]] = {
    "no-baseline": (NO_BASELINE, NOT_SCALED),
    "noisy-advantages": (NOISY_ADVANTAGES,),
    "flipped-rewards": (FLIPPED_REWARDS,),
}
CATASTROPHIC: Mapping[str, tuple[str, ...]] = {
    "sign-flipped-advantages": (SIGN_FLIPPED,),
    "shuffled-advantages": (SHUFFLED,),
}
TWINS: Mapping[str, Twin] = {
    "leave-one-out-twin": Twin("leave-one-out", (RESCALED, JITTERED)),
    "grpo-twin": Twin(ROOT, (PAIRWISE_DEVIATION, JITTERED)),
}

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(SOUND, Kind.SOUND),
    **dict.fromkeys(MILDLY_BAD, Kind.MILDLY_BAD),
    **dict.fromkeys(CATASTROPHIC, Kind.CATASTROPHIC),
    **dict.fromkeys(TWINS, Kind.TWIN),
}


@cache
def _template_recipe() -> Mapping[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in sorted((TEMPLATE / "recipe").glob("*.py"))}


@cache
def _card(name: str) -> Card:
    file = TEMPLATE / "literature" / f"{name}.yaml"
    card = load_card(file.read_text(encoding="utf-8"), file.name)
    if not card.edits:
        raise ValueError(f"the card {name} has no edits: it would be {ROOT} under another name")
    return card


def algorithm_of(name: str) -> str:
    """The text of `algorithm.py` of one algorithm of the set."""
    root = _template_recipe()["algorithm.py"]
    match KINDS[name]:
        case Kind.SOUND:
            return root if name == ROOT else mend_imports(install(root, _card(name)))
        case Kind.MILDLY_BAD:
            stages = MILDLY_BAD[name]
        case Kind.CATASTROPHIC:
            stages = CATASTROPHIC[name]
        case Kind.TWIN:
            stages = TWINS[name].stages
    for stage in stages:
        (function,) = functions(stage)
        root = replace_function(root, function, stage)
    return mend_imports(root)


def recipe_of(name: str) -> dict[str, str]:
    """The template's recipe with one algorithm of the set: file name -> text."""
    return {**_template_recipe(), "algorithm.py": algorithm_of(name)}
