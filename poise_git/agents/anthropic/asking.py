"""Ask for typed answers: a pydantic model is the schema of a tool, and a reply that does not fit is sent back once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from poise_git.agents.anthropic.caller import Caller
from poise_git.agents.anthropic.messages import Reply, Request
from poise_git.errors import ReplyUnusable
from poise_git.settings import AnthropicSettings

Answer = TypeVar("Answer", bound=BaseModel)
TOOL = "answer"
ATTEMPTS = 2
_CACHED = {"type": "ephemeral"}


@dataclass(frozen=True)
class Question:
    """One question.

    `rules` never change for an operator, and `shared` is the same for calls made together, so the service keeps both in
    its prompt cache. `task` is for this call only. `prompt` is the blob id of the template of `task`.
    """

    operator: str
    subject: str
    prompt: str
    rules: str
    shared: str
    task: str
    occasion: str = ""


async def ask(
    caller: Caller,
    settings: AnthropicSettings,
    question: Question,
    answer: type[Answer],
    objection: Callable[[Answer], str] = lambda _: "",
) -> tuple[Answer, str]:
    """The answer, and the objection that remains to it, which is empty if the answer is accepted.

    A reply is sent back once, with the reason, if it does not use the tool, if it does not fit the tool's schema, or if
    `objection` returns a text.

    Raises:
        ReplyUnusable: no reply fits the schema.

    Also raises the errors of `Caller.call`.
    """
    conversation, kept, problem = _opening(question), None, ""
    for _ in range(ATTEMPTS):
        reply = await caller.call(_request(settings, question, conversation, answer))
        found, problem = _parse(reply, answer)
        if found is not None:
            kept = found, objection(found)
            if not (problem := kept[1]):
                break
        conversation = [*conversation, *_send_back(reply, problem)]
    if kept is None:
        raise ReplyUnusable(question.operator, f"schema: {problem}")
    return kept


def _request(
    settings: AnthropicSettings, question: Question, conversation: Sequence[dict[str, Any]], answer: type[Answer]
) -> Request:
    body: dict[str, Any] = {
        "model": settings.model,
        "max_tokens": settings.max_tokens,
        "system": [{"type": "text", "text": question.rules, "cache_control": _CACHED}],
        "messages": list(conversation),
        "tools": [_tool(answer)],
        "tool_choice": {"type": "tool", "name": TOOL} if settings.tool_choice == "tool" else {"type": "auto"},
    }
    if settings.effort is not None:
        body["output_config"] = {"effort": settings.effort}
    return Request(question.operator, question.subject, question.prompt, question.occasion, body)


def _tool(answer: type[BaseModel]) -> dict[str, Any]:
    return {"name": TOOL, "description": (answer.__doc__ or "").strip(), "input_schema": answer.model_json_schema()}


def _opening(question: Question) -> list[dict[str, Any]]:
    shared = [{"type": "text", "text": question.shared, "cache_control": _CACHED}] if question.shared else []
    return [{"role": "user", "content": [*shared, {"type": "text", "text": question.task}]}]


def _parse(reply: Reply, answer: type[Answer]) -> tuple[Answer | None, str]:
    given = reply.inputs(TOOL)
    if len(given) != 1:
        return None, f"call the tool `{TOOL}` exactly once; you called it {len(given)} times"
    try:
        return answer.model_validate(given[0]), ""
    except ValidationError as error:
        found = (f"{'.'.join(map(str, entry['loc'])) or 'input'}: {entry['msg']}" for entry in error.errors()[:5])
        return None, "; ".join(found)


def _send_back(reply: Reply, problem: str) -> list[dict[str, Any]]:
    """The unchanged reply, and its problem in the form of a tool result."""
    said = f"Not accepted: {problem}. Correct this and call the tool `{TOOL}` once more."
    if not reply.content:
        return [{"role": "user", "content": [{"type": "text", "text": said}]}]
    results = [
        {"type": "tool_result", "tool_use_id": identifier, "content": said, "is_error": True}
        for identifier in reply.calls
    ]
    return [
        {"role": "assistant", "content": reply.content},
        {"role": "user", "content": results or [{"type": "text", "text": said}]},
    ]
