from __future__ import annotations

import pytest

from poise_git.agents.library import surgery
from poise_git.agents.library.mechanisms import install, mechanisms, uninstall
from poise_git.errors import CheckFailed
from poise_git.search.literature import Edit
from tests.agents.library.support import card, cards, root_text

BONUS = "def reward_brevity(signal: Tensor, rollouts: Rollouts, bonus: float = 0.2) -> Tensor:\n    return signal\n"


def test_first_addition_binds_the_return_value_of_the_stage() -> None:
    text = surgery.apply_edit(root_text(), Edit(stage="reward_signal", add=BONUS))
    assert surgery.function_text(text, "reward_signal").endswith(
        "    signal = rollouts.score\n    signal = reward_brevity(signal, rollouts)\n    return signal\n"
    )
    assert text.index("def reward_brevity(") < text.index("def reward_signal(")


def test_additions_are_called_in_their_order() -> None:
    text = install(install(root_text(), card("advantage-clip")), card("difficulty-weighting"))
    assert surgery.chained(text, "shape_advantages") == ["bound_advantages", "weigh_by_difficulty"]


def test_replacing_a_stage_keeps_its_additions() -> None:
    text = install(install(root_text(), card("length-bonus")), card("analytic-variance"))
    assert surgery.function_text(text, "reward_signal").endswith(
        "    signal = rollouts.correct\n    signal = reward_brevity(signal, rollouts)\n    return signal\n"
    )
    assert uninstall(text, card("length-bonus"), root_text()) == install(root_text(), card("analytic-variance"))


def test_defaults_are_set_in_place_and_integers_stay_integers() -> None:
    text = "def f(a: int = 4, b: float = -1.0, *, c: float = 2.0) -> int:\n    return a\n"
    changed = surgery.set_defaults(text, "f", {"a": 7.0, "b": 0.5, "c": -3.0})
    assert changed == "def f(a: int = 7, b: float = 0.5, *, c: float = -3.0) -> int:\n    return a\n"
    assert surgery.defaults(changed, "f") == {"a": 7, "b": 0.5, "c": -3.0}


def test_a_default_after_multibyte_characters_is_found() -> None:
    assert surgery.set_defaults("def f(σ: float = 1.0, k: int = 2) -> None: ...\n", "f", {"k": 3}) == (
        "def f(σ: float = 1.0, k: int = 3) -> None: ...\n"
    )


def test_imports_match_the_names_in_use() -> None:
    text = install(root_text(), card("sequence-ratio"))
    assert "from .rollouts import Rollouts, aggregate_loss, masked_mean, response_mean, to_tokens\n" in text
    assert surgery.repair_imports(text) == text


@pytest.mark.parametrize(
    ("text", "edit", "reason"),
    [
        ("def f(:\n", Edit(stage="scale", set={"a": 1.0}), "does not parse: line 1"),
        ("x = 1\n", Edit(stage="scale", set={"a": 1.0}), "no function scale"),
        ("def scale(): ...\n", Edit(stage="scale", set={"a": 1.0}), "no keyword argument a"),
        ("def scale(): ...\n", Edit(stage="scale", replace="def other(): ...\n"), "defines other"),
        ("def scale(): ...\n", Edit(stage="scale", add=BONUS), "nothing can be added to scale"),
        (BONUS, Edit(stage="reward_signal", add=BONUS), "already has a function reward_brevity"),
        ("def reward_signal(r):\n    if r:\n        return 1\n    return 2\n", Edit(stage="reward_signal", add=BONUS),
         "does not end in its only return"),
    ],
)  # fmt: skip
def test_an_impossible_edit_is_refused_with_the_reason(text: str, edit: Edit, reason: str) -> None:
    with pytest.raises(CheckFailed, match=reason) as failure:
        surgery.apply_edit(text, edit)
    assert failure.value.check == "implement"


def test_mechanisms_are_recognized_in_handwritten_code() -> None:
    by_hand = root_text().replace(
        "    spread = torch.where(rollouts.group_size() > 1, rollouts.group_std(signal), torch.ones_like(signal))\n"
        "    return spread + epsilon\n",
        "    # Dr.GRPO\n    return torch.ones_like(signal)\n",
    ).replace("rollouts: Rollouts, epsilon: float = 1e-6", "rollouts: Rollouts").replace(
        "clip_high: float = 0.2", "clip_high: float = 0.35"
    )  # fmt: skip
    assert {found.card.name: dict(found.knobs) for found in mechanisms(by_hand, cards())} == {
        "no-std": {},
        "clip-higher": {"clip_high": 0.35},
    }


def test_a_mechanism_that_is_not_called_is_not_reported() -> None:
    text = install(root_text(), card("positive-only"))
    call = "    advantages = keep_positives(advantages, rollouts)\n"
    assert mechanisms(text, cards())
    assert mechanisms(text.replace(call, ""), cards()) == ()


def test_a_part_of_a_mechanism_is_not_reported_beside_the_whole() -> None:
    text = install(root_text(), card("leave-one-out"))
    assert [found.card.name for found in mechanisms(text, cards())] == ["leave-one-out"]
