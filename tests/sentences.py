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
