"""The resources that all operators share: settings, prompts, ledger, recordings, and concurrent calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Generic

from poise_git.agents.anthropic.asking import Answer, Question, ask
from poise_git.agents.anthropic.caller import Caller
from poise_git.agents.anthropic.ledger import Ledger
from poise_git.agents.anthropic.prompts import Prompts, Rendered
from poise_git.agents.anthropic.recordings import Recordings
from poise_git.agents.anthropic.service import Service
from poise_git.errors import ReplyUnusable
from poise_git.package_data import template_files
from poise_git.pipeline.checks import allowed
from poise_git.settings import AnthropicSettings

RULES = "rules.md.j2"


def no_objection(answer: object) -> str:
    return ""


@dataclass(frozen=True)
class Answered(Generic[Answer]):
    """An answer, and the objection that remains to it, which is empty if the answer is accepted."""

    answer: Answer
    objection: str


@dataclass(frozen=True)
class Session:
    """The resources of all operators; `service` is None if only recordings answer."""

    settings: AnthropicSettings
    prompts: Prompts
    ledger: Ledger
    recordings: Recordings
    service: Service | None

    def question(
        self, operator: str, subject: str, task: Rendered, *, shared: str = "", occasion: str = ""
    ) -> Question:
        return Question(operator, subject, task.blob, self._rules, shared, task.text, occasion)

    def ask(
        self, question: Question, answer: type[Answer], objection: Callable[[Answer], str] = no_objection
    ) -> Answered[Answer]:
        """Ask one question; see `asking.ask`. Raises ReplyUnusable, BudgetReached, ServiceFailed."""
        (outcome,) = self.ask_all([question], answer, objection)
        if isinstance(outcome, ReplyUnusable):
            raise outcome
        return outcome

    def ask_all(
        self, questions: Sequence[Question], answer: type[Answer], objection: Callable[[Answer], str] = no_objection
    ) -> list[Answered[Answer] | ReplyUnusable]:
        """Ask all at once; each gets an answer or a named failure.

        An error that concerns all of them (BudgetReached, ServiceFailed) is raised after all have ended, so that every
        answer is recorded.
        """

        async def one(caller: Caller, question: Question) -> Answered[Answer]:
            return Answered(*await ask(caller, self.settings, question, answer, objection))

        async def together() -> list[Answered[Answer] | BaseException]:
            async with self._caller() as caller:
                return await asyncio.gather(*(one(caller, each) for each in questions), return_exceptions=True)

        outcomes: list[Answered[Answer] | ReplyUnusable] = []
        for outcome in asyncio.run(together()):
            if isinstance(outcome, BaseException) and not isinstance(outcome, ReplyUnusable):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    @asynccontextmanager
    async def _caller(self) -> AsyncIterator[Caller]:
        if self.service is None:
            yield Caller(None, self.recordings, self.ledger, self.settings.parallel)
        else:
            async with self.service.connected() as connection:
                yield Caller(connection, self.recordings, self.ledger, self.settings.parallel)

    @cached_property
    def _rules(self) -> str:
        return self.prompts.render(
            RULES, rollouts=template_files()["recipe/rollouts.py"], allowed=allowed.describe()
        ).text
