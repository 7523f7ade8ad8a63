from __future__ import annotations

import tempfile
from pathlib import Path

import click

from poise_git.cli.common import candidate_argument, json_option, open_archive, print_json


@click.command(
    name="check",
    epilog="""\b
Examples:
  poise-git check av-grpo                 a candidate
  poise-git check HEAD                    whatever is committed there as recipe/algorithm.py
  poise-git check --file algorithm.py     a file that is not committed yet
""",
)
@candidate_argument("ref", required=False)
@click.option("--file", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Check this file.")
@json_option
def command(ref: str | None, file: Path | None, as_json: bool) -> None:
    """Run all checks that come before training."""
    from poise_git.archive.entries import ROOT, Claim
    from poise_git.errors import CheckFailed, UsageError
    from poise_git.experiment import load_poise_settings
    from poise_git.pipeline.checks import check_candidate
    from poise_git.pipeline.sandbox import Sandbox

    if (ref is None) == (file is None):
        raise UsageError("name either a candidate (or revision) or --file: poise-git check HEAD")
    archive = open_archive()
    root = archive.recipe(ROOT)
    parent = root
    claims: tuple[Claim, ...] = ()
    if file is not None:
        recipe = {**root, "algorithm.py": file.read_text(encoding="utf-8", errors="replace")}
    else:
        assert ref is not None
        recipe = archive.recipe(ref)
        known = archive.genealogy().by_name.get(ref.removeprefix("poise/"))
        proposal = archive.proposal(known.name) if known else None
        if known and proposal and known.parents:
            parent, claims = archive.recipe(known.parents[0]), proposal.claims
    with (
        Sandbox(load_poise_settings(archive).sandbox) as sandbox,
        tempfile.TemporaryDirectory(prefix="poise-") as scratch,
    ):
        report = check_candidate(recipe, claims, parent, sandbox, Path(scratch))
    if as_json:
        failure = {"check": report.failure.check, "reason": report.failure.reason} if report.failure else None
        print_json(
            {
                "passed": [{"check": name, "seconds": round(seconds, 4)} for name, seconds in report.passed],
                "failure": failure,
                "claims": [
                    {"statement": entry.claim.statement, "verdict": str(entry.verdict), "because": entry.because}
                    for entry in report.claims
                ],
            }
        )
        if report.failure:
            click.get_current_context().exit(CheckFailed.exit_code)
        return
    for name, seconds in report.passed:
        click.echo(f"  ok    {name}  ({seconds * 1000:.0f} ms)")
    for verdict in report.claims:
        click.echo(f"  {verdict.verdict}  {verdict.claim.statement}: {verdict.because}")
    if report.failure:
        raise report.failure
    click.echo(f"{len(report.passed)} checks passed")
