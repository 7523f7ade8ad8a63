from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from poise_git.archive import Archive
from poise_git.errors import ArchiveLocked

from .conftest import make_proposal

HOLD = """
import sys, time
from poise_git.archive import Archive
with Archive.open(sys.argv[1]).lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(archive: Archive, lock: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(archive.root), lock]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_search_reports_the_holder_and_the_next_command(archive: Archive) -> None:
    holder = start_holder(archive, "search")
    try:
        with pytest.raises(ArchiveLocked) as caught, archive.lock("search"):
            pass
        said = str(caught.value)
        assert f"process {holder.pid} on {os.uname().nodename} since " in said
        assert str(archive.root / ".git" / "poise-search.lock") in said
        assert said.endswith(f"kill {holder.pid}")
        archive.add_candidate(make_proposal("x"), "# x\n")
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_ends_with_its_process(archive: Archive) -> None:
    holder = start_holder(archive, "write")
    with pytest.raises(ArchiveLocked), archive.lock("write", wait=0.05):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with archive.lock("write", wait=0.0):
        pass


def test_a_writer_waits_for_another_writer(archive: Archive) -> None:
    def hold_a_while() -> None:
        with archive.lock("write"):
            held.set()
            time.sleep(0.3)

    held = threading.Event()
    other = threading.Thread(target=hold_a_while)
    other.start()
    held.wait()
    start = time.monotonic()
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert time.monotonic() - start > 0.2
    other.join()
