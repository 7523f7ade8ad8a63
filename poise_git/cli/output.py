"""The one way out: every line that a verb prints goes through here, so that a terminal obeys none of it."""

from __future__ import annotations

from typing import Any

import click

from poise_git.untrusted.display import json_text, visible


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text, on stderr with `err`, with what is invisible made visible."""
    click.echo(visible(text), err=err, nl=nl)


def echo_json(document: Any, *, indent: int | None = None) -> None:
    """Print one JSON document, on one line unless `indent` says otherwise."""
    click.echo(json_text(document, indent=indent, default=str))
