"""Choices of the user, which an archive cannot make."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from poise_git.agents.anthropic.consent import refuse_recordings
from poise_git.archive import Archive
from poise_git.cli.consent import refuse_executor, refuse_files
from poise_git.errors import UsageError
from poise_git.settings import ExecutorSettings
from poise_git.user.preferences import Preferences
from tests.conftest import edit_settings, git
from tests.layers import without_warning

Configure = Callable[..., None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write the user's configuration, and read it inside a repository whose configuration differs."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "global"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "system"))
    monkeypatch.delenv("GIT_CONFIG_NOSYSTEM", raising=False)
    (tmp_path / "global").write_text("")
    (tmp_path / "system").write_text("")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    git(theirs, "init", "-q")
    for key, value in {
        "missingLayers": "allow", "baseUrl": "https://evil.example", "device": "cuda", "rayAddress": "evil:6379",
        "shared": "/", "recordings": "/", "data": "/",
    }.items():  # fmt: skip
        git(theirs, "config", "--local", f"poise.{key}", value)
    git(theirs, "config", "--local", "extensions.worktreeConfig", "true")
    git(theirs, "config", "--worktree", "poise.missingLayers", "allow")
    monkeypatch.chdir(theirs)

    def add(key: str, value: str, file: str = "global") -> None:
        git(tmp_path, "config", "--file", str(tmp_path / file), "--add", key, value)

    return add


def test_a_repositorys_own_configuration_does_not_count(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Preferences.load({}) == Preferences()
    monkeypatch.setenv("GIT_DIR", str(Path.cwd() / ".git"))
    assert Preferences.load({}) == Preferences()


def test_the_configurations_of_user_and_system_count(configure: Configure) -> None:
    configure("poise.missingLayers", "allow", "system")
    configure("poise.baseUrl", "http://127.0.0.1:8000")
    configure("POISE.baseurl", "https://gateway.example.org")
    configure("poise.device", "cuda")
    configure("poise.rayAddress", "head:6379")
    configure("poise.shared", "/mnt/poise")
    configure("poise.recordings", "~/search/recordings")
    assert Preferences.load({}) == Preferences(
        missing_layers="allow",
        base_urls=("http://127.0.0.1:8000", "https://gateway.example.org"),
        devices=("cuda",),
        ray_addresses=("head:6379",),
        shared=(Path("/mnt/poise"),),
        recordings=(Path("~/search/recordings").expanduser(),),
    )
    configure("poise.missingLayers", "refuse")
    assert Preferences.load({}).missing_layers == "refuse", "the user's file takes precedence over the system's"


def test_configuration_in_the_environment_counts(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "poise.missingLayers")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "allow")
    assert Preferences.load({}).missing_layers == "allow"


def test_a_variable_replaces_the_configuration(configure: Configure, tmp_path: Path) -> None:
    configure("poise.missingLayers", "refuse")
    configure("poise.baseUrl", "https://gateway.example.org")
    found = Preferences.load(
        {"POISE_MISSING_LAYERS": "allow", "POISE_BASE_URL": "http://localhost:1", "POISE_RECORDINGS": "recordings"}
    )
    assert (found.missing_layers, found.base_urls) == ("allow", ("http://localhost:1",))
    assert found.recordings == (tmp_path / "theirs" / "recordings",)
    assert Preferences.load({"POISE_MISSING_LAYERS": ""}).missing_layers == "refuse"


@pytest.mark.parametrize("value", ["yes", "Allow", "true", "allow "])
def test_a_wrong_value_names_its_key(configure: Configure, value: str) -> None:
    with pytest.raises(UsageError, match="POISE_MISSING_LAYERS: must be refuse or allow"):
        Preferences.load({"POISE_MISSING_LAYERS": value})
    configure("poise.missingLayers", "perhaps")
    with pytest.raises(UsageError, match=r"poise\.missingLayers: must be refuse or allow"):
        Preferences.load({})


def test_a_folder_of_a_configuration_is_absolute(configure: Configure) -> None:
    configure("poise.shared", "here")
    with pytest.raises(UsageError, match=r"poise\.shared: must be an absolute path"):
        Preferences.load({})


# Settings of an archive.


def command_of(error: pytest.ExceptionInfo[UsageError]) -> list[str]:
    assert "\n" not in str(error.value)
    return shlex.split(str(error.value).rpartition("allow it: ")[2])


@pytest.mark.parametrize(
    ("executor", "key", "value"),
    [
        ({"kind": "ray"}, "poise.rayAddress", "local"),
        ({"kind": "ray", "address": "evil:6379"}, "poise.rayAddress", "evil:6379"),
        ({"kind": "ray", "address": "$(touch PWN)"}, "poise.rayAddress", "$(touch PWN)"),
        ({"kind": "ray", "address": "mine:1", "shared": "/etc/cron.d"}, "poise.shared", "/etc/cron.d"),
        ({"kind": "ray", "address": "mine:1", "shared": "/mnt/poise/../x"}, "poise.shared", "/mnt/x"),
    ],
)
def test_the_user_chooses_the_cluster_and_its_folder(executor: dict[str, object], key: str, value: str) -> None:
    chosen = Preferences(ray_addresses=("mine:1",), shared=(Path("/mnt/poise"),))
    with pytest.raises(UsageError) as error:
        refuse_executor(ExecutorSettings.model_validate(executor), chosen)
    assert command_of(error) == ["git", "config", "--global", "--add", key, value]


def test_a_chosen_cluster_is_allowed() -> None:
    refuse_executor(ExecutorSettings(), Preferences())
    refuse_executor(ExecutorSettings(address="unused:1", shared=Path("/unused")), Preferences())
    shared = ExecutorSettings(kind="ray", address="mine:1", shared=Path("/mnt/poise/a"))
    refuse_executor(shared, Preferences(ray_addresses=("mine:1",), shared=(Path("/mnt/poise"),)))
    refuse_executor(ExecutorSettings(kind="ray"), Preferences().with_options(executor="ray"))
    refuse_executor(ExecutorSettings(kind="ray", address="a:1"), Preferences().with_options(ray_address="a:1"))
    with pytest.raises(UsageError, match="a:1"):
        refuse_executor(ExecutorSettings(kind="ray", address="a:1"), Preferences().with_options(executor="ray"))


def test_devices_that_the_user_has_hidden_stay_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    refuse_executor(ExecutorSettings(gpus=(1,)), Preferences())
    with pytest.raises(UsageError, match=r"device 2, which CUDA_VISIBLE_DEVICES=0,1 hides"):
        refuse_executor(ExecutorSettings(gpus=(1, 2)), Preferences())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    refuse_executor(ExecutorSettings(gpus=(1, 2)), Preferences())


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x.jsonl", "data/../x.jsonl", "x.jsonl", "~/.netrc", "data/link", "."]
)
def test_files_of_a_protocol_are_in_data_or_in_an_allowed_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to("/etc")
    with pytest.raises(UsageError) as error:
        refuse_files(["data/suite.jsonl", path], "protocols/p.yaml", tmp_path, Preferences())
    command = command_of(error)
    assert command[:-1] == ["git", "config", "--global", "--add", "poise.data"]
    refuse_files(["data/suite.jsonl"], "protocols/p.yaml", tmp_path, Preferences())
    if not path.startswith("~"):
        refuse_files([path], "protocols/p.yaml", tmp_path, Preferences(data=(Path(command[-1]),)))


def test_a_link_does_not_move_recordings_out_of_the_allowed_folder(tmp_path: Path) -> None:
    chosen = Preferences(recordings=(tmp_path / "recordings",))
    refuse_recordings(tmp_path / "recordings", chosen)
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(UsageError, match=r"poise\.recordings /etc$"):
        refuse_recordings(tmp_path / "link", chosen)


# Options of the command line.


def evolve(archive: Archive, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "poise_git", "-C", str(archive.root), "evolve", "--rounds", "1", *options],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "key", "options"),
    [
        ("  kind: local", "  kind: ray", "poise.rayAddress local", ()),
        ("  address: null", "  address: evil:6379", "poise.rayAddress evil:6379", ("--executor", "ray")),
        ("  base_url: null", "  base_url: http://127.0.0.1:9", "poise.baseUrl", ("--agent", "anthropic")),
        ("  replay: null", "  replay: {folder: notes}", "poise.recordings", ("--agent", "anthropic")),
    ],
)
def test_evolve_refuses_settings_that_the_user_did_not_allow(
    tiny_archive: Archive, old: str, new: str, key: str, options: tuple[str, ...]
) -> None:
    edit_settings(tiny_archive.root, old, new)
    for name in ("rayAddress", "baseUrl", "recordings"):
        git(tiny_archive.root, "config", f"poise.{name}", new.rpartition(" ")[2])
    refs = git(tiny_archive.root, "for-each-ref")
    done = evolve(tiny_archive, *options, ANTHROPIC_API_KEY="sk-canary")
    assert done.returncode == 2, done.stderr
    assert len(without_warning(done.stderr).strip().splitlines()) == 1, done.stderr
    assert f"git config --global --add {key}" in done.stderr
    assert git(tiny_archive.root, "for-each-ref") == refs


@pytest.mark.slow
def test_evolve_refuses_a_device_that_the_user_did_not_allow(tiny_archive: Archive) -> None:
    protocol = tiny_archive.root / "protocols" / "tiny.yaml"
    protocol.write_text(protocol.read_text().replace("\nsettings:\n", "\nsettings:\n  device: cuda\n"))
    assert "device: cuda" in protocol.read_text()
    git(tiny_archive.root, "commit", "-qam", "on a GPU")
    done = evolve(tiny_archive)
    assert done.returncode == 2
    assert "git config --global --add poise.device cuda" in done.stderr
    for chosen in (evolve(tiny_archive, "--device", "cuda"), evolve(tiny_archive, POISE_DEVICE="cuda")):
        assert "poise.device" not in chosen.stderr
