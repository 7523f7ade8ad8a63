"""Mutations of accepted texts: pieces are doubled, swapped, nested and broken, and difficult tokens inserted."""

from __future__ import annotations

import random
from collections.abc import Sequence

LONGEST = 20_000
# Tokens of the formats that are read, and values at the limits of types, sizes and encodings.
TOKENS = tuple(
    token.encode(errors="surrogatepass")
    for token in (
        "null", "true", "NaN", "Infinity", "-Infinity", ".nan", ".inf", "1e999", "-1", "0", "010", "1:30",
        "9" * 40, "9" * 400, "9" * 5000, "0x10", "1_0", '"', "'", "[", "]", "{", "}", "[]", "{}", '""', ": ", ",",
        "- ", "? ", "&a ", "*a", "<<: *a\n", "!!int ", "!!float ", "!!str ", "!!map ", "!!binary ", "!x ", "|\n",
        ">\n", "---\n", "...\n", "#", "%YAML 1.1\n", "\n", "\t", "\r", "\r\n", "\f", "\x0b", "\x1c", "\x85",
        "\u2028", "\0", "\x1b[2J", "\x9b", "\u202e", "\u200b", "\U000e0041", "\ud800", "\\ud800", "\\udc00",
        "\\u0000", "\\", "{{", "}}", "{%", "%}", "{% for a in groups %}", "{% endfor %}", "{{ groups }}",
        "{% set a = a %}", "|join(", "|quoted", ".get(", ".__class__", "[0]", " ** ", " * ", "~", "(", ")",
        "Poise-Candidate: x\n", "\n\nKnobs:\n- ", "\n\nClaims:\n- ", "[order a=", "@", "def f(x):\n    return x\n",
        "lambda: ", "- " * 80, "[" * 80, "[" * 3000, "(" * 300, "-" * 3000, "not " * 900, "x." * 900, "a: " * 40,
        "{a: " * 80, " " * 3000,
    )
)  # fmt: skip


def mutated(data: bytes, others: Sequence[bytes], generator: random.Random) -> bytes:
    """`data` after a few random changes, of at most `LONGEST` bytes; `others` lend pieces."""
    for _ in range(generator.choice((1, 1, 1, 2, 3, 5, 8))):
        data = _once(data, others, generator)[:LONGEST]
    return data


def _once(data: bytes, others: Sequence[bytes], generator: random.Random) -> bytes:
    start, end = sorted(generator.randrange(len(data) + 1) for _ in range(2))
    if generator.random() < 0.7:
        end = min(end, start + generator.choice((1, 2, 4, 16, 64)))
    piece = data[start:end]
    match generator.randrange(9):
        case 0:
            return data[:start] + data[end:]
        case 1:
            return data[:start] + generator.choice(TOKENS) + data[start:]
        case 2:
            return data[:start] + generator.choice(TOKENS) + data[end:]
        case 3:
            return data[:end] + piece * generator.choice((1, 2, 30)) + data[end:]
        case 4:
            other = generator.choice(others)
            place = generator.randrange(len(other) + 1)
            return data[:start] + other[place : place + generator.choice((4, 32, 256))] + data[end:]
        case 5:
            return data[:start] + bytes([generator.randrange(256)]) + data[start + 1 :]
        case 6:
            opening, closing = generator.choice(
                ((b"[", b"]"), (b"{a: ", b"}"), (b'"', b'"'), (b"(", b")"), (b"{{", b"}}"))
            )
            return data[:start] + opening + piece + closing + data[end:]
        case 7:
            lines = data.split(b"\n")
            one, other = generator.randrange(len(lines)), generator.randrange(len(lines))
            lines[one], lines[other] = lines[other], lines[one]
            return b"\n".join(lines)
        case _:
            lines = data.split(b"\n")
            lines.insert(generator.randrange(len(lines) + 1), generator.choice(lines))
            return b"\n".join(lines)
