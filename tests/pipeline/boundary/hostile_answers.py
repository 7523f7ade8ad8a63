"""Hostile candidates, second part: each attacks its own process, its answers or the connection."""

from __future__ import annotations

from dataclasses import dataclass

from tests import sentences

ANOTHER_PROCESS, VALIDATED = "boundary: nothing to reach", "boundary: reply validated"
TIME, WITNESS, LIMITS = "boundary: answer time", "boundary: witness", "resource limits"


@dataclass(frozen=True)
class Hostile:
    """One candidate that fails.

    Attributes:
        advantages: body of compute_advantages; `honest` are the advantages of an honest algorithm.
        loss: body of policy_loss; `honest` is an honest loss.
        shows: a regular expression that matches the whole failure except the place in the recipe.
    """

    name: str
    layer: str
    shows: str
    advantages: str = "return honest, honest"
    loss: str = "return honest, {}"
    top: str = ""


def text(candidate: Hostile) -> str:
    def body(code: str) -> str:
        return "".join(f"    {line}\n" for line in code.strip().split("\n"))

    return f"""
import builtins, ctypes, json, os, resource, signal, socket, struct, sys, time
import torch
{candidate.top}

def compute_advantages(token_level_rewards, response_mask, index, config=None):
    honest = token_level_rewards * 2.0 * response_mask
{body(candidate.advantages)}

def policy_loss(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None,
                rollout_is_weights=None):
    honest = -(log_prob * advantages * response_mask).sum()
{body(candidate.loss)}
"""


_GONE = r"compute_advantages ended its process"
_UNSENT = r"(what compute_advantages returned raised|its answer cannot be sent:) .*"
DEATHS = (
    Hostile("leave", ANOTHER_PROCESS, f"{_GONE}: exit status 0", "os._exit(0)"),
    Hostile("leave-as-after-success", ANOTHER_PROCESS, f"{_GONE}: exit status 77", "os._exit(77)"),
    Hostile("abort", ANOTHER_PROCESS, rf"{_GONE}: killed by signal 6 \(SIGABRT\)", "os.abort()"),
    Hostile("crash", ANOTHER_PROCESS, rf"{_GONE}: killed by signal 11 \(SIGSEGV\)", "ctypes.string_at(0)"),
    Hostile("jump-into-data", ANOTHER_PROCESS, rf"{_GONE}: killed by signal 11 \(SIGSEGV\)",
            "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.create_string_buffer(99)))()"),
    Hostile("overflow-the-stack", ANOTHER_PROCESS, rf"{_GONE}: killed by signal 11 \(SIGSEGV\)",
            "sys.setrecursionlimit(1 << 30)\nclass Deep:\n    def __getattr__(self, name): return getattr(self, name)\n"
            "Deep().x\ndeep = []\nfor _ in range(10**6): deep = [deep]\nrepr(deep)"),
    Hostile("leave-while-loading", ANOTHER_PROCESS, r"loading recipe/algorithm.py ended its process: exit status 3",
            top="os._exit(3)"),
    Hostile("exit", VALIDATED, r"compute_advantages raised SystemExit: 0", "sys.exit(0)"),
    Hostile("exit-while-loading", VALIDATED, r"importing recipe/algorithm.py raised SystemExit: 0", top="sys.exit(0)"),
    Hostile("interrupt", ANOTHER_PROCESS, f"{_GONE}: exit status 1", "raise KeyboardInterrupt"),
    Hostile("end-a-generator", ANOTHER_PROCESS, f"{_GONE}: exit status 1", "raise GeneratorExit"),
    Hostile("base-exception", VALIDATED, "compute_advantages raised Own: x",
            'class Own(BaseException): pass\nraise Own("x")'),
    Hostile("exception-without-words", VALIDATED, "compute_advantages raised Own: an error that cannot be printed",
            'class Own(Exception):\n    def __str__(self): raise Own\nraise Own("x")'),
    Hostile("exception-that-leaves", ANOTHER_PROCESS, f"{_GONE}: exit status 0",
            'class Own(Exception):\n    def __str__(self): os._exit(0)\nraise Own("x")'),
    Hostile("exception-with-megabytes", VALIDATED, "compute_advantages raised ValueError: x{100,}",
            'raise ValueError("x" * (1 << 24))'),
    Hostile("exception-for-a-terminal", VALIDATED,
            r"compute_advantages raised ValueError: \S+title\S+ ?\S*red\S* end",
            'raise ValueError("\\x1b]0;title\\x07\\x1b[2J\\x00\\x9bred\\u202e\\ud800 \\r\\n\\u2028end")'),
    Hostile("alarm", ANOTHER_PROCESS, rf"{_GONE}: killed by signal 14 \(SIGALRM\)",
            "signal.signal(signal.SIGALRM, signal.SIG_DFL)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(60)"),
    Hostile("kill-itself", ANOTHER_PROCESS, rf"{_GONE}: killed by signal 9 \(SIGKILL\)",
            "signal.raise_signal(signal.SIGKILL)"),
    Hostile("close-everything", ANOTHER_PROCESS, rf"{_GONE}: exit status 0", "os.closerange(0, 300)\nreturn honest, 0"),
    Hostile("shut-the-connection", ANOTHER_PROCESS, rf"{_GONE}(: exit status \d)?",
            "socket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_RDWR)\nreturn honest, 0"),
)  # fmt: skip

