"""Names of candidates: the short names of their mechanisms, newest first, then the root's name: `vm-av-grpo`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import count

from poise_git.archive.entries import ROOT

NAME_LENGTH = 40


def extended(parent: str, short: str, replaced: Iterable[str] = ()) -> str:
    """The parent's name with one mechanism in front, without the replaced mechanisms."""
    return f"{short}-{without(parent, replaced)}"


def without(parent: str, shorts: Iterable[str]) -> str:
    """The parent's name without some mechanisms, each removed once."""
    parts = parent.split("-")
    for short in shorts:
        if short in parts[:-1]:
            parts.remove(short)
    return "-".join(parts)


def unique(name: str, taken: Collection[str]) -> str:
    """`name`, shortened to 40 characters at a hyphen, with a number if it is taken."""
    for number in count(1):
        suffix = f"-{number}" if number > 1 else ""
        shortened = _shortened(name, NAME_LENGTH - len(suffix)) + suffix
        if shortened not in taken:
            return shortened
    raise AssertionError


def tuned(parent: str, knob: str, taken: Collection[str]) -> str:
    """The parent's name with the knob's first letter and a number from 2: `av-grpo-w2`, then `av-grpo-w3`."""
    stem, _, last = parent.rpartition("-")
    base = stem if stem and re.fullmatch(rf"{knob[0]}\d+", last) else parent
    for number in count(2):
        suffix = f"-{knob[0]}{number}"
        name = _shortened(base, NAME_LENGTH - len(suffix)) + suffix
        if name != parent and name not in taken:
            return name
    raise AssertionError


def _shortened(name: str, length: int) -> str:
    """Leave out mechanisms, oldest first, until the name fits; the root's name and its suffix stay."""
    parts = name.split("-")
    while len("-".join(parts)) > length and len(parts) > 2:
        oldest = parts.index(ROOT) - 1 if ROOT in parts[1:] else -1
        parts.pop(oldest)
    return "-".join(parts)[:length].strip("-")
