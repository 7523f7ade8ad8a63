"""Entry points of sandboxed children: the well-behaved ones, and one for each way to misbehave."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Send = Callable[[Mapping[str, Any]], None]


def echo(arguments: Mapping[str, Any], send: Send) -> Any:
    send({"heard": arguments})
    print("printed by echo")
    return {"arguments": arguments, "folder": os.getcwd()}


def surroundings(arguments: Mapping[str, Any], send: Send) -> dict[str, Any]:
    processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {
        "environment": dict(os.environ),
        "processes": processes,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "capabilities": next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line),
        "modules": sorted(module for module in ("torch", "numpy") if module in sys.modules),
        "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
    }


def write(arguments: Mapping[str, Any], send: Send) -> None:
    Path(arguments["path"]).write_text("written")


def read(arguments: Mapping[str, Any], send: Send) -> str:
    return Path(arguments["path"]).read_text()


def write_large_file(arguments: Mapping[str, Any], send: Send) -> None:
    with open("large", "wb") as file:
        for _ in range(arguments["mb"]):
            file.write(bytes(1 << 20))


def connect(arguments: Mapping[str, Any], send: Send) -> None:
    socket.create_connection((arguments["host"], arguments["port"]), timeout=5)


def send_datagram(arguments: Mapping[str, Any], send: Send) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"secret", (arguments["host"], arguments["port"]))


def sleep(arguments: Mapping[str, Any], send: Send) -> None:
    send({"asleep": True})
    time.sleep(3600)


def spin(arguments: Mapping[str, Any], send: Send) -> None:
    while True:
        pass


def spin_a_while(arguments: Mapping[str, Any], send: Send) -> None:
    while time.process_time() < arguments["seconds"]:
        pass


def print_without_end(arguments: Mapping[str, Any], send: Send) -> None:
    while True:
        print("x" * 100_000)


def kill_itself(arguments: Mapping[str, Any], send: Send) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_everybody(arguments: Mapping[str, Any], send: Send) -> None:
    for pid in (os.getppid(), -1, *range(1, 400)):
        if pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
    time.sleep(0.2)


def crash(arguments: Mapping[str, Any], send: Send) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(arguments: Mapping[str, Any], send: Send) -> None:
    os._exit(0)


def exit_politely(arguments: Mapping[str, Any], send: Send) -> None:
    sys.exit(3)


def fail(arguments: Mapping[str, Any], send: Send) -> None:
    print("before the end")
    raise ValueError("the first line\nthe second line")


def not_json(arguments: Mapping[str, Any], send: Send) -> object:
    return object()


def allocate(arguments: Mapping[str, Any], send: Send) -> int:
    return len(bytearray(arguments["gb"] << 30))


def fork_without_end(arguments: Mapping[str, Any], send: Send) -> None:
    while True:
        if os.fork() == 0:
            time.sleep(3600)


def leave_orphans(arguments: Mapping[str, Any], send: Send) -> str:
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(3600)
            os._exit(0)
    return "gone"


def leave_orphans_and_stay(arguments: Mapping[str, Any], send: Send) -> None:
    leave_orphans(arguments, send)
    send({})
    time.sleep(3600)


def write_garbage(arguments: Mapping[str, Any], send: Send) -> None:
    os.write(3, arguments["text"].encode())
    time.sleep(3600)


def write_giant_message(arguments: Mapping[str, Any], send: Send) -> None:
    while True:
        os.write(3, b"x" * (1 << 20))


def pretend_new_layers(arguments: Mapping[str, Any], send: Send) -> None:
    os.write(3, b'{"layers": [{"nonsense": 1}]}\n')
    time.sleep(3600)


def talk_to_myself(arguments: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """The needs of communicating processes: a loopback network by name, /tmp and shared memory."""
    with socket.create_server(("localhost", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            client.sendall(b"hello")
        connection, _ = server.accept()
        heard = connection.recv(5).decode()
    for folder in ("/tmp", "/dev/shm"):
        Path(folder, "written-inside").write_text("x")
    return {
        "heard": heard,
        "folders": {folder: sorted(os.listdir(folder)) for folder in ("/tmp", "/dev/shm")},
        "interfaces": sorted(os.listdir("/proc/sys/net/ipv4/neigh")),
        "user": pwd.getpwuid(os.getuid()).pw_name,
    }


def wait_to_be_ended() -> None:
    time.sleep(3600)


def allocate_together(arguments: Mapping[str, Any], send: Send) -> None:
    """Each process stays within the limit, but all together exceed it."""
    for _ in range(arguments["processes"]):
        if os.fork() == 0:
            held = bytearray(os.urandom(1 << 20)) * arguments["mb"]
            wait_to_be_ended()
            print(len(held))
    wait_to_be_ended()


def share_pages(arguments: Mapping[str, Any], send: Send) -> int:
    """Pages that many processes share exist once."""
    held = bytearray(os.urandom(1 << 20)) * arguments["mb"]
    children = []
    for _ in range(arguments["processes"]):
        children.append(os.fork())
        if children[-1] == 0:
            time.sleep(2)
            os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    return len(held)


def fill_shared_memory(arguments: Mapping[str, Any], send: Send) -> None:
    for number in range(arguments["files"]):
        Path(f"/dev/shm/{number}").write_bytes(bytes(1 << 20))
    wait_to_be_ended()


def open_memory_file(arguments: Mapping[str, Any], send: Send) -> None:
    os.memfd_create("memory")


def write_many_files(arguments: Mapping[str, Any], send: Send) -> None:
    """Write `files` files of `mb` megabytes, then end."""
    os.mkdir("many")
    for number in range(arguments["files"]):
        Path(f"many/{number}").write_bytes(os.urandom(1 << 20) * arguments["mb"])
    if arguments.get("stay"):
        wait_to_be_ended()


def write_nameless_files(arguments: Mapping[str, Any], send: Send) -> None:
    held = []
    for number in range(arguments["files"]):
        held.append(open(str(number), "wb"))  # noqa: SIM115 - held open to the end
        os.unlink(str(number))
        held[-1].write(os.urandom(1 << 20) * arguments["mb"])
        held[-1].flush()
    wait_to_be_ended()


def nest_folders(arguments: Mapping[str, Any], send: Send) -> None:
    for _ in range(arguments["depth"]):
        os.mkdir("folder")
        os.chdir("folder")


def hide_files(arguments: Mapping[str, Any], send: Send) -> None:
    os.mkdir("hidden")
    Path("hidden/file").touch()
    os.chmod("hidden", arguments["mode"])
    wait_to_be_ended()


def stop_itself(arguments: Mapping[str, Any], send: Send) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def link_much(arguments: Mapping[str, Any], send: Send) -> None:
    """One file with many names."""
    Path("file").touch()
    for number in range(arguments["names"]):
        os.link("file", str(number))
