"""Import GitPython so that it neither fails without git nor passes secrets to git."""

from __future__ import annotations

import os
import re

from poise_git.errors import ArchiveError

# git does not need the caller's keys for other services.
SECRET = re.compile(r"_(API_KEY|AUTH_TOKEN|IDENTITY_TOKEN|CUSTOM_HEADERS)$")

# Without this, importing GitPython without git is an ImportError; with it, the first use gives one clear line.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# Importing it runs `git version`.
_withheld = {name: os.environ.pop(name) for name in tuple(os.environ) if SECRET.search(name)}

try:
    from git import Git
    from git.exc import GitCommandNotFound
except ImportError as error:
    # It asks git for its version, and fails if the answer is not one.
    raise ArchiveError("git does not say its version: install git 2.36 or newer") from error
finally:
    os.environ |= _withheld
    del _withheld

__all__ = ["SECRET", "Git", "GitCommandNotFound"]
