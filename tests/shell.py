"""A real bash whose `minigpt` and `python` are forks of one process that has imported everything.

A command of the manual then takes as long as its work, not the seconds of its imports, and still has a process, a
working folder and standard streams of its own.
"""

import array
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORTS = (
    *("minigpt.cli.main", "minigpt.cli.fit", "minigpt.training.fit", "minigpt.lab.compare.compare"),
    *("lightning.pytorch", "matplotlib.figure", "tensorboard.compat.proto.event_pb2"),
)

# What stands in the PATH: hands words, folder and streams to the server, and ends as the fork did.
_CLIENT = """\
#!{python} -IS
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
message = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(message).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(message)
sys.exit(int(server.recv(16) or b"70"))
"""


class Shell:
    """Runs scripts of bash; close it in the end."""

    def __init__(self, setup: str = "") -> None:
        """`setup` is Python that the server runs once, before any command."""
        self._folder = Path(tempfile.mkdtemp(prefix="shell-"))
        address = str(self._folder / "server")
        for name in ("minigpt", "python"):
            path = self._folder / name
            path.write_text(_CLIENT.format(python=sys.executable, address=address, name=name), encoding="utf-8")
            path.chmod(0o755)
        listening = subprocess.Popen(
            [sys.executable, __file__, address, setup],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # so that it ends with all its forks
        )
        assert listening.stdout is not None
        assert listening.stdout.readline() == "ready\n", "the server did not start"
        self._server = listening

    def run(self, script: str, folder: Path, timeout: float = 200) -> "subprocess.CompletedProcess[str]":
        """Run a script in a folder; it stops at the first command that fails."""
        environment = {**os.environ, "PATH": f"{self._folder}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
        )

    def close(self) -> None:
        """End the server and the commands that still run."""
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _serve(address: str, setup: str) -> None:
    """Import what commands need, and fork for each."""
    for module in IMPORTS:
        importlib.import_module(module)
    exec(setup, {})
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    parent = os.getppid()
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        client.setblocking(True)
        if os.fork() == 0:
            os._exit(_waiter(client))
        client.close()
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


def _waiter(client: socket.socket) -> int:
    """Run the command in a fork of its own, and send its exit code."""
    size, ancillary, _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i")
    streams.frombytes(ancillary[0][2])
    length = int.from_bytes(size, "big")
    message = b""
    while len(message) < length:
        message += client.recv(length - len(message))
    child = os.fork()
    if child == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "r" if number == 0 else "w") for number in range(3))
        _become(*json.loads(message))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    client.sendall(str(code if code >= 0 else 128 - code).encode())
    return 0


def _become(name: str, words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the command, and exit."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [name, *words]
    sys.path[0] = folder
    code: Any = 0
    try:
        if name == "minigpt":
            from minigpt.cli.main import main

            code = main(words)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
