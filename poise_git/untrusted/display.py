"""Make text safe for a terminal, a commit or a note: show invisible characters and control characters.

Text of candidates, models and strangers' archives may contain escape sequences that rewrite the screen, marks that
reverse the order of characters, and invisible characters that encode hidden words.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters except the line end and the tab; format characters (bidi marks, joiners, tags); line and paragraph
# separators; surrogates; the other characters that Unicode displays as nothing; and the blank Braille pattern.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""`text` with every such character escaped (`\x1b`, `\u202e`, `\U000e0041`); line ends and tabs stay.

    `\r\n` is a line end. Text without such characters is returned unchanged.
    """
    return _INVISIBLE.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """`text` with every run of white space as one space, and invisible characters escaped."""
    return visible(" ".join(text.split()))


def json_text(data: Any, **options: Any) -> str:
    """`json.dumps` that keeps letters of any script readable, and escapes the characters that `visible` escapes."""
    return _INVISIBLE.sub(_json_escape, json.dumps(data, ensure_ascii=False, **options))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(found: re.Match[str]) -> str:
    # Outside strings JSON has no such characters, so each one is inside a string.
    return json.dumps(found[0])[1:-1]
