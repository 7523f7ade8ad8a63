"""Packages that vLLM brings along, that a text model does not use, and that may not fit the installed torch.

A library that imports such a package fails, as transformers does. A hidden package counts as not installed.
"""

from __future__ import annotations

import importlib
import sys

_OPTIONAL = ("torchvision", "torchaudio", "torchcodec")


def broken_packages() -> tuple[str, ...]:
    """The packages that are installed but cannot be imported. Imports them and torch, so call it in child processes."""
    broken = []
    for name in _OPTIONAL:
        if name in sys.modules and sys.modules[name] is None:
            # This process has already hidden it.
            broken.append(name)
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except Exception:  # a broken library can raise any exception
            broken.append(name)
    return tuple(broken)


def hide_broken_packages() -> None:
    """Hide these packages in this process."""
    sys.modules.update(dict.fromkeys(broken_packages()))  # type: ignore[arg-type]
