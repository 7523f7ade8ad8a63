"""Archives of a size for tests: everything is real, but small."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from poise_git.archive import Archive
from poise_git.pipeline.backends import BACKENDS
from poise_git.pipeline.backends.verl.broken_packages import hide_broken_packages
from poise_git.pipeline.cache import locked
from poise_git.pipeline.sandbox.forks import ForkServer
from poise_git.template import create_archive
from poise_git.user.choices import MISSING_LAYERS_VARIABLE
from tests.fake_backend import NAME, Fake, FakeBackend, check_by_reading
from tests.layers import MARKER, lacking

# A slow machine is no failure.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

PROTOCOLS = Path(__file__).parent / "protocols"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run the tests that are marked nightly, too")


def pytest_report_header() -> str:
    if not lacking():
        return "sandbox: every layer is up"
    return (
        f"sandbox: this machine lacks {', '.join(lacking())}. Tests of a missing layer are skipped; the others run "
        f"candidates without it, as with {MISSING_LAYERS_VARIABLE}=allow."
    )


@pytest.fixture(autouse=True, scope="session")
def _missing_layers_are_allowed() -> None:
    """Allow missing layers for the candidates of tests: they run with the layers that this machine has."""
    if lacking():
        os.environ[MISSING_LAYERS_VARIABLE] = "allow"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of a layer that this machine lacks; a marker without names needs all of them."""
    for marker in item.iter_markers(MARKER):
        if found := [name for name in lacking() if not marker.args or name in marker.args]:
            pytest.skip(f"the sandbox lacks {', '.join(found)} here")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that no worker waits for them at the end, and those that need all memory last."""
    if not config.getoption("--nightly"):
        left_out = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    order = {"test_end_to_end.py": -2, "test_real_search.py": -1, "test_vllm.py": 1}
    items.sort(key=lambda item: order.get(item.path.name, 0))


@pytest.fixture(scope="module")
def machine_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A lock for tests that need gigabytes or measure free memory, while other test processes run."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    with locked(shared / "memory.lock"):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_broken_packages() -> None:
    """Hide broken packages before the first test: transformers remembers what was installed when it was imported."""
    hide_broken_packages()


@pytest.fixture(scope="session", autouse=True)
def _cache_of_base_policies(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep base policies of tests out of the user's cache; the test processes of one run share them."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    os.environ["XDG_CACHE_HOME"] = str(shared / "cache")


class _Lasting(ForkServer):
    """A fork server that outlives a search."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def lasting_fork_server() -> Iterator[ForkServer]:
    server = _Lasting()
    yield server
    ForkServer.close(server)


@pytest.fixture(autouse=True)
def _one_fork_server(lasting_fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the searches of one test process share a fork server, which is slow to start; every run is a fresh fork."""
    monkeypatch.setattr("poise_git.pipeline.sandbox.sandbox.ForkServer", lambda: lasting_fork_server)


@pytest.fixture(scope="session")
def archive_templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An archive for each protocol of tests/protocols/, made and edited as by a person; tests copy it."""
    folder = tmp_path_factory.mktemp("templates") / "search"
    create_archive(folder)
    for protocol in PROTOCOLS.glob("*.yaml"):
        shutil.copy(protocol, folder / "protocols")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "protocols for tests")
    templates = {}
    for protocol in PROTOCOLS.glob("*.yaml"):
        templates[protocol.stem] = folder.with_name(protocol.stem)
        shutil.copytree(folder, templates[protocol.stem], symlinks=True)
        edit_settings(templates[protocol.stem], "protocol: testbed", f"protocol: {protocol.stem}")
    return templates


@pytest.fixture
def tiny_archive(archive_templates: dict[str, Path], tmp_path: Path) -> Archive:
    """A fresh archive in which a run takes no time; all figures are 0."""
    return copy_of(archive_templates["tiny"], tmp_path / "search")


@pytest.fixture
def fake_archive(
    archive_templates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Archive]:
    """A fresh archive with runs by `FakeBackend`; the checks are real."""
    monkeypatch.setitem(BACKENDS, NAME, Fake())
    FakeBackend.trained.clear()
    yield copy_of(archive_templates["fake"], tmp_path / "search")
    FakeBackend.failing.clear()


@pytest.fixture
def checks_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the checks by those that only read the text, for tests of the steps before and after them."""
    monkeypatch.setattr("poise_git.steps.verify.check_candidate", check_by_reading)


@pytest.fixture
def short_archive(archive_templates: dict[str, Path], tmp_path: Path) -> Archive:
    """A fresh archive in which a run takes a second or two."""
    return copy_of(archive_templates["short"], tmp_path / "search")


def edit_settings(archive: Path, old: str, new: str) -> None:
    """Change poise.yaml and commit it."""
    settings = archive / "poise.yaml"
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new, 1))
    git(archive, "commit", "-qam", f"settings: {new.strip()}")


def copy_of(archive: Path, to: Path) -> Archive:
    shutil.copytree(archive, to, symlinks=True)
    return Archive.open(to)


def git(folder: Path, *arguments: str) -> str:
    """Plain git, as a person uses it."""
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A Person"), ("EMAIL", "person@example.org"))
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env={**os.environ, **identity}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
