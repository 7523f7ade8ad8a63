"""Packages that come along with vLLM, are of no use to a text model, and may not fit the torch that is installed.

Whoever then imports them fails, as transformers does; hidden, they count as not installed.
"""

from __future__ import annotations

import importlib
import sys

_OPTIONAL = ("torchvision", "torchaudio", "torchcodec")


def broken_packages() -> tuple[str, ...]:
    """Those that are installed but cannot be imported. Imports torch and them: for child processes."""
    broken = []
    for name in _OPTIONAL:
        if name in sys.modules and sys.modules[name] is None:
            # Hidden in this process already.
            broken.append(name)
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except Exception:  # a library that cannot be loaded raises what it likes
            broken.append(name)
    return tuple(broken)


def hide_broken_packages() -> None:
    """In this process, from now on."""
    sys.modules.update(dict.fromkeys(broken_packages()))  # type: ignore[arg-type]
