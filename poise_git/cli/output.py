"""The only output path of the commands. It escapes control characters, so that the terminal does not execute them."""

from __future__ import annotations

from typing import Any

import click

from poise_git.untrusted.display import json_text, visible


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text, on stderr with `err`, and make invisible characters visible."""
    click.echo(visible(text), err=err, nl=nl)


def echo_json(document: Any, *, indent: int | None = None) -> None:
    """Print one JSON document, on one line unless `indent` is given."""
    click.echo(json_text(document, indent=indent, default=str))
