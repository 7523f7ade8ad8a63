"""How candidates' code is contained: by what the user allows, by what this machine lacks, and by who wrote it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poise_git.agents.library.provenance import Provenance
from poise_git.archive.entries import Candidate, Proposal
from poise_git.archive.genealogy import Genealogy
from poise_git.pipeline.boundary.hosting import STRICT, Containment
from poise_git.pipeline.sandbox import Layer
from poise_git.preferences import MissingLayers


@dataclass(frozen=True)
class Containing:
    """The containment of each candidate.

    Where a layer of the sandbox is missing, code that we ship runs all the same; other code does where the user allows
    it for this machine. An archive has no say.

    Attributes:
        missing: the layers that this machine lacks.
        allowed: what the user has chosen for other code.
        trusted: the user's word, by `--trust`, that every candidate may run in the trainer's own process.
    """

    provenance: Provenance
    missing: tuple[Layer, ...] = ()
    allowed: MissingLayers = "refuse"
    trusted: bool = False

    def of(self, candidate: Candidate, genealogy: Genealogy) -> Containment:
        """Of a candidate of the archive."""
        return self._containment(lambda: self.provenance.is_shipped(candidate, genealogy))

    def of_proposal(self, proposal: Proposal, text: str, genealogy: Genealogy) -> Containment:
        """Of code that is no candidate yet: a child of the proposal's parents."""
        return self._containment(lambda: self.provenance.is_shipped_child(text, _parents(proposal), genealogy))

    def _containment(self, is_shipped: Callable[[], bool]) -> Containment:
        if self.trusted:
            return Containment(trusted=True, may_lack_layers=True)
        # The walk along the lineage takes a second, and matters on few machines.
        if self.missing and (self.allowed == "allow" or is_shipped()):
            return Containment(may_lack_layers=True)
        return STRICT


def _parents(proposal: Proposal) -> tuple[str, ...]:
    return tuple(name for name in (proposal.parent, proposal.second_parent) if name)
