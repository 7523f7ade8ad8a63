from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poise_git.archive.entries import Claim, Estimate, Metrics, Status, Violation
from poise_git.archive.messages import describe, format_candidate, format_evidence, parse_candidate, shorten, tidy
from poise_git.untrusted.display import one_line, visible

from .conftest import make_metrics, make_proposal

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
# Text that looks like the surrounding parts of a message.
HOSTILE = st.lists(
    st.sampled_from(
        ["Poise-Candidate: evil", "Poise-Parent: evil", "Mechanism: x", "Hypothesis: y", "algorithm(evil): z", "", " ",
         "# comment", " # indented", "---", "----", "diff --git a/x b/x", "Signed-off-by: A <a@b>", "\r", "…", "words",
         "Knobs:", "claims: x [effect]", "- a = 1", "[order levels=a,b]"]
    ),
    max_size=8,
).map("\n".join)  # fmt: skip
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.from_regex(r"[a-z-]+"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["scale.kappa", "figure", "true", "a b", 'q"', "[x]"]) | TEXT
CLAIM = st.builds(Claim, TEXT | HOSTILE, st.sampled_from(["effect", "order", "", "a b", "[x"]) | TEXT,
                  st.dictionaries(NAMES, DATA, max_size=3))  # fmt: skip


@given(
    mechanism=TEXT | HOSTILE,
    hypothesis=TEXT | HOSTILE,
    family=TEXT,
    priors=st.lists(TEXT, max_size=3),
    agent=TEXT,
    knobs=st.dictionaries(NAMES, st.floats(allow_nan=False), max_size=3),
    claims=st.lists(CLAIM, max_size=3),
)
@example("a\n\nPoise-Candidate: evil", "x\n\nPoise-Candidate: evil\nPoise-Agent: evil\n", "f", ["p"], "a", {}, [])
@example("a", "Knobs:\n- x = 1\n\nClaims:\n- y", "", [], "", {}, [])
@example("a", "", "", [], "", {"scale.kappa": 1e-6}, [Claim("see [a b=1]", "order", {"levels": ["a", "[x y=", "b"]})])
def test_a_message_is_read_back_as_written(
    mechanism: str,
    hypothesis: str,
    family: str,
    priors: list[str],
    agent: str,
    knobs: dict[str, float],
    claims: list[Claim],
) -> None:
    proposal = make_proposal(
        "child", mechanism=mechanism, hypothesis=hypothesis, family=family, priors=tuple(priors), agent=agent,
        second_parent="other", knobs=knobs, claims=tuple(claims),
    )  # fmt: skip
    said = describe(proposal)
    assert parse_candidate(format_candidate(said)) == said
    # Invisible characters are written visibly, because `git log` prints messages as they are.
    assert said.hypothesis == tidy(visible(tidy(hypothesis)))
    assert (said.name, said.parents) == ("child", ("grpo", "other"))
    assert said.knobs == knobs
    assert [claim.arguments for claim in said.claims] == [claim.arguments for claim in claims]
    assert [claim.statement for claim in said.claims] == [one_line(claim.statement) for claim in claims]


@given(TEXT | HOSTILE)
def test_tidy_text_does_not_change(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize("prose", ["Poise-Candidate: evil", "# all comment\n# more", "a\n---\nb", "x\n\n\ny"])
def test_git_reads_only_the_trailers_and_keeps_the_prose(prose: str) -> None:
    message = format_candidate(describe(make_proposal("child", hypothesis=prose, priors=("one", "two"))))

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], input=message, capture_output=True, text=True, check=True).stdout

    assert git("interpret-trailers", "--parse").splitlines() == [
        "Poise-Candidate: child",
        "Poise-Parent: grpo",
        "Poise-Family: baseline",
        "Poise-Prior: one",
        "Poise-Prior: two",
        "Poise-Agent: library",
    ]
    assert git("stripspace", "--strip-comments") == message


def test_the_message_has_a_readable_layout() -> None:
    proposal = make_proposal("vm-av", mechanism="mask invalid responses", hypothesis="They are noise.", priors=("vm",))
    assert format_candidate(describe(proposal)) == (
        "algorithm(vm-av): mask invalid responses\n\nHypothesis: They are noise.\n\n"
        "Poise-Candidate: vm-av\nPoise-Parent: grpo\nPoise-Family: baseline\nPoise-Prior: vm\nPoise-Agent: library\n"
    )


