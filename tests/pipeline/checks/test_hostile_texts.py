"""Texts that use more than an algorithm needs: each is refused in one line that names the rule and the place.

The list is a sample, not a complete defense: the sandbox confines candidates that pass.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from poise_git.pipeline.checks import allowed
from poise_git.pipeline.checks.runner import check_text
from tests import sentences

Edit = Callable[..., Mapping[str, str]]
END = "    return loss, metrics\n"
# Put before the return of `policy_loss`.
IN_A_FUNCTION = [
    # Public names of torch that are modules of Python.
    ("torch.os.system('id')", "attributes", "uses the attribute .system"),
    ("x = torch.os", "attributes", "uses torch.os, which is not allowed"),
    ("torch.os.environ", "attributes", ".environ"),
    ("torch.sys.modules", "attributes", ".modules"),
    ("torch.inspect.currentframe()", "attributes", ".currentframe"),
    ("torch.inspect.stack()", "attributes", "uses the attribute .stack"),
    ("torch.builtins.exec('1')", "attributes", ".exec"),
    ("torch.builtins.eval('1')", "attributes", ".eval"),
    ("torch.ctypes.string_at(0)", "attributes", ".string_at"),
    ("torch.importlib.import_module('os')", "attributes", ".import_module"),
    ("torch.utils.cpp_extension.load('x')", "attributes", ".load"),
    ("torch.cuda.synchronize()", "attributes", ".synchronize"),
    ("torch.load('x')", "attributes", "torch.load"),
    ("torch.save(loss, 'x')", "attributes", "torch.save"),
    ("torch.hub.load('x', 'y')", "attributes", ".load"),
    ("torch.compile(masked_mean)", "attributes", "torch.compile"),
    ("torch.jit.script(masked_mean)", "attributes", ".script"),
    ("torch.ops.aten.add", "attributes", ".aten"),
    ("torch.classes.load_library('x')", "attributes", ".load_library"),
    ("torch._C", "attributes", "torch._C"),
    ("torch.set_num_threads(1)", "attributes", "torch.set_num_threads"),
    ("torch.manual_seed(1)", "attributes", "torch.manual_seed"),
    ("torch.set_default_dtype(torch.float64)", "attributes", "torch.set_default_dtype"),
    ("torch.autograd.set_grad_enabled(True)", "attributes", "torch.autograd.set_grad_enabled"),
    ("torch.frombuffer(b'', dtype=torch.int8)", "syntax", "b''"),
    ("torch.frombuffer('', dtype=torch.int8)", "attributes", "torch.frombuffer"),
    ("torch.from_file('x')", "attributes", "torch.from_file"),
    ("torch.asarray(loss)", "attributes", "torch.asarray"),
    ("torch.as_strided(loss, (9,), (1,), 9)", "attributes", "torch.as_strided"),
    ("loss.as_strided((9,), (1,), 9)", "attributes", ".as_strided"),
    ("loss.set_(log_prob)", "attributes", ".set_"),
    ("loss.untyped_storage()", "attributes", ".untyped_storage"),
    ("loss.data_ptr()", "attributes", ".data_ptr"),
    ("loss.data", "attributes", ".data"),
    ("loss.grad_fn.next_functions", "attributes", ".next_functions"),
    ("loss.register_hook(masked_mean)", "attributes", ".register_hook"),
    ("loss.backward()", "attributes", ".backward"),
    ("loss.numpy().tofile('x')", "attributes", ".tofile"),
    ("loss.cuda()", "attributes", ".cuda"),
    ("loss.cpu()", "attributes", ".cpu"),
    ("loss.map_(loss, masked_mean)", "attributes", ".map_"),
    ("loss.__class__", "attributes", ".__class__"),
    ("masked_mean.__globals__", "attributes", ".__globals__"),
    ("masked_mean.__code__", "attributes", ".__code__"),
    ("alias = torch\n    alias.os", "attributes", "torch is a module"),
    ("(torch if loss else 0).os", "attributes", "os"),
    ("[torch][0].os", "attributes", "os"),
    ("torch.nn.functional.torch", "attributes", "torch.nn.functional.torch"),
    ("torch.nn.Module()", "attributes", "torch.nn.Module"),
    ("torch.linalg.torch", "attributes", "torch.linalg.torch"),
    ("torch.special.os", "attributes", "torch.special.os"),
    ("torch.float32.__class__", "attributes", ".__class__"),
    # Memory.
    ("policy_loss.calls = 1", "attributes", "sets the attribute .calls"),
    ("policy_loss.calls += 1", "attributes", ".calls"),
    ("torch.where = masked_mean", "attributes", "sets the attribute .where"),
    ("torch.Tensor.sum = masked_mean", "attributes", "sets the attribute .sum"),
    ("Rollouts.score = loss", "attributes", "sets the attribute .score"),
    ("for loss.x in [1]:\n        pass", "attributes", "sets the attribute .x"),
    ("[0 for loss.x in [1]]", "attributes", "sets the attribute .x"),
    ("with torch.no_grad() as loss.x:\n        pass", "attributes", "sets the attribute .x"),
    ("(loss.x, y) = 1, 2", "attributes", "sets the attribute .x"),
    ("global SEEN\n    SEEN = 1", "syntax", "`global` is not allowed"),
    ("x = 1\n    def inner():\n        nonlocal x\n        x = 2", "syntax", "`nonlocal` is not allowed"),
    ("del loss", "syntax", "`del` is not allowed"),
    ("del torch.where", "syntax", "`del` is not allowed"),
    ("class Late:\n        pass", "syntax", "`class` is not allowed; write functions"),
    ("try:\n        x = 1\n    except Exception:\n        pass", "syntax", "`try` is not allowed"),
    ("try:\n        x = 1\n    finally:\n        x = 2", "syntax", "`try` is not allowed"),
    ("match loss:\n        case Callable(__globals__=g):\n            pass", "syntax", "`match` is not allowed"),
    ("match loss:\n        case object(__class__=c):\n            pass", "syntax", "`match` is not allowed"),
    ("def inner():\n        yield 1", "syntax", "`yield` is not allowed"),
    ("def inner():\n        yield from [1]", "syntax", "`yield` is not allowed"),
    ("async def inner():\n        pass", "syntax", "`async def` is not allowed"),
    ("async def inner():\n        await loss", "syntax", "`async def` is not allowed"),
    ("@print\n    def inner():\n        pass", "syntax", "inner may have no decorator"),
    ("@torch.no_grad\n    def inner():\n        pass", "syntax", "inner may have no decorator"),
    ("@torch.no_grad(print())\n    def inner():\n        pass", "syntax", "inner may have no decorator"),
    ("x: print() = 3", "syntax", "an annotation names a type; this one is computed (call)"),
    ("x: (y := 3) = 3", "parse", "can not be used within an annotation"),
    ("x: (1 if loss else 2) = 3", "syntax", "this one is computed (ifexp)"),
    ("def inner(x: [print() for _ in [1]]):\n        pass", "syntax", "this one is computed"),
    ("def inner() -> (lambda: 0)():\n        pass", "syntax", "this one is computed"),
    ("x = 3j", "syntax", "3j is not allowed"),
    # Python's own names.
    ("eval('1')", "names", "uses eval, which is not allowed"),
    ("exec('1')", "names", "uses exec"),
    ("compile('1', '', 'eval')", "names", "uses compile"),
    ("open('x')", "names", "uses open"),
    ("print('x')", "names", "uses print"),
    ("input()", "names", "uses input"),
    ("breakpoint()", "names", "uses breakpoint"),
    ("globals()", "names", "uses globals"),
    ("vars(loss)", "names", "uses vars"),
    ("type(loss)", "names", "uses type"),
    ("object()", "names", "uses object"),
    ("super()", "names", "uses super"),
    ("memoryview(loss)", "names", "uses memoryview"),
    ("__import__('os')", "names", "uses __import__"),
    ("__builtins__", "names", "uses __builtins__"),
    ("__loader__", "names", "uses __loader__"),
    ("__file__", "names", "uses __file__"),
    ("setattr(loss, 'x', 1)", "names", "uses setattr"),
    ("delattr(loss, 'x')", "names", "uses delattr"),
    ("getattr(config, loss_agg_mode)", "names", "getattr is allowed only as a call with a literal"),
    ("getattr(config, '__class__')", "names", "literal, public attribute name"),
    ("getattr(torch, 'os')", "names", "literal"),
    ("getattr(torch, 'o' 's')", "names", "literal"),
    ("getattr(torch, 'o' + 's')", "names", "literal"),
    ("getattr(torch, f'os')", "names", "literal"),
    ("getattr(*[masked_mean, '__globals__'], 'x')", "names", "literal"),
    ("getattr(*[masked_mean, '__globals__'])", "names", "literal"),
    ("getattr(masked_mean, 'sum', *[0])", "names", "literal"),
    ("getattr(masked_mean, name='sum')", "names", "literal"),
    ("reach = getattr", "names", "literal"),
    ("map(getattr, [torch], ['os'])", "names", "literal"),
    ("hasattr(torch, '_C')", "names", "literal"),
    ("def eval(x):\n        return x", "names", sentences.BUILTIN_NAME.format(name="eval")),
    ("[0 for exec in [1]]", "names", sentences.BUILTIN_NAME.format(name="exec")),
    ("(lambda open: open)(1)", "names", sentences.BUILTIN_NAME.format(name="open")),
    ("(open := 1)", "names", sentences.BUILTIN_NAME.format(name="open")),
    ("loss_sum + 1", "names", "loss_sum is not defined"),
    ("'{0.__class__}'.format(loss)", "attributes", ".format"),
    ("f'{loss}'.format(loss)", "attributes", ".format"),
    ("'{x.__class__}'.format_map({'x': loss})", "attributes", ".format_map"),
    # Imports.
    ("import os", "imports", "imports os; allowed are "),
    ("import subprocess as math", "imports", "imports subprocess"),
    ("import torch.utils", "imports", "imports torch.utils"),
    ("import torch.hub as hub", "imports", "imports torch.hub"),
    ("import importlib", "imports", "imports importlib"),
    ("import numpy", "imports", "imports numpy"),
    ("from torch import os", "imports", "imports 'os' from torch"),
    ("from torch import sys, builtins", "imports", "imports 'sys' from torch"),
    ("from torch import load as where", "imports", "imports 'load' from torch"),
    ("from torch.autograd import Function", "imports", "imports 'Function'"),
    ("from torch.nn import Module", "imports", "imports 'Module'"),
    ("from torch.nn.functional import torch", "imports", "imports 'torch'"),
    ("from typing import sys", "imports", "imports 'sys' from typing"),
    ("from typing import get_type_hints", "imports", "imports 'get_type_hints'"),
    ("from collections.abc import sys", "imports", "imports 'sys'"),
    ("from .rollouts import torch", "imports", "imports 'torch' from .rollouts"),
    ("from .rollouts import __builtins__", "imports", "imports '__builtins__'"),
    ("from . import rollouts", "imports", "imports ."),
    ("from .. import settings", "imports", "imports .."),
    ("from .algorithm import policy_loss", "imports", "imports .algorithm"),
]  # fmt: skip
# Put at the end of the file.
AT_MODULE_LEVEL = [
    ("from torch import *", "imports", "'*'"),
    ("from __future__ import annotations", "parse", "must occur at the beginning"),
    ("SEEN = {}", "module-level", "a dict can change between calls: use a tuple"),
    ("SEEN = []", "module-level", "a list can change between calls"),
    ("SEEN = {1}", "module-level", "a set can change between calls"),
    ("SEEN = ([],)", "module-level", "a list can change between calls"),
    ("SEEN = set()", "module-level", "computed (call)"),
    ("SEEN = [x for x in (1, 2)]", "module-level", "computed (listcomp)"),
    ("SEEN = (x for x in (1, 2))", "module-level", "computed"),
    ("LATE = lambda x: x", "module-level", "not a lambda: write a function"),
    ("TABLE = torch.zeros(3)", "module-level", "must be a constant"),
    ("X: print() = 3", "syntax", "an annotation names a type; this one is computed"),
    ("X: __import__('os').system('id') = 3", "syntax", "computed"),
    ("X = torch.os", "attributes", "torch.os"),
    ("X = torch", "attributes", "torch is a module"),
    ("X = getattr", "names", "literal"),
    ("torch.where = 3", "module-level", "a plain name"),
    ("X, Y = 1, 2", "module-level", "a plain name"),
    ("X = f'{1}'", "module-level", "computed (joinedstr)"),
    ("X = 1 if True else 2", "module-level", "computed (ifexp)"),
    ("X = (1, 2)[0]", "module-level", "computed (subscript)"),
    ("X = (Y := 3)", "module-level", "computed (namedexpr)"),
    ("X += 1", "module-level", "only imports, constants and functions"),
    ("print('at import')", "module-level", "only imports, constants and functions"),
    ("'a text'.strip()", "module-level", "only imports, constants and functions"),
    ("if True:\n    pass", "module-level", "only imports, constants and functions"),
    ("for x in (1,):\n    pass", "module-level", "only imports, constants and functions"),
    ("with torch.no_grad():\n    pass", "module-level", "only imports, constants and functions"),
    ("class Late:\n    pass", "module-level", "only imports, constants and functions"),
    ("async def late():\n    pass", "module-level", "only imports, constants and functions"),
    ("def late(seen=[]):\n    pass", "module-level", "the defaults of late must be constants, and a list can change"),
    ("def late(seen={}):\n    pass", "module-level", "a dict can change"),
    ("def late(*, seen=[0]):\n    pass", "module-level", "a list can change"),
    ("def late(x=torch.zeros(3)):\n    pass", "module-level", "the defaults of late"),
    ("def late(x=print()):\n    pass", "module-level", "computed (call)"),
    ("def late(x=lambda: 0):\n    pass", "module-level", "not a lambda"),
    ("@staticmethod\ndef late():\n    pass", "module-level", sentences.DECORATOR.format(function="late")),
    ("@torch.os.system\ndef late():\n    pass", "module-level", "late may have no decorator"),
    ("@torch" + ".a" * 450 + "\ndef late():\n    pass", "parse", "nested more than 50 deep"),
    ("X = " + "-" * 900 + "1", "parse", "signs before one value"),
    ("X = (" + "-\n" * 20_000 + "1)", "parse", "signs before one value"),
    ("X = " + "(" * 200 + ")" * 200, "parse", "brackets inside one another"),
    ("X = " + "1" * 500, "parse", "a number of 500 characters"),
    ("X = 0x" + "f" * 900, "parse", "a number of 902 characters"),
    ("X = 1e999", "parse", "not finite"),
    ("def late(x):\n    if x: pass\n" + "    elif x: pass\n" * 3000, "parse", "elif in a row"),
    ("X = '''" + "a\n" * 5000 + "'''", "parse", "a string of"),
    ("X = f'" + "{(((((((1)))))))}" + "'", "parse", "a formatted string that is too long, or nested too deep"),
    ("X = a" + "[0]" * 300, "parse", "nested more than 50 deep"),
    ("X = (" + "1, " * 200 + "\n" + "1, " * 200 + "\n" + "1, " * 200 + ")", "parse", "a statement of more than"),
    ("# \x0c", "text", "a form feed (U+000C)"),
    ("X = '\u2028'", "text", "LINE SEPARATOR (U+2028)"),
    ("X = '\u202e'", "text", "RIGHT-TO-LEFT OVERRIDE"),
    ("X = '\x1b[2J'", "text", "an escape character"),
    ("X = '\x85'", "text", "(U+0085)"),
    ("X = 'a\rb'", "text", "a carriage return alone"),
    ("# \u200b", "text", "ZERO WIDTH SPACE"),
    ("# \ufeff", "text", "a byte order mark"),
    ("# \ufffd", "text", "not UTF-8"),
    ("\uff45val('1')", "text", "Python reads \uff45val as eval"),
    ("return 3", "parse", "'return' outside function"),
    ("X = = 1", "parse", "invalid syntax, at: X = = 1"),
    ("#" * 70_000, "size", "are allowed"),
]  # fmt: skip
AT_THE_TOP = [
    ("# coding: raw_unicode_escape\n", "text", "a comment that declares a coding"),
    ("# -*- coding: utf-8 -*-\n", "text", "a comment that declares a coding"),
    ("#!/usr/bin/python\n# vim: set fileencoding=utf-7 :\n", "text", "line 2: a comment that declares a coding"),
    ("\ufeff", "text", "line 1: a byte order mark"),
]


def refusal(recipe: Mapping[str, str], grpo: Mapping[str, str]) -> tuple[str, str]:
    failure = check_text(recipe, grpo)
    assert failure is not None
    assert len(failure.reason.splitlines()) == 1
    assert len(failure.reason) < 700
    return failure.check, failure.reason


@pytest.mark.parametrize(("code", "check", "reason"), IN_A_FUNCTION, ids=[code[0] for code in IN_A_FUNCTION])
def test_hostile_code_in_a_function_is_refused(
    grpo: Mapping[str, str], edited: Edit, code: str, check: str, reason: str
) -> None:
    found = refusal(edited((END, f"    {code}\n{END}")), grpo)
    assert found[0] == check, found
    assert reason in found[1]
    first = grpo["algorithm.py"].count("\n")
    assert any(f"line {first + more}" in found[1] for more in range(4))


@pytest.mark.parametrize(("code", "check", "reason"), AT_MODULE_LEVEL, ids=[code[0][:30] for code in AT_MODULE_LEVEL])
def test_hostile_code_at_module_level_is_refused(
    grpo: Mapping[str, str], edited: Edit, code: str, check: str, reason: str
) -> None:
    found = refusal(edited((END, f"{END}{code}\n")), grpo)
    assert found[0] == check, found
    assert reason in found[1]


@pytest.mark.parametrize(("code", "check", "reason"), AT_THE_TOP)
def test_hostile_code_at_the_top_of_a_file_is_refused(
    grpo: Mapping[str, str], code: str, check: str, reason: str
) -> None:
    found = refusal({**grpo, "algorithm.py": code + grpo["algorithm.py"]}, grpo)
    assert found[0] == check
    assert reason in found[1]


# Constructs of published algorithms, and of honest ones that only fail other checks.
HONEST = [
    "n, t = advantages.shape\n    flat = advantages.reshape(-1)\n"
    "    gap = (flat.unsqueeze(0) - flat.unsqueeze(1)).abs().mean(-1).reshape(n, t)",
    "limit = torch.quantile(advantages.abs().reshape(-1), 0.999)\n    x = advantages.clamp(-limit, limit)",
    "out = advantages.clone()\n    for i in range(advantages.shape[0]):\n        for j in range(advantages.shape[1]):\n"
    "            out[i, j] = advantages[i, j] * (1.0 if response_mask[i, j] else 0.0)",
    "x = torch.ones(log_prob.shape, device=log_prob.device, dtype=log_prob.dtype)",
    "x = torch.arange(log_prob.shape[-1], device=log_prob.device)",
    "while True:\n        break",
    "x = torch.nn.functional.softplus(log_prob, beta=2)",
    "import torch.nn.functional as F\n    x = F.logsigmoid(log_prob)",
    "from torch.nn import functional as F\n    x = F.pad(F.normalize(log_prob, dim=-1)[:, 1:], (0, 1))",
    "import math\n    x = math.log(2.0) * log_prob / math.sqrt(log_prob.shape[-1])",
    "x = torch.einsum('nt,nt->n', log_prob, response_mask.to(log_prob.dtype))",
    "rank = torch.argsort(torch.argsort(advantages.sum(-1))).to(log_prob.dtype)",
    "values, places = torch.topk(log_prob, 2, dim=-1)\n    x = log_prob.gather(-1, places)",
    "x = torch.zeros_like(log_prob).scatter_add(-1, torch.zeros_like(log_prob).long(), log_prob)",
    "x = torch.cumsum(log_prob.flip(-1), -1).flip(-1)",
    "x = torch.logsumexp(log_prob, -1) + log_prob.softmax(-1).sum() + torch.log_softmax(log_prob, -1).sum()",
    "(g,) = torch.autograd.grad(loss, log_prob, create_graph=True)",
    "with torch.no_grad():\n        x = log_prob.detach().exp()",
    "x = torch.linalg.norm(log_prob, dim=-1) + torch.special.xlogy(log_prob.exp(), log_prob.exp()).sum(-1)",
    "x = [masked_mean(part, mask) for part, mask in zip(log_prob, response_mask)]\n    y = torch.stack(x)",
    "x = {k: v.item() for k, v in {'a': loss.detach()}.items()}\n    metrics.update(x)",
    "metrics[f'actor/{loss_agg_mode}'] = float(loss.detach())",
    "clip = getattr(config, 'clip_ratio', None)\n    x = 0.2 if clip is None else clip",
    "low, *rest = log_prob.shape\n    x = torch.zeros(*log_prob.shape, device=log_prob.device)",
    "key = lambda value: -value\n    x = sorted([1.0, 2.0], key=key)",
    "assert log_prob.ndim == 2\n    if log_prob.ndim != 2:\n        raise ValueError(f'{log_prob.ndim} dimensions')",
    "x = torch.finfo(log_prob.dtype).eps",
    "x = log_prob.masked_fill(response_mask == 0, -math_inf)\n    math_inf = 1.0",
    "kept = log_prob.clone()\n    kept[response_mask == 0] = 0.0\n    kept.mul_(2.0).clamp_(max=1.0)",
    "x = torch.nan_to_num(log_prob, nan=0.0)",
    "μ = log_prob.mean()\n    x = (log_prob - μ) / log_prob.std().clamp(min=1e-6)",
    "x = torch.std_mean(log_prob, dim=-1)[0] + torch.var_mean(log_prob, dim=-1)[1]",
    "x = log_prob[..., None] @ log_prob[:, None, :]",
    "x = torch.where(torch.isclose(log_prob, old_log_prob), 0.0, 1.0)",
    "x = any(v > 1 for v in [1, 2]) and max(1, 2) and isinstance(loss_agg_mode, str)",
    "x = torch.unique(advantages, return_inverse=True)[1].bincount()",
    "x = -(log_prob.exp() * log_prob).sum(-1) * 0.01",
]


@pytest.mark.parametrize("code", HONEST)
def test_honest_code_passes(grpo: Mapping[str, str], edited: Edit, code: str) -> None:
    assert check_text(edited((END, f"    {code}\n{END}")), grpo) is None


@pytest.mark.parametrize(
    "code",
    [
        "LEVELS = (0.0, -1.0, math.pi)\nimport math",
        "LIMIT: float = 2 * 0.5",
        'MODE = "token-mean"',
        "KIND = torch.float32",
        "def late(values: Tensor, share: float = -0.5, levels: tuple[float, ...] = (0.0, 1.0)) -> Tensor:\n"
        "    return values * share",
        "@torch.no_grad()\ndef late(values: 'Tensor | None' = None) -> None:\n    pass",
        "from torch import no_grad\n@no_grad()\ndef late() -> None:\n    pass",
        "from typing import Optional, Callable\ndef late(f: Callable[[Tensor], Tensor], x: Optional[int]) -> Tensor:\n"
        "    return f(x)",
    ],
)
def test_honest_modules_pass(grpo: Mapping[str, str], edited: Edit, code: str) -> None:
    assert check_text(edited((END, f"{END}{code}\n")), grpo) is None


def test_every_listed_name_exists_in_torch_and_is_no_module() -> None:
    for module in ("torch", "torch.nn", "torch.nn.functional", "torch.linalg", "torch.special", "torch.autograd"):
        owner: Any = torch
        for step in module.split(".")[1:]:
            owner = getattr(owner, step)
        for name in allowed.MODULES[module]:
            found = getattr(owner, name)
            assert not isinstance(found, types.ModuleType) or f"{module}.{name}" in allowed.MODULES, name
            assert not name.startswith("_")
    for name in allowed.MEMBERS:
        for each in (torch, torch.nn.functional, torch.Tensor, torch.linalg, torch.autograd):
            assert not isinstance(getattr(each, name, None), types.ModuleType), name


def test_the_documents_say_what_the_code_allows() -> None:
    root = Path(__file__).parents[3]
    assert allowed.describe() in (root / "docs" / "human.md").read_text(encoding="utf-8")
    assert "{{ allowed }}" in (root / "prompts" / "rules.md.j2").read_text(encoding="utf-8")
