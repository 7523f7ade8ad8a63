"""The ledger in git: no call is lost or counted twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Call, Metrics, Proposal, Status
from poise_git.archive.spending import calls_for, spent

CALLS = st.builds(
    Call,
    **{name: st.text(max_size=9) for name in ("key", "operator", "subject", "model", "prompt", "outcome")},
    **{name: st.integers(0, 10**6) for name in ("input_tokens", "output_tokens", "cached_tokens", "written_tokens")},
    usd=st.none() | st.floats(0, 9),
    seconds=st.floats(0, 600),
    replayed=st.booleans(),
)


@given(CALLS)
def test_a_call_is_read_back_from_its_data(call: Call) -> None:
    assert Call.from_data(call.to_data()) == call


def call(key: str, subject: str, usd: float | None = 0.25, *, replayed: bool = False) -> Call:
    return Call(key, "propose", subject, "m", "0" * 40, 1, 1, 0, 0, usd, 1.0, "ok", replayed)


def failed(archive: Archive, name: str, recent: tuple[Call, ...], protocol: str = "p") -> None:
    metrics = Metrics(Status.FAILED, protocol, stage="parse", reason="it does not")
    archive.add_evidence(name, metrics.with_calls(calls_for(archive, name, recent)), None)


def journal(archive: Archive, number: int, calls: tuple[Call, ...]) -> None:
    plan = {
        "version": 1, "round": number, "protocol": "p", "agent": "anthropic", "directive": "", "seed": 0,
        "policy": "tree", "acquisition": {}, "slots": [], "calls": [entry.to_data() for entry in calls],
    }  # fmt: skip
    archive.write_round(number, plan)


def test_every_call_counts_once(tiny_archive: Archive) -> None:
    assert spent(tiny_archive) == 0
    proposed, refused, opinion = call("1", "a"), call("2", "b"), call("3", "")
    journal(tiny_archive, 1, (proposed, refused, opinion))
    assert spent(tiny_archive) == pytest.approx(0.75), "the plan alone"

    text = tiny_archive.recipe(ROOT)["algorithm.py"]
    tiny_archive.add_candidate(Proposal("a", ROOT, "m", "h", "f", "anthropic"), f"{text}\n# a\n")
    failed(tiny_archive, "a", (proposed, call("4", "a"), call("5", "somebody-else")))
    metrics = tiny_archive.metrics_file("a")
    assert metrics is not None
    assert [entry.key for entry in metrics.calls] == ["1", "4"], "a call that is already in the journal counts once"
    assert metrics.usd == pytest.approx(0.5)
    assert spent(tiny_archive) == pytest.approx(1.0)

    failed(tiny_archive, "a", (call("6", "a"),), protocol="another")
    metrics = tiny_archive.metrics_file("a")
    assert metrics is not None
    assert [entry.key for entry in metrics.calls] == ["1", "4", "6"], "another protocol continues the same ledger"
    assert spent(tiny_archive) == pytest.approx(1.25)


def test_replayed_calls_and_calls_without_a_price_cost_nothing(tiny_archive: Archive) -> None:
    journal(tiny_archive, 1, (call("1", "", replayed=True), call("2", "", None)))
    assert spent(tiny_archive) == 0
    free = Metrics(Status.FAILED, "p").with_calls((call("1", "a", replayed=True), call("2", "a", None)))
    assert free.usd == 0
    assert len(free.calls) == 2
    assert Metrics.from_data(free.to_data()).calls == free.calls
    assert replace(free, calls=()).to_data().get("calls") is None
