"""Calls to a real local server: success, and every kind of failure."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from poise_git.agents.anthropic.asking import Question, ask
from poise_git.agents.anthropic.caller import Caller
from poise_git.agents.anthropic.consent import refuse_address
from poise_git.agents.anthropic.ledger import Ledger, cost
from poise_git.agents.anthropic.messages import Reply, Request, Usage
from poise_git.agents.anthropic.recordings import Recordings
from poise_git.agents.anthropic.service import SECRETS, Service
from poise_git.errors import AgentError, BudgetReached, PoiseError, ReplyUnusable, ServiceFailed, UsageError
from poise_git.settings import AnthropicSettings, Price
from poise_git.user.preferences import Preferences
from tests import sentences
from tests.agents.anthropic.server import (
    Loopback,
    Message,
    Raw,
    Script,
    Stall,
    Status,
    one_after_another,
    serving,
    text,
    tool_use,
)

pytestmark = pytest.mark.slow

KEY = "sk-canary-0123456789abcdef"
PRICE = Price(input=2.0, output=10.0, cache_write=2.5, cache_read=0.1)
LONG = 16000
SHORT = 1000


class Verdict(BaseModel):
    """A verdict and why."""

    sound: bool
    why: str


GOOD = {"sound": True, "why": "it follows from the formula, at some length, so that there is more than one event"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def settings(url: str, **changes: object) -> AnthropicSettings:
    return AnthropicSettings.model_validate(
        {"base_url": url, "model": "m", "retries": 2, "prices": {"m": PRICE}, "max_tokens": SHORT, **changes}
    )


def request(subject: str = "a", max_tokens: int = SHORT, words: str = "hello") -> Request:
    body = {"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": words}]}
    return Request("propose", subject, "0" * 40, "", body)


class Desk:
    """A caller and its parts, composed as the agent composes them."""

    def __init__(self, script: Script, folder: Path, budget: float | None = None, **changes: object) -> None:
        self.script, self.recordings, self.changes = script, Recordings(folder), changes
        self.ledger = Ledger({"m": PRICE}, budget)
        self.server: Loopback | None = None

    def run(self, *requests: Request) -> list[Reply | BaseException]:
        async def go() -> list[Reply | BaseException]:
            async with service.connected() as connection:
                caller = Caller(connection, self.recordings, self.ledger, chosen.parallel)
                return await asyncio.gather(*map(caller.call, requests), return_exceptions=True)

        with serving(self.script) as self.server:
            chosen = settings(self.server.url, **self.changes)
            service = Service(chosen)
            return asyncio.run(go())

    def ask(self) -> tuple[Verdict, str]:
        async def go() -> tuple[Verdict, str]:
            async with service.connected() as connection:
                caller = Caller(connection, self.recordings, self.ledger, chosen.parallel)
                question = Question("verify", "a", "0" * 40, "rules", "shared", "task")
                return await ask(caller, chosen, question, Verdict)

        with serving(self.script) as self.server:
            chosen = settings(self.server.url, **self.changes)
            service = Service(chosen)
            return asyncio.run(go())


@pytest.mark.parametrize("max_tokens", [SHORT, LONG], ids=["whole", "streamed"])
def test_a_typed_answer_arrives_whole_or_streamed(tmp_path: Path, max_tokens: int) -> None:
    desk = Desk(lambda _: tool_use(GOOD), tmp_path, max_tokens=max_tokens)
    assert desk.ask() == (Verdict(**GOOD), "")
    assert desk.server is not None
    (sent,) = desk.server.requests
    assert sent.get("stream", False) is (max_tokens == LONG)
    assert sent["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert [part["text"] for part in sent["messages"][0]["content"]] == ["shared", "task"]
    assert "cache_control" not in sent["messages"][0]["content"][1], "text that differs from call to call is not cached"
    assert sent["tools"][0]["input_schema"] == Verdict.model_json_schema()
    assert sent["tool_choice"] == {"type": "auto"}, "current models refuse to be forced"
    (call,) = desk.ledger.calls
    assert (call.operator, call.input_tokens, call.output_tokens, call.outcome) == ("verify", 100, 50, "ok")
    assert call.usd == pytest.approx((100 * 2.0 + 50 * 10.0) / 1e6)


@pytest.mark.parametrize("max_tokens", [SHORT, LONG], ids=["whole", "streamed"])
@pytest.mark.parametrize("first", [tool_use({"sound": "perhaps"}), text("I would rather talk."), tool_use([1])])
def test_an_invalid_answer_is_sent_back_once_with_the_reason(tmp_path: Path, first: Message, max_tokens: int) -> None:
    desk = Desk(one_after_another(first, tool_use(GOOD)), tmp_path, max_tokens=max_tokens)
    assert desk.ask()[0] == Verdict(**GOOD)
    assert desk.server is not None
    opening, follow_up = desk.server.requests
    assert follow_up["messages"][0] == opening["messages"][0], "a stable prefix"
    assert follow_up["messages"][1] == {"role": "assistant", "content": list(first.content)}
    (said,) = follow_up["messages"][2]["content"]
    if first.content[0]["type"] == "tool_use":
        assert said["type"] == "tool_result"
        assert said["is_error"] is True
        assert said["tool_use_id"] == "toolu_1"
    assert "Not accepted" in json.dumps(said)
    assert len(desk.ledger.calls) == 2


def test_a_second_invalid_answer_is_a_named_failure(tmp_path: Path) -> None:
    desk = Desk(lambda _: tool_use({"sound": "perhaps"}), tmp_path)
    with pytest.raises(ReplyUnusable, match=r"verify: schema: sound: .*why: Field required"):
        desk.ask()
    assert len(desk.ledger.calls) == 2, "both replies are paid for"


@pytest.mark.parametrize("max_tokens", [SHORT, LONG], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Message((), "refusal", {"type": "refusal", "category": "cyber", "explanation": "no"}), "refusal: cyber: no"),
        (Message((), "refusal"), "refusal: without a reason"),
        (Message(tool_use(GOOD).content, "max_tokens"), sentences.LONG_REPLY),
        (Message((), "model_context_window_exceeded"), "model_context_window_exceeded: "),
    ],
)
def test_refused_and_too_long_replies_are_named_failures(
    tmp_path: Path, reply: Message, reason: str, max_tokens: int
) -> None:
    desk = Desk(lambda _: reply, tmp_path)
    (failure,) = desk.run(request(max_tokens=max_tokens))
    assert isinstance(failure, ReplyUnusable)
    assert failure.reason.startswith(reason)
    (call,) = desk.ledger.calls
    assert call.outcome.startswith(reason)
    assert call.usd is not None
    assert call.usd > 0, "a refusal is paid for"


@pytest.mark.parametrize(
    "busy",
    [Status(429, "rate_limit_error", (("retry-after", "0.01"),)), Status(529, "overloaded_error"), Status(500, "api")],
)
def test_a_call_to_a_busy_service_is_repeated(tmp_path: Path, busy: Status) -> None:
    desk = Desk(one_after_another(busy, tool_use(GOOD)), tmp_path)
    (reply,) = desk.run(request())
    assert isinstance(reply, Reply)
    assert desk.server is not None
    assert len(desk.server.requests) == 2


@pytest.mark.parametrize("max_tokens", [SHORT, LONG], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Status(529, "overloaded_error", (("retry-after", "0.01"),)), "overloaded_error"),
        (Status(401, "authentication_error"), "ANTHROPIC_API_KEY"),
        (Status(404, "not_found_error"), "poise.yaml"),
        (Stall(1.0), "anthropic.timeout"),
    ],
)
def test_a_service_that_does_not_answer_is_an_error_of_one_line(
    tmp_path: Path, answer: Status | Stall, said: str, max_tokens: int
) -> None:
    desk = Desk(lambda _: answer, tmp_path, timeout=0.3, retries=1)
    (failure,) = desk.run(request(max_tokens=max_tokens))
    assert isinstance(failure, ServiceFailed)
    assert said in str(failure)
    assert "\n" not in str(failure)
    assert not desk.ledger.calls
    assert desk.ledger.reserved == 0


def test_an_unreachable_service_is_an_error_of_one_line(tmp_path: Path) -> None:
    async def go() -> None:
        async with Service(settings("http://127.0.0.1:9", retries=0)).connected() as connection:
            await connection.send(request())

    with pytest.raises(ServiceFailed, match=r"127\.0\.0\.1:9: no connection; .*base_url"):
        asyncio.run(go())


CUT = Message(tool_use(GOOD).content, "tool_use", cut_after=4)


@pytest.mark.parametrize(
    "broken",
    [
        CUT,
        Message(CUT.content, "tool_use", cut_after=0),
        Message(CUT.content, "tool_use", cut_after=1),
        Message(
            CUT.content, "tool_use", cut_after=3, breaks_with={"type": "error", "error": {"type": "overloaded_error"}}
        ),
        Message(({"type": "tool_use", "id": "t", "name": "answer", "input": GOOD},), None),  # type: ignore[arg-type]
    ],
    ids=["in the middle", "before the first event", "after the first", "by an error event", "without its end"],
)
def test_an_interrupted_stream_is_requested_once_more(tmp_path: Path, broken: Message) -> None:
    desk = Desk(one_after_another(broken, tool_use(GOOD)), tmp_path)
    (reply,) = desk.run(request(max_tokens=LONG))
    assert isinstance(reply, Reply)
    cut, whole = desk.ledger.calls
    assert whole.outcome == "ok"
    assert cut.outcome != "ok"
    assert cut.key != whole.key
    if broken.cut_after not in (0,):
        assert cut.input_tokens == 100, "the interrupted reply has been paid for as well"
    assert desk.ledger.reserved == 0


def test_a_stream_that_is_interrupted_twice_is_a_named_failure(tmp_path: Path) -> None:
    desk = Desk(lambda _: CUT, tmp_path)
    (failure,) = desk.run(request(max_tokens=LONG))
    assert isinstance(failure, ReplyUnusable)
    assert failure.reason.startswith("cut off")
    assert len(desk.ledger.calls) == 2
    assert not list(tmp_path.iterdir()), "a partial reply does not count"


@pytest.mark.parametrize("body", ["{", "[]", '"words"', "{}", '{"type": "message", "content": 3}', "null"])
def test_malformed_json_is_a_named_failure(tmp_path: Path, body: str) -> None:
    (failure,) = Desk(lambda _: Raw(body), tmp_path).run(request())
    assert isinstance(failure, ReplyUnusable)
    assert failure.reason.startswith("malformed")
    assert "\n" not in str(failure)


# Budget.


def test_tokens_of_each_kind_have_their_price() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cache_creation_input_tokens=2000, cache_read_input_tokens=3000)
    assert cost(usage, PRICE) == pytest.approx((1000 * 2.0 + 2000 * 2.5 + 3000 * 0.1 + 100 * 10.0) / 1e6)


def test_a_call_that_may_exceed_the_budget_is_not_made(tmp_path: Path) -> None:
    # Its longest reply alone costs a cent.
    desk = Desk(lambda _: tool_use(GOOD), tmp_path, budget=0.01)
    (failure,) = desk.run(request(max_tokens=SHORT))
    assert isinstance(failure, BudgetReached)
    assert failure.exit_code == 3
    assert "--budget-usd" in str(failure)
    assert desk.server is not None
    assert not desk.server.requests


def test_concurrent_calls_stay_within_the_budget(tmp_path: Path) -> None:
    """Each may cost 1.5 cents and costs 1: three fit into 3.6 cents one after another, two at once."""
    dear = Message(tool_use(GOOD).content, "tool_use", usage={"input_tokens": 0, "output_tokens": 1000})
    desk = Desk(lambda _: dear, tmp_path, budget=0.036)
    outcomes = desk.run(*(request(str(place), words=f"{place}") for place in range(6)))
    assert desk.ledger.spent <= 0.036
    assert sum(isinstance(entry, Reply) for entry in outcomes) == len(desk.ledger.calls)
    assert sum(isinstance(entry, BudgetReached) for entry in outcomes) == 6 - len(desk.ledger.calls)
    assert len(desk.ledger.calls) in (2, 3)
    assert desk.ledger.reserved == 0


def test_a_model_without_a_price_has_no_budget(tmp_path: Path) -> None:
    desk = Desk(lambda _: tool_use(GOOD), tmp_path, budget=1.0)
    desk.ledger.prices = {}
    (failure,) = desk.run(request())
    assert isinstance(failure, UsageError)
    assert "anthropic.prices has no m" in str(failure)


def test_calls_run_concurrently_up_to_the_limit(tmp_path: Path) -> None:
    barrier: list[int] = []

    def slow(_: object) -> Message:
        barrier.append(1)
        return tool_use(GOOD)

    desk = Desk(slow, tmp_path, parallel=3)
    replies = desk.run(*(request(words=f"{place}") for place in range(9)))
    assert all(isinstance(reply, Reply) for reply in replies)
    assert desk.server is not None
    assert 1 <= desk.server.most_at_once <= 3


# Recordings.


def test_a_paid_call_is_not_repeated(tmp_path: Path) -> None:
    first = Desk(lambda _: tool_use(GOOD), tmp_path)
    (reply,) = first.run(request())
    second = Desk(lambda _: Status(500, "api_error"), tmp_path)
    assert second.run(request()) == [reply]
    assert second.server is not None
    assert not second.server.requests
    assert second.ledger.calls == first.ledger.calls, "with its cost"
    assert second.ledger.spent == first.ledger.spent


def test_a_replay_calls_no_service_and_costs_nothing(tmp_path: Path) -> None:
    (reply,) = Desk(lambda _: tool_use(GOOD), tmp_path).run(request())
    ledger = Ledger({"m": PRICE}, budget=0.0)
    replay = Caller(None, Recordings(tmp_path, replaying=True), ledger, 1)
    assert asyncio.run(replay.call(request())) == reply
    assert ledger.calls[0].replayed
    assert ledger.spent == 0
    with pytest.raises(AgentError, match="no reply to this propose request"):
        asyncio.run(replay.call(request(words="something else")))


def test_the_key_of_a_request_covers_all_that_determines_its_reply() -> None:
    body = {"model": "m", "max_tokens": 1}
    requests = [
        Request("propose", "a", "p", "", body),
        Request("screen", "a", "p", "", body),
        Request("propose", "a", "p", "1", body),
        Request("propose", "a", "p", "", {**body, "model": "n"}),
    ]
    assert len({each.key for each in requests}) == len(requests)
    assert Request("propose", "b", "q", "", dict(reversed(body.items()))).key == requests[0].key


@pytest.mark.parametrize("broken", ["", "{", "{}", '{"reply": {"content": 3}, "seconds": 1}'])
def test_a_broken_recording_is_an_error_of_one_line(tmp_path: Path, broken: str) -> None:
    (tmp_path / f"{request().key}.json").write_text(broken)
    (failure,) = Desk(lambda _: tool_use(GOOD), tmp_path).run(request())
    assert isinstance(failure, AgentError)
    assert "not a recorded reply" in str(failure)
    assert "\n" not in str(failure)


def test_an_unwritable_folder_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (failure,) = Desk(lambda _: tool_use(GOOD), tmp_path / "file" / "folder").run(request())
    assert isinstance(failure, AgentError)
    assert sentences.CANNOT_STORE_REPLIES in str(failure)


# Keys.


def test_no_child_has_the_key(tmp_path: Path) -> None:
    os.environ["ANTHROPIC_CUSTOM_HEADERS"] = f"x-key: {KEY}"
    desk = Desk(lambda _: tool_use(GOOD), tmp_path)
    desk.run(request())
    assert desk.server is not None
    assert KEY in json.dumps(desk.server.headers), "the service gets it"
    assert KEY not in subprocess.run(["env"], capture_output=True, text=True, check=True).stdout


def test_a_key_that_a_gateway_echoes_is_not_stored(tmp_path: Path) -> None:
    desk = Desk(lambda _: Status(403, f"permission_error {KEY}"), tmp_path, retries=0)
    (failure,) = desk.run(request())
    assert isinstance(failure, ServiceFailed)
    assert KEY not in str(failure)
    os.environ["ANTHROPIC_API_KEY"] = KEY
    desk = Desk(lambda _: tool_use({"sound": True, "why": KEY}), tmp_path)
    assert desk.ask()[0].why == "(key)"
    assert all(KEY not in file.read_text() for file in tmp_path.iterdir())


def test_an_archive_does_not_choose_the_address_that_gets_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing, gateway = Preferences(), "https://gateway.example.org"
    for harmless in (None, "https://api.anthropic.com", "https://api.anthropic.com/v1"):
        refuse_address(harmless, nothing)
    refuse_address(gateway, Preferences(base_urls=("http://127.0.0.1:8000", gateway)))
    for elsewhere in (
        *(gateway, "http://api.anthropic.com", "https://api.anthropic.com@evil.example"),
        *("http://localhost.evil.example", "http://127.0.0.1.evil.example", "https://api.anthropic.com.evil.example"),
        # Another user of this machine may listen there.
        *("http://127.0.0.1:8000", "http://localhost", "http://[::1]:1"),
    ):
        with pytest.raises(PoiseError) as error:
            refuse_address(elsewhere, Preferences(base_urls=("https://other.example",)))
        command = ["git", "config", "--global", "--add", "poise.baseUrl", elsewhere]
        assert shlex.split(str(error.value).rpartition("allow it: ")[2]) == command
    monkeypatch.setenv("ANTHROPIC_BASE_URL", gateway)
    refuse_address(gateway, nothing)


def test_a_local_model_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path / "none"))
    assert isinstance(Desk(lambda _: tool_use(GOOD), tmp_path / "kept").run(request())[0], Reply)
