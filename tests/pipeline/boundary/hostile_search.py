"""Hostile candidates, third part: each looks for foreign data, or for a way to keep data between calls."""

from __future__ import annotations

_PLAIN = """
import ctypes, fcntl, gc, os, random, select, signal, socket, struct, sys, termios
import torch

def policy_loss(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None,
                rollout_is_weights=None):
    return -(log_prob * advantages * response_mask).sum(), {}
"""
HONEST = (
    _PLAIN
    + """
def compute_advantages(token_level_rewards, response_mask, index, config=None):
    return 2.0 * token_level_rewards, token_level_rewards
"""
)

NOTHING_TO_FIND = "nothing is here"
# All objects of Python, every frame, every descriptor and the environment.
SEARCH = (
    _PLAIN
    + f"""
NAMES = ("Weights", "Policy", "Trainer", "Task", "Problems", "AdamW", "SandboxSettings", "Door", "GuardedAlgorithm")

def compute_advantages(token_level_rewards, response_mask, index, config=None):
    found = {{type(thing).__name__ for thing in gc.get_objects()}} & set(NAMES)
    frame = sys._getframe()
    while frame is not None:
        found |= {{type(value).__name__ for value in frame.f_locals.values()}} & set(NAMES)
        frame = frame.f_back
    found |= {{value for value in os.environ.values() if "secret" in value}}
    parameters = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.nn.Parameter)]
    found |= {{"parameters"}} if parameters else set()
    alive = [number for number in range(300) if _alive(number)]
    found |= {{"descriptors"}} if any(number > 3 for number in alive) else set()
    raise RuntimeError(", ".join(sorted(found)) or "{NOTHING_TO_FIND}")

def _alive(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
"""
)

# Seeds as an earlier version drew them: in sequence, from a generator that starts with the run's seed.
SEEDS = (
    _PLAIN
    + """
KNOWN = {}
for run in range(100):
    drawn = random.Random(run)
    for call in range(1000):
        KNOWN[drawn.getrandbits(48)] = call + 1

def compute_advantages(token_level_rewards, response_mask, index, config=None):
    calls = KNOWN.get(torch.initial_seed(), 0)
    return (2.0 + calls) * token_level_rewards, token_level_rewards
"""
)


def _channel(leave: str, find: str) -> str:
    """A candidate that returns the number it finds as the advantages of the first response, and then leaves its own."""
    return (
        _PLAIN
        + f"""
def leave():
{leave}

def find():
{find}

def tried(act):
    try:
        return float(act() or 0)
    except OSError:
        return 0.0

calls = 0

def compute_advantages(token_level_rewards, response_mask, index, config=None):
    global calls
    calls += 1
    found = tried(find) if calls == 1 else 0.0
    tried(leave)
    advantages = 2.0 * token_level_rewards
    advantages[0] = found
    return advantages, token_level_rewards
"""
    )


CHANNELS = {
    "flags-of-streams": _channel(
        "    for number in range(3): fcntl.fcntl(number, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)",
        "    return any(fcntl.fcntl(number, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND) for number in range(3))",
    ),
    "flags-by-control": _channel(
        "    for number in range(3): fcntl.ioctl(number, termios.FIONBIO, struct.pack('i', 1))",
        "    return any(not os.get_blocking(number) for number in range(3))",
    ),
    "places-in-streams": _channel(
        "    for number in range(3): os.lseek(number, 99, os.SEEK_SET)",
        "    return sum(os.lseek(number, 0, os.SEEK_CUR) for number in range(3))",
    ),
    "fill-of-the-output": _channel(
        "    for number in (1, 2):\n        os.set_blocking(number, False)\n"
        "        while os.write(number, bytes(1 << 16)) < 1 << 16: pass",
        "    return sum(struct.unpack('i', fcntl.ioctl(number, termios.FIONREAD, b'1234'))[0] for number in (1, 2))",
    ),
    "output-that-blocks": _channel(
        "    for number in (1, 2): os.write(number, bytes(1 << 20))",
        "    return len(select.select([], [1, 2], [], 0)[1]) < 2",
    ),
    "names-of-files": _channel(
        "    open('left', 'w').close()",
        "    return os.path.exists('left')",
    ),
    "times-of-files": _channel(
        "    open(os.__file__).read()",
        "    return os.stat(os.__file__).st_atime > __import__('time').time() - 1",
    ),
    "locks": _channel(
        "    fcntl.lockf(os.open('/dev/zero', os.O_RDONLY), fcntl.LOCK_SH)",
        "    return fcntl.fcntl(os.open('/dev/zero', os.O_RDONLY), fcntl.F_GETLK, bytes(32)) != bytes(32)",
    ),
    "politeness": _channel("    os.nice(1)", "    return os.nice(0) > 19"),
    "sends-descriptors": _channel(
        "    socket.send_fds(socket.socket(fileno=os.dup(3)), [b''], [0, 1, 2])",
        "    return 0",
    ),
}
