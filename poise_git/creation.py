"""A new archive from the recipe template."""

from __future__ import annotations

import json
import re
from pathlib import Path

from poise_git.archive import Archive
from poise_git.errors import UsageError
from poise_git.experiment import SETTINGS_FILE
from poise_git.pipeline.backends import BACKENDS
from poise_git.pipeline.protocol import load_protocol
from poise_git.resources import hook_files, template_files


def create_archive(directory: Path, *, backend: str = "testbed", directive: str = "") -> Archive:
    """Render the template into `directory` and commit it.

    Raises:
        UsageError: no protocol of the template runs on `backend`.
        ArchiveError: the directory is not empty, or holds a repository that is no archive.
    """
    files = template_files()
    protocols = {
        protocol.name: protocol
        for path, text in files.items()
        if path.startswith("protocols/")
        for protocol in [load_protocol(text, path)]
        if protocol.backend == backend
    }
    if not protocols:
        raise UsageError(f"no protocol runs on the backend {backend!r}: choose one of {', '.join(sorted(BACKENDS))}")
    chosen = {"protocol": next(iter(protocols)), "directive": directive}
    for setting, value in chosen.items():
        files[SETTINGS_FILE] = _with_setting(files[SETTINGS_FILE], setting, value)
    return Archive.create(directory, files, hook_files())


def _with_setting(text: str, setting: str, value: str) -> str:
    """The settings file with one top-level field changed; comments and order stay."""
    # A JSON string is a YAML string on one line, whatever is in it.
    plain = re.fullmatch(r"[a-z][a-z0-9-]*", value)
    line = f"{setting}: {value if plain else json.dumps(value, ensure_ascii=False)}"
    changed, count = re.subn(rf"^{setting}:[^#\n]*", lambda _: line, text, count=1, flags=re.MULTILINE)
    if not count:
        raise UsageError(f"the template's {SETTINGS_FILE} has no field {setting}")
    return changed
