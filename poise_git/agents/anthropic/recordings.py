"""Store replies in files named by the hash of their request, so that no paid reply is lost and a search can be
replayed."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from poise_git.agents.anthropic.messages import Reply, Request
from poise_git.errors import AgentError

VERSION = 1


@dataclass(frozen=True)
class Recorded:
    reply: Reply
    seconds: float


@dataclass(frozen=True)
class Recordings:
    """A folder of replies. With `replaying`, only these replies are used and the service is never called."""

    folder: Path
    replaying: bool = False

    def find(self, request: Request) -> Recorded | None:
        """The reply to the same request, if it was recorded.

        Raises:
            AgentError: the reply was not recorded, and the service must not be called; or its file is broken.
        """
        file = self.folder / f"{request.key}.json"
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            return Recorded(Reply.model_validate(data["reply"]), float(data["seconds"]))
        except (FileNotFoundError, NotADirectoryError):
            if self.replaying:
                raise AgentError(
                    f"{self.folder}: no reply to this {request.operator} request ({request.key}): the archive, its "
                    f"settings or its prompts have changed since the recording; record again with "
                    "anthropic.replay.mode: record"
                ) from None
            return None
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, ValidationError) as error:
            raise AgentError(
                f"{file}: not a recorded reply: {' '.join(str(error).split())[:200]}; delete it"
            ) from error

    def keep(self, request: Request, recorded: Recorded) -> None:
        """Write a reply to its file atomically.

        Raises:
            AgentError: the folder cannot be written.
        """
        data = {
            "version": VERSION,
            "operator": request.operator,
            "subject": request.subject,
            "model": request.model,
            "prompt": request.prompt,
            "seconds": round(recorded.seconds, 3),
            "reply": recorded.reply.model_dump(mode="json"),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".json")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file, ensure_ascii=False, indent=1)
            os.replace(name, self.folder / f"{request.key}.json")
        except OSError as error:
            raise AgentError(f"{self.folder}: cannot store replies: {error.strerror}; free some disk space") from error
