from __future__ import annotations

from pathlib import Path

from poise_git.pipeline.equipment import Gpu, inspect_equipment, parse_nvidia_smi


def test_devices_as_nvidia_smi_lists_them() -> None:
    text = "NVIDIA H200, 143771\nNVIDIA GB10, [N/A]\n\n"
    assert parse_nvidia_smi(text) == (Gpu("NVIDIA H200", 143771 / 1024), Gpu("NVIDIA GB10", 0.0))


def test_this_machine_has_cores_memory_and_disk(tmp_path: Path) -> None:
    machine = inspect_equipment(tmp_path)
    assert machine.cores >= 1
    assert 0.1 < machine.memory_gb < 1 << 20
    assert machine.disk_gb > 0
