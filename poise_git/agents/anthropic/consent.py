"""Check the address and the folder that an archive asks its agent to use against the user's choices."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from poise_git.user.preferences import Preferences, lies_in, unchosen

OFFICIAL_HOST = "api.anthropic.com"


def refuse_address(base_url: str | None, preferences: Preferences) -> None:
    """Raise UsageError for an address, other than Anthropic's, that the user has not allowed to get the key.

    An address of this machine is no exception, because another user may listen there.
    """
    if base_url is None or base_url in (*preferences.base_urls, os.environ.get("ANTHROPIC_BASE_URL")):
        return
    address = urlsplit(base_url)
    if address.scheme == "https" and address.netloc == OFFICIAL_HOST:
        return
    where = "poise.yaml: anthropic.base_url"
    raise unchosen(where, f"the address {base_url}, which would get your key", "base_urls", base_url)


def refuse_recordings(folder: Path, preferences: Preferences) -> None:
    """Raise UsageError for a folder of recorded replies that the user has not allowed."""
    if not lies_in(folder, preferences.recordings):
        found = str(folder.resolve())
        raise unchosen("poise.yaml: anthropic.replay", f"the folder {found}", "recordings", found)
