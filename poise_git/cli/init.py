from __future__ import annotations

from pathlib import Path

import click

from poise_git.cli.backends import backend_option
from poise_git.cli.common import device_option
from poise_git.cli.output import echo


@click.command(name="init", epilog="Example: poise-git init my-search --directive 'accurate and concise'")
@click.argument("target", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), required=False)
@backend_option
@click.option("--protocol", metavar="P", help="Protocol: a file in protocols/, without .yaml (default: the backend's)")
@device_option
@click.option("--directive", default="", help="Steer the search in words; stored in poise.yaml")
def command(target: Path | None, backend: str | None, protocol: str | None, device: str | None, directive: str) -> None:
    """Create an archive from the template.

    DIR must be empty or not exist. The default is the current directory.
    """
    import shlex

    from poise_git.cli.common import directory
    from poise_git.template import create_archive

    place = directory() / target if target else directory()
    archive = create_archive(place, backend=backend, protocol=protocol, device=device, directive=directive)
    echo(f"created an archive in {archive.root}")
    echo(f"next: poise-git evolve {shlex.quote(str(archive.root))}    (or edit poise.yaml first)")
