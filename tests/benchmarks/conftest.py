"""Benchmarks are scripts, which import each other as scripts do; their tests import them in the same way."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
