"""Choose the containment of candidates' code from the user's choice, the missing layers, and the code's author."""

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

    If a layer of the sandbox is missing, shipped code runs all the same, and other code runs only if the user allows it
    for this machine. An archive's settings cannot allow it.

    Attributes:
        missing: the layers that this machine lacks.
        allowed: the user's choice for other code.
        trusted: `--trust` is set, so every candidate may run in the trainer's own process.
    """

    provenance: Provenance
    missing: tuple[Layer, ...] = ()
    allowed: MissingLayers = "refuse"
    trusted: bool = False

    @classmethod
    def on_this_machine(cls, archive: Archive, chosen: Preferences, *, trusted: bool = False) -> Self:
        """Try every layer on this machine. Raises PoiseError if no child process can be started to try them."""
        return cls(Provenance(archive), missing_layers(), chosen.missing_layers, trusted)

    @property
    def missing_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(layer.name for layer in self.missing))

    def of(self, candidate: Candidate, genealogy: Genealogy) -> Containment:
        """The containment of a candidate of the archive."""
        return self._containment(lambda: self.provenance.is_shipped(candidate, genealogy))

    def of_checks(self, text: str, parents: Sequence[str], genealogy: Genealogy) -> Containment:
        """The containment of checks, which run this text and its parents' texts, or the root's if it has no parents."""
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
        # The walk along the lineage takes a second, so it happens only if a layer is missing.
        if self.allowed == "allow" or (self.missing and is_shipped()):
            return Containment(may_lack_layers=True)
        return STRICT
