from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from poise_git.pipeline.backends.verl import obstacles as module
from poise_git.pipeline.backends.verl.estimate import model_parameters
from poise_git.pipeline.backends.verl.obstacles import obstacles
from poise_git.pipeline.backends.verl.settings import HubModelSettings, ModelSettings, TinyModelSettings
from poise_git.pipeline.equipment import Equipment, Gpu
from tests.pipeline.backends.verl.conftest import changed, shipped

H200 = Equipment((Gpu("H200", 139.0),), cores=16, memory_gb=128.0, disk_gb=500.0)
SMALL = Equipment((Gpu("T4", 15.0),), cores=4, memory_gb=4.0, disk_gb=10.0)


@pytest.fixture(autouse=True)
def _packages_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "found_versions", lambda device: ())


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("math_train_l3to5", "math500", "amc83"):
        (tmp_path / "data" / f"{name}.jsonl").touch()
    return tmp_path


def test_a_sufficient_machine_has_no_obstacles(base: Path) -> None:
    assert obstacles(shipped("one-gpu"), "x", H200, base) == ()


def test_each_obstacle_is_one_line(base: Path) -> None:
    lines = obstacles(shipped("one-gpu"), "x", SMALL, base)
    assert [line.partition(",")[0] for line in lines] == [
        "needs 25 GB on each GPU for the model alone",
        "needs 8 GB of memory",
        "needs 47 GB of disk for checkpoints",
    ]
    (base / "data/amc83.jsonl").unlink()
    assert obstacles(shipped("one-gpu"), "x", H200, base) == ("no such file: data/amc83.jsonl",)
    assert "needs 8 GPUs, there is 1" in obstacles(shipped("paper"), "x", H200, base)


def test_the_training_devices_share_the_model(base: Path) -> None:
    two = changed(changed(shipped("one-gpu"), "settings.hardware.gpus", 2), "settings.model.hub.repository", "x/Big-9B")
    (line, *_) = obstacles(two, "x", Equipment((H200.gpus[0],) * 2, 16, 128.0, 5000.0), base) or ("",)
    assert line == ""
    (line, *_) = obstacles(changed(two, "settings.hardware.gpus", 1), "x", H200, base)
    assert line.startswith("needs 151 GB on each GPU")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-Math-1.5B", 1.5e9),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6),
        ("Qwen/Qwen2.5-0.5B", 0.5e9),
        ("meta/Nameless", None),
        ("x/3Blue", None),
    ],
)
def test_the_name_of_a_model_gives_its_size(name: str, parameters: float | None) -> None:
    assert model_parameters(ModelSettings(hub=HubModelSettings(repository=name))) == parameters


MAKE = """
import sys
from pathlib import Path
from poise_git.pipeline.backends.verl.settings import TinyModelSettings
from poise_git.pipeline.backends.verl.tiny_model import make_tiny_model
make_tiny_model(TinyModelSettings(name="tiny-qwen2"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_the_computed_size_of_a_generated_model_is_exact(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra verl or verl-cpu")
    subprocess.run([sys.executable, "-c", MAKE, str(tmp_path)], check=True, timeout=300)
    content = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    size = sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    assert model_parameters(ModelSettings(generator=TinyModelSettings(name="tiny-qwen2"))) == size
