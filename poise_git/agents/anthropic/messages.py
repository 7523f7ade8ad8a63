"""Requests to the Messages API and its replies as values, and the hash that identifies a request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

# An upper bound: the service adds a preamble of some hundred tokens to a request with tools.
PREAMBLE = 2000


class Usage(BaseModel):
    """Tokens as the service bills them; each input token belongs to one of the three kinds."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class StopDetails(BaseModel):
    model_config = ConfigDict(frozen=True)

    category: str | None = None
    explanation: str | None = None


class Reply(BaseModel):
    """A reply. `content` holds the service's blocks unchanged, because a follow-up must return them as they are."""

    model_config = ConfigDict(frozen=True)

    content: list[dict[str, Any]]
    usage: Usage
    stop_reason: str | None = None
    stop_details: StopDetails | None = None

    def inputs(self, tool: str) -> list[Any]:
        """The arguments of every call of `tool`."""
        return [block.get("input") for block in self.content if _is_call(block) and block.get("name") == tool]

    @property
    def calls(self) -> list[str]:
        """The identifiers of the tool calls; a follow-up must answer each of them."""
        return [str(block.get("id")) for block in self.content if _is_call(block)]


@dataclass(frozen=True)
class Request:
    """One call: its purpose, and the body of the request.

    `prompt` is the git blob id of its template. `occasion` distinguishes calls that repeat a question on purpose.
    """

    operator: str
    subject: str
    prompt: str
    occasion: str
    body: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The key of a recorded reply: a hash of everything that the reply may depend on."""
        return hashlib.sha256(_canonical([self.operator, self.occasion, self.body])).hexdigest()[:32]

    @property
    def most_input_tokens(self) -> int:
        """An upper bound on the tokens: no token is shorter than a byte."""
        return len(_canonical(self.body)) + PREAMBLE

    @property
    def max_tokens(self) -> int:
        return int(self.body["max_tokens"])

    @property
    def model(self) -> str:
        return str(self.body["model"])


def _canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")


def _is_call(block: Mapping[str, Any]) -> bool:
    return block.get("type") == "tool_use"
