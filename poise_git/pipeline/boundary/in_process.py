"""A candidate in the calling process, for `--trust` and for our own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from poise_git.pipeline.boundary.answering import answer, load_candidate
from poise_git.pipeline.boundary.frames import Frame
from poise_git.pipeline.boundary.process import Question


class InProcess:
    """See `poise_git.pipeline.boundary.process.Answering`; nothing separates the candidate from its caller."""

    def __init__(self, recipe: Mapping[str, str]) -> None:
        self._module = load_candidate(recipe)

    def ask(self, what: str, content: Mapping[str, Any], tensors: Sequence[Tensor]) -> Frame:
        copies = tuple(tensor.detach().cpu().clone() for tensor in tensors)
        # Behind the boundary there is only one device; make it the default here, too.
        elsewhere = torch.get_default_device().type != "cpu"
        with torch.device("cpu") if elsewhere else nullcontext():
            described, answered = answer(self._module, Frame({"ask": what, **content}, copies))
        return Frame(described, tuple(tensor.detach().clone() for tensor in answered))

    def ask_all(self, questions: Sequence[Question]) -> list[Frame]:
        return [self.ask(question.what, question.content, question.tensors) for question in questions]

    def close(self) -> None:
        return
