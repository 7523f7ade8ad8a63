"""The sentences for users that tests pin: one table, so that a better sentence breaks one place.

A test imports a sentence by its name. A sentence with fields is a template: `sentences.X.format(name=...)`.
"""

from __future__ import annotations

# Contexts and reflections (prompts/).
CONTEXT_OBJECTIVE = "## Objective"
CONTEXT_LITERATURE = "## Literature, most relevant first"
CONTEXT_LEFT_OUT = "## Left out to stay within {budget} tokens\n"
REFLECTION_NOT_PAIRED = "Its utility cannot be compared with that of its parent {parent}: no seed has both."
REFLECTION_NOTHING_MOVED = "Nothing beyond noise."
REFLECTION_NO_CLAIMS = "The proposal makes no claims."
REVIEW_REPAIR = "The check `reading` reports"

# Commands (poise_git/cli/).
OBJECTIVE_CHANGED = "the objective in poise.yaml has changed since {candidates} candidates were scored"
DOES_NOT_COUNT = "it does not count"
CHECK_ALL_PASSED = "candidates passed\n"
INTERRUPTED = "interrupted; finished work is kept"
NO_SPACE = "No space left on device; free some disk space"
NEXT_COMMANDS = "Next, with plain git:"
STATUS_DETECTS = "{seeds} seeds can detect differences of"
STATUS_DIFFERENCE = "difference"
STATUS_DEVIATION = "standard deviation of one seed's difference from grpo: {deviation:.4f} "
STATUS_MEASURED = "(measured on 1 candidate of this archive)"
STATUS_STATED = "(stated in protocols/tiny.yaml; {archive})"
STATUS_NOT_MEASURED = "not measured here yet"
STATUS_TOO_FEW = "1 candidate of this archive is too few"
UNKNOWN_METRIC = "({metric}: not a suite of this protocol; validated once grpo has run"
ALL_VIOLATE = "every candidate violates a constraint"
SHOW_DIRECTION = "; direction {kind}"
DIRECTIVE_UNKNOWN_WORDS = "not understood: {strange}; known words: {known}"
OBJECTIVE_UNCHANGED = "the objective stays unchanged"
LAYERS_ALLOWED = "all code runs without them, as you have allowed"
CANDIDATE_SKIPPED = "{name} skipped"
NO_REGIME = "no regime {regime} in the runs of grpo; known: {known}"
TRAJECTORY = "mean over seeds: first, last"
CONFIRMED = "confirmed: better than grpo"
NOT_CONFIRMED = "not confirmed: on fresh seeds it violates"
NAME_A_CANDIDATE = "name a candidate"
BUDGET_HOURS = "the budget of {hours} hours is used up"
