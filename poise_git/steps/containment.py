"""How candidates' code is contained: by what the user allows, by what this machine lacks, and by who wrote it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from poise_git.agents.library.provenance import Provenance
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Candidate
from poise_git.archive.genealogy import Genealogy
from poise_git.pipeline.boundary.hosting import STRICT, Containment
from poise_git.pipeline.sandbox import Layer, missing_layers
from poise_git.user.preferences import MissingLayers, Preferences


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

    @classmethod
    def on_this_machine(cls, archive: Archive, chosen: Preferences, *, trusted: bool = False) -> Self:
        """By a try of every layer. Raises PoiseError: there is no child process to try them in."""
        return cls(Provenance(archive), missing_layers(), chosen.missing_layers, trusted)

    @property
    def missing_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(layer.name for layer in self.missing))

    def of(self, candidate: Candidate, genealogy: Genealogy) -> Containment:
        """Of a candidate of the archive."""
        return self._containment(lambda: self.provenance.is_shipped(candidate, genealogy))

    def of_checks(self, text: str, parents: Sequence[str], genealogy: Genealogy) -> Containment:
        """Of checks, which run this text and that of its parents; without parents, that of the root."""
        return self._containment(lambda: self._are_shipped(text, parents or (ROOT,), genealogy))

    def _are_shipped(self, text: str, parents: Sequence[str], genealogy: Genealogy) -> bool:
        known = [genealogy.by_name[name] for name in parents if name in genealogy.by_name]
        return (
            len(known) == len(parents)
            and all(self.provenance.is_shipped(each, genealogy) for each in known)
            and self.provenance.is_shipped_child(text, parents, genealogy)
        )

    def _containment(self, is_shipped: Callable[[], bool]) -> Containment:
        if self.trusted:
            return Containment(trusted=True, may_lack_layers=True)
        # The walk along the lineage takes a second, and matters on few machines.
        if self.allowed == "allow" or (self.missing and is_shipped()):
            return Containment(may_lack_layers=True)
        return STRICT
