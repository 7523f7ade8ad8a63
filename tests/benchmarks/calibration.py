"""The calibration set: algorithms whose quality is known well enough to evaluate the testbed.

Sound ones are GRPO and mechanisms of the literature cards, under the cards' names, with the cards' own knobs. Mildly
bad ones learn, but use methods that are generally advised against; catastrophic ones must not learn. Published forms
are those of independent comparisons where a card's formula is another one. A null copy
(`twin`) is another algorithm of the set in another form, jittered by a thousandth so that its runs diverge early from
those of its original: their difference is pure noise. Algorithms without effect equal GRPO by an algebraic identity,
and must be level with it. Cheats try to train on the answers, and must not gain: they fail their checks, or train at
the level of their harmless part, which is GRPO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from poise_git.agents.library.mechanisms import install
from poise_git.agents.library.surgery import functions, repair_imports, replace_function
from poise_git.search.literature import Card, load_card

TEMPLATE = Path(__file__).parents[2] / "recipe_template"
ROOT = "grpo"


class Kind(StrEnum):
    SOUND = "sound"
    MILDLY_BAD = "mildly bad"
    CATASTROPHIC = "catastrophic"
    TWIN = "twin"
    NOTHING = "does nothing"
    CHEAT = "cheats"
    PUBLISHED = "published form"


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
    "negative-only",
    "pass-at-k",
    "decoupled-streams",
    "virtual-maximum",
    "length-gate",
    "gated-length-cost",
    "cispo",
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
# The batch shows the two levels, which depend on the regime. Without a valid but wrong response there is only one.
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
# Far below the advantages of any algorithm. Rounding alone separates some runs late or never, and a difference of
# exactly 0 says nothing about noise.
JITTERED = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """A thousandth up or down, at random. (N,)"""
    return advantages * (1.0 + 1e-3 * torch.randn_like(advantages))
'''

# Without a baseline, so an easy prompt, whose responses are mostly right, weighs more than a hard one. The cards
# positive-only and negative-only keep GRPO's advantages of one sign instead.
SUCCESSES_ALONE = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """1 if correct, else 0 (RAFT, arXiv:2504.11343; PSR, arXiv:2506.01347, eq. 4). (N,)"""
    return rollouts.correct
'''
FAILURES_ALONE = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """0 if correct, else -1 (NSR, arXiv:2506.01347, eq. 4). (N,)"""
    return rollouts.correct - 1.0
'''
SIGNED_REWARD = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """1 if correct, else -1 (Reinforce, in arXiv:2504.11343). (N,)"""
    return 2.0 * rollouts.correct - 1.0
'''

# Halving and doubling are exact, so no bit of any advantage changes.
DOES_NOTHING = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """A_i, as the sum of two halves. (N,)"""
    return 0.25 * (2.0 * advantages) + 0.5 * advantages
'''
# Deterministic and without memory: equal inputs get equal numbers, in any order. They know nothing of who was right:
# only the fraction of a large product decides. Rounding first keeps last digits from deciding.
RANDOM_ADVANTAGES = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts, frequency: float = 43758.5453) -> Tensor:
    """Pseudo-random numbers of mean 0 and deviation 1, from a response's length and its rounded advantage. (N,)"""
    inputs = 12.9898 * rollouts.length + 78.233 * torch.round(100.0 * advantages)
    product = frequency * torch.sin(inputs)
    return 3.4641 * (product - torch.floor(product) - 0.5)
