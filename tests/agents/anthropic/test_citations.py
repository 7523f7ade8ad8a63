from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.agents.anthropic.citations import numbers_in, unsupported

FIGURES = (0.19234, -0.0218, 0.0051, 4.0, 12.37, 0.8751, 1.5e-5, 97.0)


@pytest.mark.parametrize(
    "text",
    [
        "Utility is 0.192, down by 0.022 ± 0.005 on 4 seeds.",
        "It rose to .19 (-0.0218), and length to 12.4 tokens, or 12.",
        "Valid are 87.5% of the responses, or 88 %, by the 95% interval.",
        "On chain-2 and chain-4 pass@8 moved; arXiv:2402.03300 and v1.2 say why, in 3-fold words as in Qwen2.5-Math.",
        "1. The gradient is 1.5e-5.\n2. One of the two claims held, with no more than 1 exception.",
        "It ended at 0.192.",
    ],
)
def test_roundings_of_figures_are_citations(text: str) -> None:
    assert unsupported(text, FIGURES) == ()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Utility is 0.21.", ("0.21",)),
        ("It fell by 0.0219.", ("0.0219",)),
        ("A gain of 3.2%, twice: 3.2%.", ("3.2%",)),
        ("12.37 became 12.38, of 1,000 tokens", ("12.38", "1,000")),
        ("5 seeds and 4.0 and 7e-5", ("5", "7e-5")),
        ("it is +0.5", ("+0.5",)),
    ],
)
def test_other_numbers_are_no_citations(text: str, wrong: tuple[str, ...]) -> None:
    assert unsupported(text, FIGURES) == wrong


@given(st.floats(-1e4, 1e4, allow_nan=False), st.integers(0, 6))
def test_every_rounding_of_a_figure_is_known(figure: float, digits: int) -> None:
    assert unsupported(f"it is {figure:.{digits}f} now", (figure,)) == ()


def test_shown_numbers_may_be_cited() -> None:
    assert set(numbers_in("clip_high: 0.28, chain-4, 1e-6, 12 of 1000")) == {0.28, 4.0, 1e-6, 12.0, 1000.0}
