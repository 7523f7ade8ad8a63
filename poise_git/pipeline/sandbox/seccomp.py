"""System call filters (seccomp, Linux 3.17): a policy as data becomes a classic BPF program in the kernel.

A filter is permanent. It holds for every thread of the process and for all its descendants. Filters add up, and the
strictest verdict of all installed filters counts.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from poise_git.pipeline.sandbox import kernel
from poise_git.pipeline.sandbox.system_calls import NEWEST, number_of

_WORD = 0xFFFFFFFF

# BPF: class, width and mode of an instruction; see linux/bpf_common.h.
_LOAD_WORD, _RETURN = 0x20, 0x06
_AND = 0x54
_JUMP_EQUAL, _JUMP_ABOVE, _JUMP_ANY_BIT = 0x15, 0x25, 0x45
_LONGEST_JUMP = 255

# Offsets in `struct seccomp_data`: the call's number, the architecture, the instruction, six arguments of 64 bits.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _FAIL, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# On x86_64 a number with this bit is a call of the x32 ABI, a second name for nearly every call.
_X32 = 0x40000000

_SET_MODE_FILTER = 1
_FLAG_TSYNC = 1


@dataclass(frozen=True)
class Condition:
    """A condition on one argument, 0 to 5: its bits `mask` equal `value`. Both have 32 bits, or 64 if `wide`."""

    argument: int
    value: int
    mask: int = _WORD
    wide: bool = False


@dataclass(frozen=True)
class Rule:
    """The rule of one system call: it proceeds if all conditions of an alternative hold, else fails with `error`.

    `((),)` lets every call proceed, and `()` lets none proceed.
    """

    alternatives: tuple[tuple[Condition, ...], ...] = ()
    error: int = errno.EPERM


ALWAYS = Rule(((),))
NEVER = Rule()
# Fail as on a kernel that is too old for the call, so that libraries use their alternative.
UNKNOWN = Rule(error=errno.ENOSYS)


@dataclass(frozen=True)
class Policy:
    """The verdict of a filter on every system call.

    Attributes:
        rules: by the call's name; names that a machine's architecture lacks are skipped.
        others: the rule for calls that `rules` does not name.
        newest: calls with numbers beyond those that this release knows fail with ENOSYS.
    """

    name: str
    rules: Mapping[str, Rule]
    others: Rule

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", MappingProxyType(dict(self.rules)))


def install(policy: Policy) -> None:
    """Put this process, with all its threads, under `policy` for good.

    Needs no_new_privs.

    Raises:
        OSError: the kernel or the architecture has no filters, or a thread cannot be put under the policy.
    """
    program = assemble(policy, platform.machine())
    instructions = ctypes.create_string_buffer(b"".join(program))
    # struct sock_fprog: the number of instructions, and a pointer to them.
    described = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(instructions)))
    stuck = kernel.seccomp(_SET_MODE_FILTER, _FLAG_TSYNC, ctypes.addressof(described))
    if stuck:
        raise OSError(errno.EBUSY, f"seccomp: thread {stuck} has a filter of its own")


def assemble(policy: Policy, machine: str) -> list[bytes]:
    """Assemble the BPF program for an architecture with the name that `platform.machine` gives it.

    Raises:
        OSError: the architecture is unknown.
    """
    if machine not in _AUDIT_ARCHITECTURE:
        raise OSError(errno.ENOSYS, f"system call filter: not known for {machine}")
    program = [
        _instruction(_LOAD_WORD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCHITECTURE[machine], 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD_WORD, _NUMBER),
    ]
    if machine == "x86_64":
        program += [_instruction(_JUMP_ANY_BIT, _X32, 0, 1), _fail(errno.ENOSYS)]
    program += [_instruction(_JUMP_ABOVE, NEWEST, 0, 1), _fail(errno.ENOSYS)]
    for name, rule in policy.rules.items():
        if (number := number_of(name, machine)) is not None:
            block = _block(rule)
            program += [_instruction(_JUMP_EQUAL, number, 0, len(block)), *block]
    return [*program, *_block(policy.others)]


def _block(rule: Rule) -> list[bytes]:
    """Instructions in which every path ends in a verdict."""
    block: list[bytes] = []
    for conditions in rule.alternatives:
        tests = [test for condition in conditions for test in _tests(condition)]
        for number, (load, narrow, value) in enumerate(tests, start=1):
            # If the test fails, jump to the next alternative, past the other tests and the verdict.
            rest = 3 * (len(tests) - number) + 1
            block += [load, narrow, _instruction(_JUMP_EQUAL, value, 0, rest)]
        block.append(_instruction(_RETURN, _ALLOW))
        if not conditions:
            return block
    block.append(_fail(rule.error))
    if len(block) > _LONGEST_JUMP:
        raise ValueError("a rule has too many alternatives")
    return block


def _tests(condition: Condition) -> Iterator[tuple[bytes, bytes, int]]:
    """Load a word of the argument, mask it, and compare it."""
    # Both architectures are little-endian: the low word comes first.
    for word in range(2 if condition.wide else 1):
        mask, value = ((number >> 32 * word) & _WORD for number in (condition.mask, condition.value))
        place = _ARGUMENTS + 8 * condition.argument + 4 * word
        yield _instruction(_LOAD_WORD, place), _instruction(_AND, mask), value


def _fail(error: int) -> bytes:
    return _instruction(_RETURN, _FAIL | error)


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def rules(rule: Rule, names: Sequence[str] | str) -> dict[str, Rule]:
    """The same rule for many calls."""
    return dict.fromkeys(names.split() if isinstance(names, str) else names, rule)
