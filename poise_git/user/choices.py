"""How the user allows untrusted code where a layer of the sandbox is missing: names that refusals tell.

Apart from `preferences`, which reads them: whatever runs in the sandbox needs no archive for them.
"""

from __future__ import annotations

MISSING_LAYERS_KEY = "poise.missingLayers"
MISSING_LAYERS_VARIABLE = "POISE_MISSING_LAYERS"
ALLOW_MISSING_LAYERS = f"git config --global {MISSING_LAYERS_KEY} allow"
