"""Parse untrusted code to its syntax tree. Every algorithm, card and reply is parsed here and nowhere else.

A person, an edit and Python must see the same text. Text for which they may differ is refused, with a one-line error
that names the line. Text that could exhaust the stack of Python's parser, or of a walk of its tree, is refused too:
the trees are at most `DEPTH_LIMIT` deep. Nothing is executed.
"""

from __future__ import annotations

import ast
import io
import math
import re
import token
import tokenize
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Literal, NoReturn

from poise_git.errors import PoiseError

# Hide Python's warnings about the code: the user did not write it.
warnings.filterwarnings("ignore", category=SyntaxWarning, module=r"<unknown>|algorithm")

SIZE_LIMIT = 64 * 1024
LINE_LIMIT = 1000
# A hundred legitimate algorithms need at most a third of each limit.
TOKEN_LIMIT = 1000
BRACKET_LIMIT = 30
BLOCK_LIMIT = 20
SIGN_LIMIT = 8
BRANCH_LIMIT = 30
DEPTH_LIMIT = 50
NUMBER_LIMIT = 40
STRING_LIMIT = 8000
FORMATTED_LIMIT, FORMATTED_BRACKETS = 500, 4

_ADVICE = "; remove it: only a line feed may end a line, and every character must be visible"
# Characters that count as printable but are invisible: fillers, variation selectors, the blank Braille pattern, and the
# replacements of bytes that are not text.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\ufffc\ufffd"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_LONE_RETURN = re.compile(r"\r(?!\n)")
_CONTROL_NAMES = {
    "\0": "a null character",
    "\x0b": "a vertical tab",
    "\x0c": "a form feed",
    "\r": "a carriage return alone",
    "\x1b": "an escape character",
    "\ufeff": "a byte order mark",
    "\ufffd": "a substitute for bytes that are not UTF-8",
}
# PEP 263: Python would read the file in another encoding than other programs.
_COOKIE = re.compile(r"^[ \t]*#.*?coding[:=]")
_LONG_LINE = re.compile(rf"[^\n]{{{LINE_LIMIT + 1}}}")
_SIGNS = frozenset(("-", "+", "~", "not", "await"))
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
# Python 3.11 has no such tokens; there a formatted string is one token.
_FORMATTED_START, _FORMATTED_END = getattr(token, "FSTRING_START", -1), getattr(token, "FSTRING_END", -1)
_LAYOUT = frozenset((token.INDENT, token.DEDENT, token.NEWLINE, token.NL, token.COMMENT))


class SourceRefused(PoiseError):
    """A text is refused as code.

    Attributes:
        check: the check of a candidate that refuses it: its size, its characters, or whether it is Python.
        line: the line from 1; 0 for the text as a whole.
    """

    def __init__(self, check: Literal["size", "text", "parse"], line: int, what: str) -> None:
        self.check, self.line, self.what = check, line, what
        super().__init__(f"line {line}: {what}" if line else what)


def read(data: bytes) -> str:
    """The text of a file.

    Raises:
        SourceRefused: it is not UTF-8, or contains characters that code must not contain.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceRefused("text", line, f"byte {data[error.start]:#04x} is not UTF-8 text") from error
    require_plain(text)
    return text


def parse(text: str) -> ast.Module:
    """The syntax tree of a text, at most `DEPTH_LIMIT` deep.

    Raises:
        SourceRefused: the text is too large, is not Python, is nested too deeply, or contains characters that code must
            not contain.
    """
    require_plain(text)
    longest = _require_measured(text)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise SourceRefused("parse", error.lineno or 0, _syntax_error(error)) from error
    except (ValueError, RecursionError, MemoryError, OverflowError, SystemError) as error:
        raise SourceRefused("parse", longest, "the statement is nested too deeply or too long") from error
    _require_shallow(tree)
    return tree


def require_compiles(tree: ast.Module) -> None:
    """Raise SourceRefused if Python refuses a tree that it could parse, such as `return` outside a function."""
    try:
        compile(tree, "algorithm.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise SourceRefused("parse", error.lineno or 0, _syntax_error(error)) from error
    except (ValueError, RecursionError, MemoryError, OverflowError, SystemError) as error:
        raise SourceRefused("parse", 0, f"Python cannot compile it: {type(error).__name__}") from error


def lines(text: str) -> list[str]:
    """The lines with their ends. `str.splitlines` knows line ends that Python's parser ignores."""
    *whole, last = text.split("\n")
    return [*(f"{line}\n" for line in whole), *([last] if last else [])]


def require_plain(text: str) -> None:
    """Raise SourceRefused for a text that is too large or ambiguous."""
    size = len(text.encode(errors="surrogatepass"))
    if size > SIZE_LIMIT:
        raise SourceRefused("size", 0, f"the text has {size} bytes, {SIZE_LIMIT} are allowed")
    if unseen := [character for character in set(text) if _is_unseen(character)]:
        _refuse_character(text, min(map(text.index, unseen)))
    if found := _LONE_RETURN.search(text):
        _refuse_character(text, found.start())
    for number, line in enumerate(text.split("\n", 2)[:2], 1):
        if _COOKIE.match(line):
            raise SourceRefused("text", number, "a comment that declares a coding (PEP 263); remove it: code is UTF-8")
    if found := _LONG_LINE.search(text):
        number = text.count("\n", 0, found.start()) + 1
        raise SourceRefused("text", number, f"the line has more than {LINE_LIMIT} characters")


