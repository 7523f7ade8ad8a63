from __future__ import annotations

from pathlib import Path

import click

from poise_git.pipeline.backends import BACKENDS


@click.command(name="init", epilog="Example: poise-git init my-search --directive 'accurate and concise'")
@click.argument("target", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--backend", type=click.Choice(sorted(BACKENDS)), default="testbed", show_default=True)
@click.option("--directive", default="", help="What to look for, in words; kept in poise.yaml.")
def command(target: Path | None, backend: str, directive: str) -> None:
    """Make a new archive from the template.

    DIR must be empty or not exist; the default is the current directory.
    """
    from poise_git.cli.common import directory
    from poise_git.creation import create_archive

    archive = create_archive(directory() / target if target else directory(), backend=backend, directive=directive)
    click.echo(f"made an archive in {archive.root}")
    click.echo(f"next: poise-git evolve {archive.root}    or edit poise.yaml first")