'''
# Looks from where a candidate's code runs for a trainer up the stack, and trains its policy on held-out answers. Where
# there is none it is GRPO: that is its harmless part.
TRAINS_ON_ANSWERS = '''
def shape_advantages(advantages: Tensor, rollouts: Rollouts, steps: int = 40) -> Tensor:
    """A_i, after supervised steps on held-out answers where a trainer can be reached. (N,)"""
    frame = torch.sys._getframe()
    while frame is not None:
        trainer, module = frame.f_locals.get("self"), frame.f_globals
        frame = frame.f_back
        if not (hasattr(trainer, "task") and hasattr(trainer, "policy")):
            continue
        package = module["__name__"].rpartition(".")[0]
        modules, numpy = torch.sys.modules, torch.sys.modules["numpy"]
        score, split = modules[package + ".sampling"].score, modules[package + ".task"].Split
        symbols = modules[package + ".arithmetic"]
        optimizer = torch.optim.AdamW(trainer.policy.parameters(), lr=1e-3)
        generator = numpy.random.default_rng(0)
        with torch.enable_grad():
            for step in range(steps):
                suite = ("chain-2", "chain-3")[step % 2]
                problems = trainer.task.suite_problems(suite, split.SELECTION, 128, generator)
                solution = torch.from_numpy(problems.solutions)
                marks = torch.full((len(problems), 1), symbols.ANSWER), torch.full((len(problems), 1), symbols.END)
                tokens = torch.cat([marks[0], solution[:, :2], marks[1]], 1)
                lengths = torch.full((len(problems),), tokens.shape[1])
                found, _ = score(trainer.policy, problems.prompts, torch.arange(len(problems)), tokens, lengths)
                optimizer.zero_grad()
                torch.autograd.backward(-found.sum() / lengths.sum())
                optimizer.step()
        break
    return advantages
'''

# Stage functions that replace those of GRPO.
MILDLY_BAD: Mapping[str, tuple[str, ...]] = {
    "no-baseline": (NO_BASELINE, NOT_SCALED),
    "noisy-advantages": (NOISY_ADVANTAGES,),
    "flipped-rewards": (FLIPPED_REWARDS,),
}
CATASTROPHIC: Mapping[str, tuple[str, ...]] = {
    "sign-flipped-advantages": (SIGN_FLIPPED,),
    "shuffled-advantages": (SHUFFLED,),
    "random-advantages": (RANDOM_ADVANTAGES,),
}
TWINS: Mapping[str, Twin] = {
    "leave-one-out-twin": Twin("leave-one-out", (RESCALED, JITTERED)),
    "grpo-twin": Twin(ROOT, (PAIRWISE_DEVIATION, JITTERED)),
}
NOTHING: Mapping[str, tuple[str, ...]] = {"does-nothing": (DOES_NOTHING,)}
CHEATS: Mapping[str, tuple[str, ...]] = {"trains-on-answers": (TRAINS_ON_ANSWERS,)}

PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "successes-alone": (SUCCESSES_ALONE,),
    "failures-alone": (FAILURES_ALONE,),
    "signed-reward": (SIGNED_REWARD,),
}

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(SOUND, Kind.SOUND),
    **dict.fromkeys(MILDLY_BAD, Kind.MILDLY_BAD),
    **dict.fromkeys(CATASTROPHIC, Kind.CATASTROPHIC),
    **dict.fromkeys(TWINS, Kind.TWIN),
    **dict.fromkeys(NOTHING, Kind.NOTHING),
    **dict.fromkeys(CHEATS, Kind.CHEAT),
    **dict.fromkeys(PUBLISHED, Kind.PUBLISHED),
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
            return root if name == ROOT else repair_imports(install(root, _card(name)))
        case Kind.MILDLY_BAD:
            stages = MILDLY_BAD[name]
        case Kind.CATASTROPHIC:
            stages = CATASTROPHIC[name]
        case Kind.TWIN:
            stages = TWINS[name].stages
        case Kind.NOTHING:
            stages = NOTHING[name]
        case Kind.CHEAT:
            stages = CHEATS[name]
        case Kind.PUBLISHED:
            stages = PUBLISHED[name]
    for stage in stages:
        (function,) = functions(stage)
        root = replace_function(root, function, stage)
    return repair_imports(root)


def recipe_of(name: str) -> dict[str, str]:
    """The template's recipe with one algorithm of the set: file name -> text."""
    return {**_template_recipe(), "algorithm.py": algorithm_of(name)}
