"""Send one request to the Messages API through the official SDK, which retries, waits and times out.

Every failure raises an error that names it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from anthropic.lib.streaming import AsyncMessageStream
from pydantic import ValidationError

from poise_git.agents.anthropic.messages import Reply, Request, Usage
from poise_git.errors import ServiceFailed, UsageError
from poise_git.settings import AnthropicSettings

# Stream longer replies, because proxies close a connection that is silent for minutes.
STREAM_ABOVE = 4096
# Environment variables that may hold a key. No child process needs them.
SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_IDENTITY_TOKEN")
_WORTH_HIDING = 8


class Interrupted(Exception):
    """A reply ended early or was malformed; `usage` is its assumed cost."""

    def __init__(self, reason: str, usage: Usage | None) -> None:
        self.reason, self.usage = reason, usage
        super().__init__(reason)


class Service:
    """The Messages API at the address in the settings, which the user has allowed, or in the SDK's variables.

    It removes the keys from `environment`, so that no child process has them.

    Raises:
        UsageError: the SDK's variables are wrong, or there is no key.
    """

    def __init__(
        self,
        settings: AnthropicSettings,
        *,
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        address = settings.base_url or environment.get("ANTHROPIC_BASE_URL") or ""
        # A model on this machine needs no key, but the SDK requires one.
        needs_none = is_of_this_machine(address) and not any(environment.get(name) for name in SECRETS[:2])
        try:
            self._client = AsyncAnthropic(
                base_url=settings.base_url,
                api_key="none" if needs_none else None,
                timeout=settings.timeout,
                max_retries=settings.retries,
            )
        except anthropic.AnthropicError as error:
            raise UsageError(f"{_one_line(error)}; or export ANTHROPIC_API_KEY=...") from error
        found = (environment.pop(name, "") for name in SECRETS)
        keys = (self._client.api_key or "", self._client.auth_token or "", *found)
        self._secrets = tuple(key for key in keys if len(key) >= _WORTH_HIDING)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Connections live as long as the event loop that created them."""
        async with DefaultAsyncHttpxClient() as http, self._client.copy(http_client=http) as client:
            yield Connection(client, self._secrets)


class Connection:
    def __init__(self, client: AsyncAnthropic, secrets: tuple[str, ...]) -> None:
        self._client, self._secrets = client, secrets

    async def send(self, request: Request) -> Reply:
        """The reply, with any `stop_reason`.

        Raises:
            ServiceFailed: the service does not answer, after the SDK's retries.
            Interrupted: the answer broke off or is malformed.
        """
        try:
            if request.max_tokens > STREAM_ABOVE:
                return await self._stream(request)
            return self._read(await self._client.messages.create(**request.body))
        except anthropic.APIStatusError as error:
            kind = error.type or f"status {error.status_code}"
            raise ServiceFailed(self._say(f"{kind}: {error.api_message or error.message}", _advice(error))) from error
        except anthropic.APITimeoutError as error:
            raise ServiceFailed(self._say("no answer in time", "poise.yaml: anthropic.timeout")) from error
        except anthropic.APIConnectionError as error:
            raise ServiceFailed(self._say("no connection", "poise.yaml: anthropic.base_url")) from error
        except TypeError as error:
            if "authentication" not in str(error):
                raise
            raise ServiceFailed(self._say("no key", "export ANTHROPIC_API_KEY=...")) from error
        except (anthropic.AnthropicError, ValueError) as error:
            raise Interrupted(f"malformed: {_one_line(error)}", None) from error

    async def _stream(self, request: Request) -> Reply:
        stream: AsyncMessageStream[None] | None = None
        try:
            async with self._client.messages.stream(**request.body) as stream:
                reply = self._read(await stream.get_final_message())
        except httpx2.TransportError as error:
            raise Interrupted(f"cut off: {type(error).__name__}", _usage_so_far(stream)) from error
        except (ValueError, AssertionError, RuntimeError) as error:
            raise Interrupted(f"malformed: {_one_line(error)}", _usage_so_far(stream)) from error
        except anthropic.APIStatusError as error:
            # An error event in the middle of a stream follows a successful status.
            if error.status_code >= 400:
                raise
            raise Interrupted(f"broken off: {error.type or 'an error'}", _usage_so_far(stream)) from error
        if reply.stop_reason is None:
            raise Interrupted("cut off: the stream ended before the reply", _usage_so_far(stream))
        return reply

    def _read(self, message: Any) -> Reply:
        """The message as a reply without the keys: replies are stored, and a gateway may echo a key."""
        if not isinstance(message, anthropic.BaseModel):
            raise Interrupted("malformed: the reply is not a message", None)
        text = self._hide(message.to_json(indent=None, warnings=False))
        try:
            return Reply.model_validate_json(text)
        except ValidationError as error:
            raise Interrupted(f"malformed: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}", None) from error

    def _say(self, what: str, advice: str) -> str:
        host = urlsplit(str(self._client.base_url)).netloc.rpartition("@")[2]
        return self._hide(f"{host}: {_one_line(what)}; {advice}; the same command continues from here")

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "(key)")
        return text


def is_of_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _usage_so_far(stream: AsyncMessageStream[None] | None) -> Usage | None:
    """The assumed tokens of a broken stream: the input, and one output token per two characters received."""
    try:
        snapshot = stream.current_message_snapshot if stream is not None else None
    except AssertionError:
        snapshot = None
    if snapshot is None:
        return None
    seen = sum(len(block.to_json(indent=None, warnings=False)) for block in snapshot.content)
    usage = Usage.model_validate_json(snapshot.usage.to_json())
    return usage.model_copy(update={"output_tokens": max(usage.output_tokens, seen // 2)})


def _advice(error: anthropic.APIStatusError) -> str:
    if error.status_code in (401, 403):
        return "check ANTHROPIC_API_KEY"
    if error.status_code in (400, 404, 413, 422):
        return "check anthropic: in poise.yaml"
    return "try again later"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]
