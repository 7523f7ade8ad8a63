"""Start verl and vLLM on this machine: command, environment, and stand-ins for missing packages."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import poise_git
from poise_git.pipeline.backends.verl import startup
from poise_git.pipeline.backends.verl.broken_packages import broken_packages

WORKER = "poise_git.pipeline.backends.verl.worker"
HIDDEN = "POISE_HIDDEN_MODULES"
# transformers imports it if it is installed, for a decoding method that is not used here. That takes a second.
_UNUSED = ("sklearn",)
_TAIL = 1 << 16


def environment(device: str, folder: Path, gpus: Sequence[str], *, threads: int) -> dict[str, str]:
    """The environment of a verl or vLLM process. Of the caller's variables it keeps only those that locate programs.

    Writes into `folder` the packages that the process needs on its module path.
    """
    packages = folder / "packages"
    packages.mkdir(exist_ok=True)
    # The module path holds a link to the package, because the sandbox shows nothing else of a checkout.
    link = packages / poise_git.__name__
    link.unlink(missing_ok=True)
    link.symlink_to(Path(poise_git.__file__).parent)
    path = [Path(startup.__file__).parent, packages]
    found = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH") if name in os.environ
    }
    found |= {
        "HOME": str(folder),
        "USER": "nobody",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HOME": str(folder / "huggingface"),
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # Ray's workers are the main work of this machine, so they run at normal priority.
        "RAY_worker_niceness": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "VERL_USE_EXTERNAL_PLUGINS": "none",
        "HYDRA_FULL_ERROR": "1",
        HIDDEN: ",".join((*broken_packages(), *_UNUSED)),
    }
    if device == "cpu":
        _stand_in_for_vllm(packages)
        found |= {
            # Otherwise vLLM's sampler compiles a few kernels with a C++ compiler in every run.
            "TORCHDYNAMO_DISABLE": "1",
            "VERL_PLATFORM": "cpu",
            "VERL_ENGINE_DEVICE": "cuda",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    else:
        found |= {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return found


def external_modules(device: str) -> str:
    """The value of `VERL_USE_EXTERNAL_MODULES`."""
    names = ["registration"] if device == "cuda" else ["cpu_platform", "registration"]
    return ",".join(f"{WORKER}.{name}" for name in names)


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def log_tail(path: Path) -> str:
    """The end of a log, which holds the reason of a failure."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        return file.read().decode(errors="replace")


def _stand_in_for_vllm(folder: Path) -> None:
    """Write metadata of a distribution "vllm", because verl asks for it and the CPU build is called "vllm-cpu"."""
    version = importlib.metadata.version("vllm-cpu")
    information = folder / f"vllm-{version}+cpu.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
