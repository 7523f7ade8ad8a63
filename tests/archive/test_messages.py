from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poise_git.archive.entries import Estimate, Metrics, Status
from poise_git.archive.messages import describe, format_candidate, format_evidence, parse_candidate, shorten, tidy

from .conftest import make_metrics, make_proposal

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
# Text that looks like what stands around it.
HOSTILE = st.lists(
    st.sampled_from(
        ["Poise-Candidate: evil", "Poise-Parent: evil", "Mechanism: x", "Hypothesis: y", "algorithm(evil): z", "", " ",
         "# comment", " # indented", "---", "----", "diff --git a/x b/x", "Signed-off-by: A <a@b>", "\r", "…", "words"]
    ),
    max_size=8,
).map("\n".join)  # fmt: skip


@given(mechanism=TEXT | HOSTILE, hypothesis=TEXT | HOSTILE, family=TEXT, priors=st.lists(TEXT, max_size=3), agent=TEXT)
@example("a\n\nPoise-Candidate: evil", "x\n\nPoise-Candidate: evil\nPoise-Agent: evil\n", "f", ["p"], "a")
def test_what_is_written_is_read_back(
    mechanism: str, hypothesis: str, family: str, priors: list[str], agent: str
) -> None:
    proposal = make_proposal(
        "child", mechanism=mechanism, hypothesis=hypothesis, family=family, priors=tuple(priors), agent=agent,
        second_parent="other",
    )  # fmt: skip
    said = describe(proposal)
    assert parse_candidate(format_candidate(said)) == said
    assert said.hypothesis == tidy(hypothesis)
    assert (said.name, said.parents) == ("child", ("grpo", "other"))


@given(TEXT | HOSTILE)
def test_tidy_text_stays_as_it_is(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize("prose", ["Poise-Candidate: evil", "# all comment\n# more", "a\n---\nb", "x\n\n\ny"])
def test_git_sees_our_trailers_only_and_cuts_nothing_out_of_the_prose(prose: str) -> None:
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


def test_the_message_reads_well() -> None:
    proposal = make_proposal("vm-av", mechanism="mask invalid responses", hypothesis="They are noise.", priors=("vm",))
    assert format_candidate(describe(proposal)) == (
        "algorithm(vm-av): mask invalid responses\n\nHypothesis: They are noise.\n\n"
        "Poise-Candidate: vm-av\nPoise-Parent: grpo\nPoise-Family: baseline\nPoise-Prior: vm\nPoise-Agent: library\n"
    )


def test_a_long_mechanism_is_short_in_the_subject_and_whole_in_the_body() -> None:
    mechanism = "scale by the analytic variance " * 20
    message = format_candidate(describe(make_proposal("av", mechanism=mechanism)))
    assert len(message.split("\n")[0]) < 100
    assert parse_candidate(message).mechanism == mechanism.strip()


def test_a_message_written_by_hand_is_understood() -> None:
    said = parse_candidate("try the median\n\nMeans are not robust.\n\nReally.\n")
    assert (said.name, said.mechanism, said.hypothesis) == ("", "try the median", "Means are not robust.\n\nReally.")


def test_what_cherry_pick_and_sign_off_append_does_no_harm() -> None:
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
            Metrics(Status.FAILED, "p", stage="numeric", reason="loss is\nNaN"),
            "evidence(x): failed at numeric: loss is NaN",
        ),
    ],
)
def test_the_subject_of_evidence_carries_the_result(metrics: Metrics, subject: str) -> None:
    assert format_evidence("x", metrics).split("\n")[0] == subject


@given(TEXT, st.integers(1, 40))
def test_shortened_text_is_short(text: str, length: int) -> None:
    assert len(shorten(text, length)) <= length
