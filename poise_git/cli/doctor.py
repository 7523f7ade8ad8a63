from __future__ import annotations

import click

from poise_git.cli.common import directory, json_option, open_archive, print_json
from poise_git.cli.output import echo


@click.command(name="doctor", epilog="Example: poise-git -C my-search doctor --repair")
@click.option("--repair", is_flag=True, help="Repair everything that can be repaired without loss; complete a clone")
@json_option
def command(repair: bool, as_json: bool) -> None:
    """Check the archive and this machine's sandbox.

    Recompute every figure from the archived runs and list those that do not add up.

    With --repair, turn a plain `git clone` into a complete archive: fetch what clone leaves out and install the hooks.
    """
    from dataclasses import asdict

    from poise_git.archive import Archive
    from poise_git.errors import PoiseError
    from poise_git.operators.audit import audit
    from poise_git.package_data import hook_files
    from poise_git.pipeline.sandbox import isolation

    archive = Archive.complete(directory()) if repair else open_archive()
    if repair:
        archive.repair(hook_files())
    findings, layers = (*archive.examine(hook_files()), *audit(archive)), isolation()
    if as_json:
        print_json(
            {
                "findings": [asdict(finding) for finding in findings],
                "sandbox": [asdict(layer) for layer in layers],
            }
        )
    else:
        for finding in findings:
            echo(f"found   {finding.where}: {finding.what}; {finding.advice}")
        for name in archive.local_hooks():
            echo(f"hook    {name}: calls your own hook first, which is kept as {name}.local")
        echo(f"archive {'has problems' if findings else 'is sound'}: {archive.root}")
        for layer in layers:
            echo(
                f"sandbox {'up  ' if layer.up else 'DOWN'}  {layer.name}"
                + (f": {layer.detail}" if layer.detail else "")
            )
    if findings:
        found = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
        repair = any(finding.repairable for finding in findings)
        advice = "to repair them: poise-git doctor --repair" if repair else "each line ends with the command to run"
        raise PoiseError(f"{found}; {advice}")
