"""Prompt templates: the shipped ones, or the archive's own of the same name in `prompts/` on its `main` branch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from poise_git.archive.documents import dump_yaml
from poise_git.archive.entries import Proposal
from poise_git.package_data import read_prompt
from poise_git.search.context.rendering import quoted
from poise_git.untrusted.template import fill_template

# Template -> its name in archives of earlier versions.
FORMER_NAMES = {"distill.md.j2": "distil.md.j2"}


@dataclass(frozen=True)
class Rendered:
    """A prompt's text, and the git blob id of its template; `git cat-file -p ID` shows an archive's own template."""

    text: str
    blob: str


@dataclass(frozen=True)
class Prompts:
    """The prompt templates. `own` holds the archive's templates by file name.

    The archive's templates are untrusted, so they have access only to their values.
    """

    own: Mapping[str, str] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """The text of a template. An archive's own may still have its name of an earlier version."""
        own = self.own.get(name, self.own.get(FORMER_NAMES.get(name, name)))
        return read_prompt(name) if own is None else own

    def render(self, name: str, **values: Any) -> Rendered:
        """The template `name` with these values.

        Raises:
            UsageError: the archive's own template is wrong.
        """
        source = self.source(name)
        text = fill_template(source, f"prompts/{name}", values, {"quoted": quoted, "as_yaml": _as_yaml})
        # The newline at the end of the file is not part of a prompt.
        return Rendered(text.removesuffix("\n"), _blob_id(source))


def _as_yaml(proposal: Proposal) -> str:
    """The content of a proposal, including the agent's notes on how to implement it."""
    return dump_yaml(proposal.to_data())


def _blob_id(text: str) -> str:
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
