from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from poise_git.pipeline.checks import same_algorithm
from poise_git.pipeline.checks.static import SIZE_LIMIT, STATIC, Sources
from tests import sentences

Edit = Callable[..., Mapping[str, str]]
END = "    return loss, metrics\n"


def first_failure(recipe: Mapping[str, str], parent: Mapping[str, str]) -> tuple[str, str] | None:
    sources = Sources(recipe, parent)
    return next(((name, reason) for name, check in STATIC if (reason := check(sources)) is not None), None)


def test_grpo_passes(grpo: Mapping[str, str]) -> None:
    assert first_failure(grpo, grpo) is None


@pytest.mark.parametrize(
    ("old", "new", "check", "reason"),
    [
        (END, "    return loss,, metrics\n", "parse", "line {line}: invalid syntax, at: return loss,, metrics"),
        (END, "    return = 3\n", "parse", "line {line}: "),
        (END, "    return '\0'\n", "text", "line {line}: a null character (U+0000)"),
        (END, END + "#" * SIZE_LIMIT, "size", f"{SIZE_LIMIT} are allowed"),
        (END, END + "import os\n", "imports", "line {next}: imports os; allowed are "),
        (END, "    import socket\n" + END, "imports", "line {line}: imports socket"),
        (END, END + "import torch.hub\n", "imports", "torch.hub"),
        (END, END + "from torch import load\n", "imports", "imports 'load' from torch"),
        (END, END + "from torch import *\n", "imports", "'*'"),
        (END, END + "from .. import settings\n", "imports", "imports .."),
        (END, END + "from .other import thing\n", "imports", "imports .other"),
        (END, "    eval('1')\n" + END, "names", "line {line}: uses eval"),
        (END, "    __import__('os')\n" + END, "names", "line {line}: uses __import__"),
        (END, "    open('x')\n" + END, "names", "uses open"),
        (END, "    getattr(config, loss_agg_mode)\n" + END, "names", "literal"),
        (END, "    getattr(config, '__class__')\n" + END, "names", "literal"),
        (END, "    reach = getattr\n" + END, "names", "literal"),
        (END, "    loss.__class__\n" + END, "attributes", "line {line}: uses the attribute .__class__"),
        (END, "    torch.save(loss, 'x')\n" + END, "attributes", ".save"),
        (END, "    torch.utils.cpp_extension.load('x')\n" + END, "attributes", ".load"),
        (END, "    torch._C\n" + END, "attributes", "._C"),
        (END, END + "print('at import')\n", "module-level", "line {next}: only imports, constants and functions"),
        (END, END + "TABLE = torch.zeros(3)\n", "module-level", "must be a constant"),
        (END, END + "def late(x=torch.zeros(3)):\n    return x\n", "module-level", "defaults of late"),
        (END, END + "@staticmethod\ndef late():\n    return 0\n", "module-level", "late may have no decorator"),
        (END, END + "class Late:\n    pass\n", "module-level", "only imports"),
        ("def policy_loss(", "def policy_losses(", "entry-points", "there is no function policy_loss(old_log_prob, "),
        ("    index: Sequence[Any],\n", "", "entry-points", "expected compute_advantages(token_level_rewards, "),
        (
            'loss_agg_mode: str = "token-mean",\n    config: Any = None,\n    rollout_is_weights: Tensor | None = None',
            "loss_agg_mode: str,\n    config: Any,\n    rollout_is_weights: Tensor | None",
            "entry-points",
            "must have defaults",
        ),
    ],
)
def test_bad_text_is_refused_with_the_reason(
    grpo: Mapping[str, str], edited: Edit, old: str, new: str, check: str, reason: str
) -> None:
    lines = grpo["algorithm.py"].count("\n")
    failure = first_failure(edited((old, new)), grpo)
    assert failure is not None
    assert failure[0] == check
    assert reason.format(line=lines, next=lines + 1) in failure[1]
    assert "\n" not in failure[1]


