"""Find figures of an archive that do not add up, under every protocol."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git.archive import Archive
from poise_git.archive.conformity import Finding
from poise_git.errors import PoiseError
from poise_git.experiment import Experiment, protocol_files


def audit(archive: Archive) -> Iterator[Finding]:
    """The problems of the figures of every committed protocol that has figures."""
    genealogy = archive.genealogy()
    hashes = {protocol for candidate in genealogy for protocol in candidate.metrics}
    for name, hash_ in protocol_files(archive).items():
        if hash_ not in hashes:
            continue
        try:
            experiment = Experiment.load(archive, protocol=name, committed=True)
            yield from experiment.auditor.findings(genealogy)
        except PoiseError as error:
            yield Finding(f"protocol {name}", f"its figures cannot be recomputed: {error}", "poise-git status")
