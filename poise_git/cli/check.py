from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from poise_git.cli.common import candidate_argument, json_option, open_archive, print_json
from poise_git.cli.output import echo

if TYPE_CHECKING:
    from poise_git.archive import Archive
    from poise_git.steps.containment import Containing


@click.command(
    name="check",
    epilog="""\b
Examples:
  poise-git check av-grpo                 check a candidate
  poise-git check HEAD                    check recipe/algorithm.py of that commit
  poise-git check --file algorithm.py     check a file that is not committed yet
  poise-git check --staged                check the staged text, as the pre-commit hook does
  poise-git check --all                   check every candidate, for example after commits without hooks
""",
)
@candidate_argument("ref", required=False)
@click.option("--file", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Check this file")
@click.option("--staged", is_flag=True, help="Run only the static checks, on the staged recipe")
@click.option(
    "--all", "everything", is_flag=True, help="Check the commits, messages, code and evidence of every candidate"
)
@json_option
def command(ref: str | None, file: Path | None, staged: bool, everything: bool, as_json: bool) -> None:
    """Run the checks that precede training."""
    from poise_git.errors import UsageError

    if [ref is not None, file is not None, staged, everything].count(True) != 1:
        raise UsageError(
            "name exactly one of a candidate (or revision), --file, --staged and --all: poise-git check HEAD"
        )
    if staged:
        _check_staged(as_json=as_json)
    elif everything:
        _check_all(as_json=as_json)
    else:
        _check(ref, file, as_json=as_json)


def _check(ref: str | None, file: Path | None, *, as_json: bool) -> None:
    from poise_git.archive.entries import ROOT, Claim
    from poise_git.errors import CheckFailed
    from poise_git.experiment import load_poise_settings
    from poise_git.operators.inspect import ALGORITHM
    from poise_git.pipeline.checks import check_candidate
    from poise_git.pipeline.sandbox import Sandbox
    from poise_git.pipeline.sandbox.removal import fresh_folder

    archive = open_archive()
    genealogy = archive.genealogy()
    root = archive.recipe(ROOT)
    parent = root
    parents: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    if file is not None:
        recipe = {**root, ALGORITHM: file.read_text(encoding="utf-8", errors="replace")}
    else:
        assert ref is not None
        recipe = archive.recipe(ref)
        known = genealogy.by_name.get(ref.removeprefix("poise/"))
        if known and known.parents:
            proposal = archive.proposal(known.name) or archive.stated_proposal(known)
            parents, claims = known.parents, proposal.claims
            parent = archive.recipe(parents[0])
    containment = _containing(archive).of_checks(recipe.get(ALGORITHM, ""), parents, genealogy)
    with (
        Sandbox(load_poise_settings(archive).sandbox) as sandbox,
        fresh_folder() as scratch,
    ):
        report = check_candidate(recipe, claims, parent, sandbox, scratch, containment)
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
        echo(f"  ok    {name}  ({seconds * 1000:.0f} ms)")
    for verdict in report.claims:
        echo(f"  {verdict.verdict}  {verdict.claim.statement}: {verdict.because}")
    if report.failure:
        raise report.failure
    echo(f"{len(report.passed)} checks passed")


def _check_staged(*, as_json: bool) -> None:
    """Run the static checks. A hook calls this before the editor opens, so it must not load torch."""
    from poise_git.archive.writer import ALGORITHM
    from poise_git.errors import CheckFailed, UsageError
    from poise_git.pipeline.checks.runner import check_text

    text = open_archive().staged_text(ALGORITHM)
    if text is None:
        raise UsageError(f"{ALGORITHM} is not staged; run: git add {ALGORITHM}")
    failure = check_text({"algorithm.py": text}, {})
    if as_json:
        print_json({"failure": {"check": failure.check, "reason": failure.reason} if failure else None})
        if failure:
            click.get_current_context().exit(CheckFailed.exit_code)
    elif failure:
        raise failure
    else:
        echo("all static checks passed")


def _check_all(*, as_json: bool) -> None:
    from dataclasses import asdict

    from poise_git.errors import PoiseError
    from poise_git.experiment import load_poise_settings
    from poise_git.operators.inspect import inspect
    from poise_git.pipeline.sandbox import Sandbox

    archive, findings = open_archive(), []
    with Sandbox(load_poise_settings(archive).sandbox) as sandbox:
        for finding in inspect(archive, sandbox, _containing(archive)):
            findings.append(finding)
            if not as_json:
                echo(f"{finding.where.removeprefix('refs/heads/')}: {finding.what}; {finding.advice}")
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    elif not findings:
        echo(f"all {len(archive.genealogy())} candidates passed")
    if findings:
        click.get_current_context().exit(PoiseError.exit_code)


def _containing(archive: Archive) -> Containing:
    """Containment as the user has configured it; warns on stderr about missing layers."""
    from poise_git.cli.render import missing_layers_text
    from poise_git.steps.containment import Containing
    from poise_git.user.preferences import Preferences

    containing = Containing.on_this_machine(archive, Preferences.load())
    if containing.missing:
        text = missing_layers_text(containing.missing_names, allowed=containing.allowed == "allow")
        echo(f"poise-git: {text}", err=True)
    return containing