@pytest.mark.parametrize(
    "addition",
    [
        "import math\n",
        "from torch.nn import functional\n",
        "LIMIT: float = 2 * 0.5\n",
        "LEVELS = (0.0, -1.0, math.pi)\nimport math\n",
        "@torch.no_grad()\ndef late(values: Tensor, share: float = -0.5) -> Tensor:\n    return values * share\n",
        "def late(config: Any) -> Any:\n    return getattr(config, 'clip_ratio', None)\n",
    ],
)
def test_ordinary_text_passes(grpo: Mapping[str, str], edited: Edit, addition: str) -> None:
    assert first_failure(edited((END, END + addition)), grpo) is None


def test_other_files_of_the_recipe_must_not_change(grpo: Mapping[str, str]) -> None:
    for changed in ({**grpo, "rollouts.py": ""}, {**grpo, "extra.py": ""}, {"algorithm.py": grpo["algorithm.py"]}):
        failure = first_failure(changed, grpo)
        assert failure is not None
        assert failure[0] == "files"
    failure = first_failure({name: text for name, text in grpo.items() if name != "algorithm.py"}, grpo)
    assert failure == ("files", "there is no algorithm.py")


def test_layout_does_not_change_an_algorithm(grpo: Mapping[str, str], edited: Edit) -> None:
    source = grpo["algorithm.py"]
    other: Any = edited(
        ("here nothing. (N,)", "not at all"),
        ("    advantages = shape_token", "    # why\n\n    advantages = shape_token"),
    )
    assert same_algorithm(source, other["algorithm.py"])
    assert not same_algorithm(source, edited(("= 0.2", "= 0.25"))["algorithm.py"])
    assert not same_algorithm(source, "def broken(:")


@pytest.mark.parametrize("size", [SIZE_LIMIT - 2000, SIZE_LIMIT + 1])
def test_the_size_counts_bytes(grpo: Mapping[str, str], size: int) -> None:
    missing = size - len(grpo["algorithm.py"].encode())
    text = grpo["algorithm.py"] + "# π\n" * (missing // 5)
    failure = first_failure({**grpo, "algorithm.py": text + "#" * (size - len(text.encode()))}, grpo)
    assert failure is None if size < SIZE_LIMIT else failure is not None and failure[0] == "size"


def test_every_check_accepts_any_text(grpo: Mapping[str, str]) -> None:
    """Each check alone, in any order, returns a sentence and raises nothing."""
    for text in ("", "\0", "def f(:", "x = " + "-" * 900 + "1", "\ud800", "#" * 70_000, "if a:\n pass"):
        sources = Sources({**grpo, "algorithm.py": text}, grpo)
        found = {name: check(sources) for name, check in STATIC}
        assert any(found.values())
        assert all(reason is None or "\n" not in reason for reason in found.values())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"rollouts.py": "import os\n"}, f"rollouts.py {sentences.UNKNOWN_ROLLOUTS}"),
        ({"zz/algorithm.py": "import os\n"}, f"zz/algorithm.py: {sentences.SHADOWING_MODULE}"),
        ({"torch.py": ""}, "torch.py: Python could load it"),
        ({"torch/__init__.py": ""}, "torch/__init__.py: Python could load it"),
        ({"rollouts.so": ""}, "rollouts.so: Python could load it"),
        ({"rollouts.cpython-311-x86_64-linux-gnu.so": ""}, "Python could load it"),
        ({"__pycache__/rollouts.cpython-311.pyc": ""}, "Python could load it"),
        ({"ALGORITHM.PY": ""}, "ALGORITHM.PY: Python could load it"),
        ({"x.pth": "import os\n"}, "x.pth: Python could load it"),
        ({"__init__.py": "import os\n"}, sentences.ONLY_A_DOCSTRING),
        ({"__init__.py": "def f(:\n"}, sentences.ONLY_A_DOCSTRING),
    ],
)
def test_a_root_cannot_add_files_of_its_own(grpo: Mapping[str, str], changed: Mapping[str, str], reason: str) -> None:
    """The root is its own parent, so nothing differs."""
    recipe = {**grpo, **changed}
    failure = first_failure(recipe, recipe)
    assert failure is not None
    assert failure[0] == "files"
    assert reason in failure[1]
