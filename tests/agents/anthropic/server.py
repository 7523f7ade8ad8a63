"""A local server for the Messages API, with scripted replies and every kind of failure."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Message:
    """A reply as the service gives it, whole or in pieces as the request asks."""

    content: tuple[Body, ...]
    stop_reason: str = "end_turn"
    stop_details: Body | None = None
    usage: Body = field(default_factory=lambda: {"input_tokens": 100, "output_tokens": 50})
    cut_after: int | None = None
    """Break the connection after so many events of the stream."""
    breaks_with: Body | None = None
    """Send this error event where the stream is cut."""


@dataclass(frozen=True)
class Status:
    code: int
    kind: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Raw:
    """Any bytes, called JSON."""

    text: str


@dataclass(frozen=True)
class Stall:
    seconds: float


Scripted = Message | Status | Raw | Stall
Script = Callable[[Body], Scripted]


def tool_use(arguments: Any, name: str = "answer") -> Message:
    return Message(({"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments},), "tool_use")


def text(words: str) -> Message:
    return Message(({"type": "text", "text": words},))


def one_after_another(*replies: Scripted) -> Script:
    """The scripted replies in this order; the last one repeats."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@dataclass
class Loopback:
    """The requests, and their paths."""

    url: str
    script: Script
    requests: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(script: Script) -> Iterator[Loopback]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.loopback = Loopback(f"http://127.0.0.1:{server.server_port}", script)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.loopback  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        loopback: Loopback = self.server.loopback  # type: ignore[attr-defined]
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with loopback.lock:
            loopback.requests.append(request)
            loopback.headers.append({name.lower(): value for name, value in self.headers.items()})
            loopback.under_way += 1
            loopback.most_at_once = max(loopback.most_at_once, loopback.under_way)
            scripted = loopback.script(request)
        try:
            self._answer(request, scripted)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with loopback.lock:
                loopback.under_way -= 1

    def _answer(self, request: Body, scripted: Scripted) -> None:
        match scripted:
            case Stall(seconds):
                time.sleep(seconds)
                self._send(503, json.dumps({"type": "error", "error": {"type": "api_error", "message": "late"}}))
            case Status(code, kind, headers):
                error = {"type": "error", "error": {"type": kind, "message": f"scripted {kind}"}}
                self._send(code, json.dumps(error), dict(headers))
            case Raw(words):
                self._send(200, words)
            case Message() if request.get("stream"):
                self._stream(request, scripted)
            case Message():
                self._send(200, json.dumps(_message(request, scripted)))

    def _send(self, code: int, body: str, headers: dict[str, str] | None = None) -> None:
        data = body.encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, request: Body, scripted: Message) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for place, event in enumerate(_events(request, scripted)):
            if place == scripted.cut_after:
                if scripted.breaks_with is not None:
                    self._chunk(f"event: error\ndata: {json.dumps(scripted.breaks_with)}\n\n")
                    break
                self.close_connection = True
                self.wfile.flush()
                self.connection.close()
                return
            self._chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, words: str) -> None:
        data = words.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _message(request: Body, scripted: Message) -> Body:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": list(scripted.content),
        "stop_reason": scripted.stop_reason,
        "stop_sequence": None,
        "stop_details": scripted.stop_details,
        "usage": scripted.usage,
    }


def _events(request: Body, scripted: Message) -> Iterator[Body]:
    whole = _message(request, scripted)
    start = {**whole, "content": [], "stop_reason": None, "stop_details": None}
    yield {"type": "message_start", "message": {**start, "usage": {**scripted.usage, "output_tokens": 1}}}
    for index, block in enumerate(scripted.content):
        if block["type"] == "tool_use":
            opened, words, kind, part = {**block, "input": {}}, json.dumps(block["input"]), "input_json", "partial_json"
        else:
            opened, words, kind, part = {**block, "text": ""}, block["text"], "text", "text"
        yield {"type": "content_block_start", "index": index, "content_block": opened}
        for begin in range(0, len(words), 40):
            delta = {"type": f"{kind}_delta", part: words[begin : begin + 40]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": scripted.stop_reason, "stop_sequence": None, "stop_details": scripted.stop_details},
        "usage": {"output_tokens": scripted.usage["output_tokens"]},
    }
    yield {"type": "message_stop"}
