"""Hide packages that are installed but cannot be loaded, so that every library finds them not installed."""

import os
import sys

for name in filter(None, os.environ.get("POISE_HIDDEN_MODULES", "").split(",")):
    sys.modules[name] = None  # type: ignore[assignment]
