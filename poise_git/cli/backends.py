"""The option `--backend`, in a separate module because it loads the list of backends."""

from __future__ import annotations

import click

from poise_git.cli.common import Function
from poise_git.pipeline.backends import BACKENDS


def backend_option(function: Function) -> Function:
    return click.option(
        "--backend",
        type=click.Choice(sorted(BACKENDS)),
        default=None,
        help="Backend that trains and evaluates (default: the protocol's)",
    )(function)
