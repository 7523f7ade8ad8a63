"""Translate a directive into an objective by rules: each known word has a figure and a direction.

A word such as "concise" states a goal, which enters U. If it is reversed ("less verbose", "fewer tokens"), the goal is
the opposite. If it is negated ("not longer", "no loss of accuracy"), it states a bound: the figure must not move in
that direction from the root's, within one standard error. A reversal extends to the next goal, a negation to the end of
its clause: a comma, "and", "but".

An algorithm that does not learn can easily be brief or stable. Accuracy therefore stays in U with weight 1, every other
goal has weight .3, and accuracy must then not fall below the root's. A figure that is not a share counts in units of
the root's own value: responses that are a tenth shorter are worth .03 of accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from poise_git.measurement.translation import Interpretation
from poise_git.settings import OVERALL, Constraint, ObjectiveSettings, Term

# The weight of a goal relative to accuracy. The paper's length-aware search (arXiv:2603.23951) does not state a weight.
BESIDE = 0.3


@dataclass(frozen=True)
class Concept:
    """A possible goal: the first of `figures` that the root's runs have should rise (sense 1) or fall (-1).

    A word that ends in `-` matches all words that begin with it.
    """

    name: str
    figures: tuple[str, ...]
    sense: int
    words: str

    def means(self, word: str) -> bool:
        forms = self.words.split()
        return any(word.startswith(form[:-1]) if form.endswith("-") else word == form for form in forms)


LENGTH = ("mean_length", "response_length")
UPDATES = ("kl", "gradient_norm")
CONCEPTS = (
    Concept(
        "accuracy",
        (OVERALL,),
        1,
        "accura- correct- right strong- better best good precis- perform- capab- smart- score- quality solv-",
    ),
    Concept("inaccuracy", (OVERALL,), -1, "worse weak- wrong- inaccura- incorrect- error- mistake-"),
    Concept("brevity", LENGTH, -1, "concis- short- brief- brevity terse- succinct- compact- frugal-"),
    Concept("length", LENGTH, 1, "long- length- verbos- wordy token- detailed rambl-"),
    Concept("exploration", ("entropy",), 1, "explor- divers- entropy varied variety creativ-"),
    Concept("several attempts", ("pass@",), 1, "pass@k coverage attempts tries"),
    Concept("stability", UPDATES, -1, "stab- smooth- steady conservativ-"),
    Concept("instability", UPDATES, 1, "unstab- instab- collaps- diverg- drift-"),
    Concept("validity", ("valid_rate",), 1, "valid- well-formed format- parsab- parseab-"),
    Concept("invalidity", ("valid_rate",), -1, "invalid- malformed cut-off truncat-"),
)
NEGATIONS = "not no never without nor don't doesn't neither avoid prevent cannot"
TURNS = (
    "less fewer lower reduce reduced reducing decrease decreased decreasing smaller minimise minimize loss losing lose "
    "losses drop dropping cost costs sacrificing sacrifice hurting hurt cut cutting save saving"
)
CLAUSES = ", ; . : and but yet while though & +"
FILLERS = (
    "a algorithm algorithms all also an answer answers any are as at be being both by even every find for from get "
    "give go have high higher highest i improve improved improving in increase increased increasing is it its keep "
    "keeping larger look make maximal maximise maximize me model models more most much must of on one only or our "
    "output outputs please policy possible prefer producing response responses root same should so stay still than "
    "that the their them there they this to training up use using very want we what when which who with would you"
)


@dataclass
class _Reading:
    """The state of reading a directive, word by word."""

    figures: Mapping[str, float]
    terms: dict[str, Term] = field(default_factory=dict)
    limits: dict[tuple[str, int], Constraint] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    negated: bool = False
    turn: int = 1

    def take(self, word: str) -> None:
        if word in CLAUSES.split():
            self.negated, self.turn = False, 1
        elif word in NEGATIONS.split():
            self.negated = True
        elif word in TURNS.split():
            self.turn = -self.turn
        elif concept := self._concept(word):
            self._wish(word, concept)
            self.turn = 1
        elif word not in FILLERS.split() and word not in self.strange:
            self.strange.append(word)

    def _concept(self, word: str) -> Concept | None:
        """The meaning of the word; an unknown word may be the name of a figure."""
        meant = (concept for concept in CONCEPTS if concept.means(word))
        return next(meant, Concept(word, (word,), 1, word) if word in self.figures else None)

    def _wish(self, word: str, concept: Concept) -> None:
        figure = next((found for wanted in concept.figures if (found := self._figure(wanted))), None)
        sense = concept.sense * self.turn
        said = f"“{word}”" + (" reversed" if self.turn < 0 else "") + (" negated" if self.negated else "")
        if figure is None:
            wanted = " or ".join(concept.figures)
            self.reasons.append(f"{said} means {concept.name}, but the runs of the root have no figure {wanted}")
        elif self.negated:
            bound = "at_most" if sense > 0 else "at_least"
            self.limits[figure, sense] = Constraint.model_validate({"metric": figure, bound: "root"})
            self.reasons.append(f"{said}: {figure} {bound.replace('_', ' ')} the root's")
        else:
            direction = "maximize" if sense > 0 else "minimize"
            weight = 1.0 if figure == OVERALL else BESIDE
            scale = _unit(self.figures[figure])
            self.terms[figure] = Term.model_validate({"weight": weight, "direction": direction, "scale": scale})
            self.reasons.append(f"{said}: {direction} {figure}")

    def _figure(self, wanted: str) -> str | None:
        """The figure of that name; for a family such as pass@, the one with the most attempts."""
        if wanted in self.figures:
            return wanted
        family = [name for name in self.figures if wanted.endswith("@") and name.startswith(wanted)]
        return max(family, key=lambda name: (len(name), name), default=None)

    def complete(self) -> None:
        """Add accuracy, which always counts."""
        if OVERALL not in self.terms:
            self.terms = {OVERALL: Term(), **self.terms}
            self.reasons.append("accuracy always counts: maximize overall")
        if len(self.terms) > 1 and (OVERALL, -1) not in self.limits:
            self.limits[OVERALL, -1] = Constraint(metric=OVERALL, at_least="root")
            self.reasons.append("other goals must not cost accuracy: overall at least the root's")


def interpret(directive: str, figures: Mapping[str, float]) -> Interpretation:
    """The objective that the directive asks for; `figures` are those of the root's runs, with their values."""
    reading = _Reading(figures)
    for word in _words(directive):
        reading.take(word)
    stated = None
    if reading.terms or reading.limits:
        reading.complete()
        stated = ObjectiveSettings(metrics=reading.terms, constraints=tuple(reading.limits.values()))
    return Interpretation(stated, tuple(reading.reasons), tuple(reading.strange), _vocabulary(figures))


def _words(directive: str) -> list[str]:
    """Lower-case words, and signs that end a clause; `pass@8`, `mean_length`, `well-formed` and `don't` are words."""
    return re.findall(r"[a-z0-9]+(?:[@_'’-][a-z0-9]+)*|[,;.:&+]", directive.lower().replace("’", "'"))


def _unit(value: float) -> float:
    """The amount that counts as one unit of a figure: 1 for a share, else the root's own value at two digits."""
    return 1.0 if abs(value) <= 1.0 else float(f"{abs(value):.2g}")


def _vocabulary(figures: Mapping[str, float]) -> tuple[str, ...]:
    """The known words: one per concept, and the names of figures."""
    words = (concept.words.split()[0] for concept in CONCEPTS)
    return (*(f"{word[:-1]}…" if word.endswith("-") else word for word in words), *figures)
