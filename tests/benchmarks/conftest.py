"""Put the folder on the path: benchmarks are scripts that import each other, and tests import them likewise."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
