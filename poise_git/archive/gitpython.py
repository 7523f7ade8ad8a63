"""Import GitPython so that it neither fails without git nor passes secrets to git."""

from __future__ import annotations

import os
import re

from poise_git.errors import ArchiveError

# Keys for other services, which git does not need.
SECRET = re.compile(r"_(API_KEY|AUTH_TOKEN|IDENTITY_TOKEN|CUSTOM_HEADERS)$")

# Without this, the import raises ImportError if git is missing. With it, the first use gives a clear error.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# The import runs `git version`.
_withheld = {name: os.environ.pop(name) for name in tuple(os.environ) if SECRET.search(name)}

try:
    from git import Git
    from git.exc import GitCommandNotFound
except ImportError as error:
    # The import fails if it cannot parse git's version.
    raise ArchiveError("git does not say its version: install git 2.36 or newer") from error
finally:
    os.environ |= _withheld
    del _withheld

__all__ = ["SECRET", "Git", "GitCommandNotFound"]
