"""GitPython, imported so that it neither fails where git is missing nor hands secrets to git."""

from __future__ import annotations

import os
import re

from poise_git.errors import ArchiveError

# The keys that a caller has for other services are no business of git's.
SECRET = re.compile(r"_(API_KEY|AUTH_TOKEN|IDENTITY_TOKEN|CUSTOM_HEADERS)$")

# Without it, importing GitPython where git is missing is an ImportError; so it is one clear line at first use.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# Importing it runs `git version`.
_withheld = {name: os.environ.pop(name) for name in tuple(os.environ) if SECRET.search(name)}

try:
    from git import Git
    from git.exc import GitCommandNotFound
except ImportError as error:
    # It asks git for its version, and is at a loss where that is none.
    raise ArchiveError("git does not say its version: install git 2.36 or newer") from error
finally:
    os.environ |= _withheld
    del _withheld

__all__ = ["SECRET", "Git", "GitCommandNotFound"]