def _is_unseen(character: str) -> bool:
    """Whether a character is invisible or ambiguous, such as a control character, a bidi mark or an unusual space."""
    return character in _UNSEEN or not (character.isprintable() or character in "\n\t\r")


def _refuse_character(text: str, place: int) -> NoReturn:
    character, number = text[place], text.count("\n", 0, place) + 1
    name = _CONTROL_NAMES.get(character) or unicodedata.name(character, "an invisible character")
    raise SourceRefused("text", number, f"{name} (U+{ord(character):04X}){_ADVICE}")


def _require_measured(text: str) -> int:
    """Refuse text that could exhaust the parser, token by token; return the start of the longest statement.

    Text that is not a token is left to the parser, which stops there as well.
    """
    longest, longest_line = 0, 0
    count, begins, brackets, blocks, signs, formatted = 0, 0, 0, 0, 0, 0
    branches = [0]
    for kind, string, (line, _), _, _ in _tokens(text):
        if kind in _LAYOUT:
            if kind == token.NEWLINE:
                count = brackets = signs = 0
            elif kind == token.INDENT:
                blocks += 1
                branches.append(0)
            elif kind == token.DEDENT:
                blocks -= 1
                branches.pop()
            if blocks > BLOCK_LIMIT:
                raise SourceRefused("parse", line, f"more than {BLOCK_LIMIT} blocks inside one another")
            continue
        if not count:
            begins = line
            # In the tree, an `elif` is an `if` inside the `else` of the previous one.
            branches[-1] = branches[-1] + 1 if string == "elif" else 0 if string != "else" else branches[-1]
            if branches[-1] > BRANCH_LIMIT:
                raise SourceRefused("parse", line, f"more than {BRANCH_LIMIT} elif in a row")
        count += 1
        if count > longest:
            longest, longest_line = count, begins
            if count > TOKEN_LIMIT:
                raise SourceRefused("parse", begins, f"a statement of more than {TOKEN_LIMIT} words and signs")
        signs = signs + 1 if string in _SIGNS else 0
        if signs > SIGN_LIMIT:
            raise SourceRefused("parse", line, f"more than {SIGN_LIMIT} signs before one value")
        if kind == token.OP:
            brackets += 1 if string in _OPENING else -1 if string in _CLOSING else 0
            if brackets > BRACKET_LIMIT:
                raise SourceRefused("parse", line, f"more than {BRACKET_LIMIT} brackets inside one another")
        elif kind == token.NUMBER:
            _require_number(string, line)
        elif kind == token.STRING:
            _require_string(string, line)
        elif kind == token.NAME and not string.isascii():
            _require_normal(string, line)
        elif kind == _FORMATTED_START:
            formatted += 1
        elif kind == _FORMATTED_END:
            formatted -= 1
        if formatted > 1:
            raise SourceRefused("parse", line, "a formatted string inside another")
    return longest_line


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    try:
        for found in tokenize.generate_tokens(io.StringIO(text).readline):
            if found.type == token.ERRORTOKEN and found.string.strip():
                return
            yield found
    except (tokenize.TokenError, SyntaxError):
        return


def _require_number(string: str, line: int) -> None:
    if len(string) > NUMBER_LIMIT:
        raise SourceRefused("parse", line, f"a number of {len(string)} characters, {NUMBER_LIMIT} are allowed")
    try:
        value = float(string.rstrip("jJ"))
    except ValueError:
        return
    if not math.isfinite(value):
        raise SourceRefused("parse", line, f"{string} is not finite; write math.inf if you mean infinity")


def _require_string(string: str, line: int) -> None:
    if len(string) > STRING_LIMIT:
        raise SourceRefused("parse", line, f"a string of {len(string)} characters, {STRING_LIMIT} are allowed")
    if "f" not in re.split("['\"]", string, maxsplit=1)[0].lower():
        return
    depth = deepest = 0
    for character in string:
        depth += 1 if character in _OPENING else -1 if character in _CLOSING else 0
        deepest = max(deepest, depth)
    if len(string) > FORMATTED_LIMIT or deepest > FORMATTED_BRACKETS:
        raise SourceRefused("parse", line, "a formatted string that is too long, or nested too deep")
    _require_normal(string, line)


def _require_normal(string: str, line: int) -> None:
    """Refuse names that Python normalizes: it reads `ﬁ` as `fi`, and a person sees another name."""
    read_as = unicodedata.normalize("NFKC", string)
    if read_as != string:
        raise SourceRefused("text", line, f"Python reads {_short(string)} as {_short(read_as)}; write it so")


def _require_shallow(tree: ast.Module) -> None:
    """Check the depth without recursion, so that later walks may recurse."""
    level: list[ast.AST] = [tree]
    for _ in range(DEPTH_LIMIT):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    line = next((found for node in level if (found := getattr(node, "lineno", 0))), 0)
    raise SourceRefused("parse", line, f"nested more than {DEPTH_LIMIT} deep; use more statements, or a function")


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Like `ast.iter_child_nodes`, in half the time, but without nodes that have no children."""
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            yield from (each for each in value if isinstance(each, ast.AST))
        elif isinstance(value, ast.AST) and value._fields:
            yield value


def _syntax_error(error: SyntaxError) -> str:
    code = _short((error.text or "").strip())
    return _short(error.msg) + (f", at: {code}" if code else "")


def _short(text: str, length: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]}..."
