"""The names with which a user allows untrusted code despite missing layers; error messages use them.

This module is separate from `preferences`, which reads them, so that code in the sandbox does not import the archive.
"""

from __future__ import annotations

MISSING_LAYERS_KEY = "poise.missingLayers"
MISSING_LAYERS_VARIABLE = "POISE_MISSING_LAYERS"
ALLOW_MISSING_LAYERS = f"git config --global {MISSING_LAYERS_KEY} allow"
