"""Permission to run code if a layer of the sandbox is missing; in tests that run code, layers are really missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from poise_git.agents.library.provenance import Provenance
from poise_git.archive import Archive
from poise_git.pipeline.boundary.hosting import STRICT, Containment
from poise_git.pipeline.sandbox import IsolationMissing, Layer
from poise_git.steps.containment import Containing
from tests import containers
from tests.conftest import git

pytestmark = pytest.mark.slow

LACKING = (Layer("landlock", False, "not in this kernel"),)
ALLOWED = Containment(may_lack_layers=True)
SPREAD = "return spread + epsilon"


def commit(archive: Archive, name: str, parent: str, edit: Callable[[str], str]) -> None:
    """Commit a candidate with plain git, without the hooks."""
    git(archive.root, "switch", "-qc", f"poise/{name}", f"poise/{parent}")
    file = archive.root / "recipe" / "algorithm.py"
    file.write_text(edit(file.read_text()))
    trailers = f"Poise-Candidate: {name}\nPoise-Parent: {parent}"
    git(archive.root, "commit", "-q", "--no-verify", "--allow-empty", "-am", f"x\n\n{trailers}")


def of_checks(containing: Containing, archive: Archive, name: str) -> Containment:
    genealogy = archive.genealogy()
    text = archive.recipe(name)["algorithm.py"]
    return containing.of_checks(text, genealogy[name].parents, genealogy)


def test_code_that_is_not_shipped_needs_permission(tiny_archive: Archive) -> None:
    root_text = tiny_archive.recipe("grpo")["algorithm.py"]
    commit(tiny_archive, "by-hand", "grpo", lambda text: text.replace(SPREAD, "return 2.0 * spread + epsilon"))
    commit(tiny_archive, "back", "by-hand", lambda text: root_text)
    provenance, genealogy = Provenance(tiny_archive), tiny_archive.genealogy()
    containing = Containing(provenance, LACKING)
    assert of_checks(containing, tiny_archive, "grpo") == ALLOWED
    assert of_checks(containing, tiny_archive, "by-hand") == STRICT
    assert containing.of(genealogy["by-hand"], genealogy) == STRICT
    # Its own text is shipped, but its checks also run its parent's text.
    assert containing.of(genealogy["back"], genealogy) == ALLOWED
    assert of_checks(containing, tiny_archive, "back") == STRICT
    assert of_checks(Containing(provenance, LACKING, "allow"), tiny_archive, "by-hand") == ALLOWED
    # If this machine lacks nothing, another machine of a cluster may still lack a layer.
    assert of_checks(Containing(provenance, (), "allow"), tiny_archive, "by-hand") == ALLOWED
    assert of_checks(Containing(provenance), tiny_archive, "by-hand") == STRICT
    assert of_checks(Containing(provenance, LACKING, "refuse", True), tiny_archive, "by-hand").trusted


def test_the_root_of_an_archive_is_not_shipped(tiny_archive: Archive) -> None:
    root_text = tiny_archive.recipe("grpo")["algorithm.py"]
    git(tiny_archive.root, "switch", "-q", "poise/grpo")
    (tiny_archive.root / "recipe" / "algorithm.py").write_text(root_text.replace(SPREAD, "return spread"))
    git(tiny_archive.root, "commit", "-q", "--no-verify", "--amend", "-a", "--no-edit")
    containing, genealogy = Containing(Provenance(tiny_archive), LACKING), tiny_archive.genealogy()
    assert of_checks(containing, tiny_archive, "grpo") == STRICT
    # A text identical to a shipped one, compared with that root.
    assert containing.of_checks(root_text, (), genealogy) == STRICT
    assert containing.of_checks(root_text, ("nobody",), genealogy) == STRICT


def test_a_refusal_is_one_line_with_the_next_command() -> None:
    refused = str(IsolationMissing.of((*LACKING, *LACKING, Layer("quota", False, "no /proc")), archive_requires=False))
    assert refused.startswith("the sandbox lacks landlock, quota on this machine, so code")
    assert "git config --global poise.missingLayers allow, or POISE_MISSING_LAYERS=allow" in refused
    required = str(IsolationMissing.of(LACKING, archive_requires=True))
    assert "poise.yaml requires every layer" in required
    assert "missingLayers" not in required
    assert "\n" not in refused + required


OPEN_A_HOST = """
import json, sys
from poise_git.errors import PoiseError
from poise_git.pipeline.boundary.hosting import STRICT, Containment, contain
from poise_git.pipeline.sandbox import Sandbox
from poise_git.package_data import template_files
from poise_git.settings import SandboxSettings

recipe = {path.partition("/")[2]: text for path, text in template_files().items() if path.startswith("recipe/")}
recipe = {name: text for name, text in recipe.items() if name in ("algorithm.py", "rollouts.py")}
found = []
for settings, containment in (
    (SandboxSettings(), STRICT),
    (SandboxSettings(require_isolation=True), Containment(may_lack_layers=True)),
    (SandboxSettings(), Containment(may_lack_layers=True)),
):
    with Sandbox(settings, preloaded={}) as sandbox:
        try:
            with contain(sandbox, recipe, containment) as running:
                pass
            # All layers are known once it has ended.
            found.append(running.isolation.to_data())
        except PoiseError as error:
            found.append(str(error))
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("call", "layers"),
    [
        ("landlock_create_ruleset", {"landlock", "candidate landlock"}),
        ("seccomp", {"system call filter", "candidate system call filter"}),
    ],
)
def test_a_missing_layer_is_refused_or_recorded(call: str, layers: set[str]) -> None:
    containers.require()
    line = containers.command(sys.executable, "-c", OPEN_A_HOST, without=(call,))
    done = subprocess.run(line, env=containers.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    strict, required, allowed = json.loads(done.stdout)
    assert any(layer in strict for layer in layers)
    assert "poise.missingLayers allow" in strict
    assert "poise.yaml requires every layer" in required
    assert layers <= set(allowed["missing"])
    assert not allowed["trusted"]