_LATE = r"compute_advantages did not answer within [01][.0-9]* s"
DELAYS = (
    Hostile("loop", TIME, _LATE, "while True: pass"),
    Hostile("loop-without-signals", TIME, _LATE,
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"),
    Hostile("sleep", TIME, _LATE, "time.sleep(1e6)"),
    Hostile("stop-itself", TIME, _LATE, "signal.raise_signal(signal.SIGSTOP)"),
    Hostile("exception-that-hangs", TIME, _LATE,
            'class Own(Exception):\n    def __str__(self):\n        while True: pass\nraise Own("x")'),
    Hostile("sleep-while-loading", TIME, "loading recipe/algorithm.py did not .* s",
            top="time.sleep(99)"),
    Hostile("half-a-frame", TIME, _LATE,
            'os.write(3, struct.pack(">I", 64) + b" " * 40)\ntime.sleep(1e6)'),
    Hostile("a-byte-now-and-then", TIME, _LATE,
            'os.write(3, struct.pack(">I", 1 << 10))\nwhile True:\n    time.sleep(0.1)\n    os.write(3, b" ")'),
)  # fmt: skip

BUSY = Hostile("busy", LIMITS, r"CPU time limit of 1 s reached", "while True: pass")

_SHAPE = r"compute_advantages returned advantages of shape .*"
_WORDS = r"compute_advantages must return \(advantages, returns\), it returned .*"
VALUES = (
    Hostile("other-shape", VALIDATED, _SHAPE, "return honest[:1], 0"),
    Hostile("no-shape", VALIDATED, _SHAPE, "return honest.sum(), 0"),
    Hostile("integers", VALIDATED, _SHAPE, "return honest.long(), 0"),
    Hostile("booleans", VALIDATED, "compute_advantages sent a tensor of type bool", "return honest.bool(), 0"),
    Hostile("complex", VALIDATED, "what compute_advantages returned raised ValueError: .*complex64 cannot be sent",
            "return honest.to(torch.complex64), 0"),
    Hostile("not-a-number", VALIDATED, "advantage is NaN", "return honest * float('nan'), 0"),
    Hostile("payload-in-nan", VALIDATED, "advantage is NaN",
            "honest.view(torch.int32)[0, 0] = 0x7FC12345\nreturn honest, 0"),
    Hostile("infinite", VALIDATED, "advantage is (NaN|infinite)", "return honest / 0, 0"),
    Hostile("too-large-for-float32", VALIDATED, "advantage is infinite", "return honest.double() + 1e300, 0"),
    Hostile("a-tensor-of-gigabytes", VALIDATED, r"compute_advantages sent \d+ bytes of tensors; the limit is \d+",
            "return torch.zeros(1 << 26), 0"),
    Hostile("expanded-to-terabytes", VALIDATED, _UNSENT, "return torch.zeros(1).expand(1 << 40), 0"),
    Hostile("sparse", VALIDATED, _UNSENT, "return honest.to_sparse(), 0"),
    Hostile("nested", VALIDATED, _UNSENT, 
            "return torch.nested.nested_tensor([honest[0], honest[0, :1]]), 0"),
    Hostile("quantized", VALIDATED, ".*", "return torch.quantize_per_tensor(honest, 0.1, 0, torch.quint8), 0"),
    Hostile("without-data", VALIDATED, _UNSENT, "return honest.to('meta'), 0"),
    Hostile("a-mapping", VALIDATED, _WORDS + "a dict", "return {}"),
    Hostile("a-generator", VALIDATED, _WORDS + "a generator", "return (yield)"),
    Hostile("a-tuple-of-a-million", VALIDATED, _WORDS + "a tuple", "return (honest,) * 10**6"),
    Hostile("evil-tuple", VALIDATED, "compute_advantages .*",
            "class Evil(tuple):\n    def __len__(self): return 2\n    def __iter__(self): return iter(())\n"
            "return Evil((honest, honest))"),
    Hostile("name-for-a-terminal", VALIDATED, _WORDS, 'return type("\\x1b[2J\\u202e" * 99, (), {})()'),
    Hostile("loss-of-many", VALIDATED, r"policy_loss must return a scalar loss, it returned a tensor of shape .*",
            loss="return log_prob * 1.0, {}"),
    Hostile("loss-of-nothing", VALIDATED, "policy_loss must return a scalar loss, it returned .*",
            loss="return 1.0, {}"),
    Hostile("loss-of-a-constant", VALIDATED, "policy_loss returned a loss that does not depend on log_prob",
            loss="return torch.ones(()), {}"),
    Hostile("loss-not-a-number", VALIDATED, "loss is NaN", loss="return honest * float('nan'), {}"),
    Hostile("gradient-not-a-number", VALIDATED, "gradient is NaN",
            loss="log_prob.register_hook(lambda g: g * float('nan'))\nreturn (log_prob * 2).sum(), {}"),
    Hostile("gradient-infinite", VALIDATED, "gradient is infinite",
            loss="log_prob.register_hook(lambda g: g / 0)\nreturn (log_prob * 2).sum(), {}"),
    Hostile("gradient-that-leaves", ANOTHER_PROCESS, "policy_loss ended its process: exit status 0",
            loss="log_prob.register_hook(lambda g: os._exit(0))\nreturn (log_prob * 2).sum(), {}"),
    Hostile("gradient-of-another-shape", VALIDATED, "policy_loss returned .*",
            loss="type(log_prob).grad = property(lambda t: torch.ones(99))\nreturn honest, {}"),
    Hostile("metrics-that-leave", ANOTHER_PROCESS, "policy_loss ended its process: exit status 0",
            loss="class Evil(dict):\n    def items(self): os._exit(0)\nreturn honest, Evil(a=1)"),
)  # fmt: skip

_FRAME = """
def write(content, kinds=(), body=b"", length=None):
    header = content if isinstance(content, bytes) else json.dumps([content, list(kinds)]).encode()
    os.write(3, struct.pack(">I", len(header) if length is None else length) + header + body)
    time.sleep(1e6)
"""


def _frame(name: str, code: str, shows: str, layer: str = VALIDATED) -> Hostile:
    return Hostile(name, layer, f"compute_advantages {shows}", code, top=_FRAME)


_NO_FRAME = "sent something that is not a frame"
_NO_TENSOR = f"sent {sentences.UNKNOWN_TENSOR}"
FRAMES = (
    _frame("garbage", 'os.write(3, b"\\xff" * 4096)\ntime.sleep(1e6)', r"sent a header of \d+ bytes"),
    _frame("a-header-of-gigabytes", "write({}, length=0xFFFFFFC0)", r"sent a header of \d+ bytes"),
    _frame("a-body-of-terabytes", 'write({}, [["float64", [1 << 39]]])',
           r"sent \d+ bytes of tensors; the limit is \d+"),
    _frame("header-of-nothing", "write(b'')", _NO_FRAME),
    _frame("no-json", 'write(b"{" * 64)', _NO_FRAME),
    _frame("no-text", 'write(bytes(range(192, 256)))', _NO_FRAME),
    _frame("deep-json", 'write(b"[" * 60000)', _NO_FRAME),
    _frame("a-number-of-many-digits", 'write(b"[" + b"9" * 60000 + b", []]")', _NO_FRAME),
    _frame("another-layout", 'write(b"[1, 2, 3]")', _NO_FRAME),
    _frame("a-list-for-content", 'write([])', _NO_FRAME),
    _frame("many-tensors", 'write({}, [["float32", [0]]] * 1000)', _NO_FRAME),
    _frame("unknown-type", 'write({}, [["object", [1]]], bytes(64))', _NO_TENSOR),
    _frame("negative-size", 'write({}, [["float32", [-1]]], bytes(64))', _NO_TENSOR),
    _frame("broken-size", 'write({}, [["float32", [1.5]]], bytes(64))', _NO_TENSOR),
    _frame("many-dimensions", 'write({}, [["float32", [1] * 99]], bytes(64))', _NO_TENSOR),
    _frame("strides-beyond-64-bits", 'write({}, [["float32", [0] + [(1 << 32) - 1] * 7]])',
           f"sent {sentences.TOO_MANY_ELEMENTS}"),
    _frame("more-than-it-sends", 'write({}, [["float64", [9, 9]]], bytes(64))', "did not answer within .* s", TIME),
    _frame("answers-of-another-kind", 'write({"value": {"series": {}}, "layers": []})',
           r"must return \(advantages, returns\), it returned something else"),
    _frame("a-tensor-that-is-not-there", 'write({"returned": [{"tensor": 0}, {}]})',
           r"must return \(advantages, returns\), it returned something else"),
    Hostile("failure-as-a-mapping", VALIDATED, f"the candidate's process {_NO_FRAME}",
            'write({"failed": {"a": [1]}})', top=_FRAME),
    Hostile("failure-for-a-terminal", VALIDATED, "[\N{REPLACEMENT CHARACTER} abc]+",
            'write({"failed": "\\x1b\\x07a\\x00b\\n\\ud800\\u202ec"})', top=_FRAME),
    Hostile("two-answers", VALIDATED, "policy_loss .*",
            'described = [{"returned": [{"tensor": 0}, {"tensor": 0}]}, [["float32", list(honest.shape)]]]\n'
            'header, body = json.dumps(described).encode().ljust(128), honest.numpy().tobytes().ljust(64)\n'
            'os.write(3, struct.pack(">I", len(header)) + header + body)\nreturn honest, 0'),
)  # fmt: skip

_OTHER_NUMBERS = rf"(compute_advantages|policy_loss) {sentences.OTHER_NUMBERS}; .*"


def _remembers(name: str, top: str, factor: str) -> Hostile:
    return Hostile(name, WITNESS, _OTHER_NUMBERS, loss=f"return honest * ({factor}), {{}}", top=top)


MEMORY = (
    _remembers("counter", "calls = []", "1.05 ** len(calls) if calls.append(0) is None else 0"),
    _remembers("function-attribute", "",
               "setattr(policy_loss, 'n', getattr(policy_loss, 'n', 0) + 1) or policy_loss.n"),
    _remembers("default-argument", "def grow(n=[]):\n    n.append(0)\n    return len(n)", "grow()"),
    _remembers("attribute-of-torch", "", "setattr(torch, 'n', getattr(torch, 'n', 0) + 1) or torch.n"),
    _remembers("own-environment", "",
               "os.environ.__setitem__('n', os.environ.get('n', '') + 'x') or len(os.environ['n'])"),
    _remembers("its-number", "", "os.getpid()"),
    _remembers("numbers-of-the-system", "", "1 + os.urandom(1)[0]"),
    _remembers("numbers-drawn-at-first", "import random\nfactor = random.random()", "factor"),
    _remembers("time", "", "time.monotonic()"),
    _remembers("processor-time", "", "time.process_time()"),
    _remembers("own-timer", "signal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.setitimer(signal.ITIMER_REAL, 1e5)",
               "signal.getitimer(signal.ITIMER_REAL)[0]"),
    _remembers("pending-signals", "signal.pthread_sigmask(signal.SIG_BLOCK, [10])",
               "2 if signal.sigpending() or signal.raise_signal(10) else 1"),
    _remembers("more-descriptors", "", "os.dup(0)"),
    _remembers("flags-of-the-connection", "", "2 if socket.socket(fileno=os.dup(3)).gettimeout() is None and "
               "os.get_blocking(3) is False else 1 + (os.set_blocking(3, True) or os.dup(3))"),
    # The attacker's answers arrive one question late.
    Hostile("answers-one-question-late", WITNESS, r"(compute_advantages|policy_loss) .*",
            top='os.write(3, (struct.pack(">I", 64) + b'+"b'[{\"loaded\":true},[]]'.ljust(64)"[1:]+') * 2)'),
)  # fmt: skip