def test_a_long_mechanism_is_shortened_in_the_subject_but_not_in_the_body() -> None:
    mechanism = "scale by the analytic variance " * 20
    message = format_candidate(describe(make_proposal("av", mechanism=mechanism)))
    assert len(message.split("\n")[0]) < 100
    assert parse_candidate(message).mechanism == mechanism.strip()


def test_a_handwritten_message_is_parsed() -> None:
    said = parse_candidate("try the median\n\nMeans are not robust.\n\nReally.\n")
    assert (said.name, said.mechanism, said.hypothesis) == ("", "try the median", "Means are not robust.\n\nReally.")


def test_handwritten_knobs_and_claims_are_parsed() -> None:
    said = parse_candidate(
        "try the median\n\nMeans are not robust.\n\nKnobs: scale.kappa: 0.5, floor = 1e-3\n\nMore prose.\n\nClaims:\n\n"
        "* Utility rises\n  against the parent. [effect: figure=utility, direction = up]\n"
        "- Failures stand below. [order levels=invalid, valid-wrong, correct]\n\n- It is robust [to outliers].\n"
    )
    assert said.hypothesis == "Means are not robust.\n\nMore prose."
    assert said.knobs == {"scale.kappa": 0.5, "floor": 1e-3}
    assert said.unreadable == ()
    assert said.claims == (
        Claim("Utility rises against the parent.", "effect", {"figure": "utility", "direction": "up"}),
        Claim("Failures stand below.", "order", {"levels": ["invalid", "valid-wrong", "correct"]}),
        Claim("It is robust [to outliers].", "reading"),
    )


def test_invalid_knobs_are_named() -> None:
    said = parse_candidate("x\n\nKnobs:\n- kappa = half\n- floor = 2\n- something\n")
    assert said.knobs == {"floor": 2}
    assert said.unreadable == ("kappa = half", "something")


@pytest.mark.parametrize("last", ["Knobs: floor = 2", "Claims: It helps.", "Hypothesis: It helps."])
def test_trailers_that_git_appends_do_not_end_a_paragraph(last: str) -> None:
    command = ["git", "interpret-trailers", "--trailer", "Poise-Candidate: x"]
    done = subprocess.run(command, input=f"subject\n\n{last}\n", capture_output=True, text=True, check=True)
    said = parse_candidate(done.stdout)
    assert said.name == "x"
    assert said.knobs or said.claims or said.hypothesis == "It helps."


def test_unclosed_brackets_are_parsed_in_time() -> None:
    said = parse_candidate(f"x\n\nClaims:\n- {'[a b ' * 50_000}]\n- {'[a b=[' + '[' * 50_000}]\n")
    assert [claim.check for claim in said.claims] == ["reading", "reading"]


def test_lines_appended_by_cherry_pick_and_sign_off_do_no_harm() -> None:
    message = (
        format_candidate(describe(make_proposal("x"))) + "(cherry picked from commit 1234)\nSigned-off-by: A <a@b>\n"
    )
    assert parse_candidate(message) == describe(make_proposal("x"))


@pytest.mark.parametrize(
    ("metrics", "subject"),
    [
        (make_metrics(), "evidence(x): U 0.752 ± 0.009, +0.021 vs grpo"),
        (make_metrics(gain=Estimate(-0.5, None, 1)), "evidence(x): U 0.752 ± 0.009, -0.500 vs grpo"),
        (make_metrics(gain=None, utility=Estimate(0.7, None, 1)), "evidence(x): U 0.700 (n = 1)"),
        (
            make_metrics(gain=None, violations=(Violation("length", "at most 12", Estimate(1.0, None, 1)),)),
            "evidence(x): U 0.752 ± 0.009, violates length at most 12",
        ),
        (
            Metrics(Status.FAILED, "p", stage="numeric", reason="loss is\nNaN"),
            "evidence(x): failed at numeric: loss is NaN",
        ),
    ],
)
def test_the_subject_of_evidence_states_the_result(metrics: Metrics, subject: str) -> None:
    assert format_evidence("x", metrics).split("\n")[0] == subject


@given(TEXT, st.integers(1, 40))
def test_shortened_text_is_short(text: str, length: int) -> None:
    assert len(shorten(text, length)) <= length
