"""A Python that starts in milliseconds: each `python -m MODULE` is a fork of one process that has imported everything.

The real one imports PyTorch, MLflow and DVC for seconds, eight times in one `stages.repro`. Its stand-in `python` is a
program that asks the server to fork, hands over its arguments, folder, environment and streams, and ends as the fork
does. Signals are passed on, and SIGKILL of the stand-in is SIGKILL of the fork.
"""

import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import distill

TESTS = Path(__file__).parent

STAND_IN = """#!{python} -ISE
import json, os, signal, socket, struct, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
socket.send_fds(server, [struct.pack("!I", len(asked))], [0, 1, 2])
server.sendall(asked)
child = struct.unpack("!i", server.recv(4, socket.MSG_WAITALL))[0]
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda number, _: os.kill(child, number))
answer = server.recv(4, socket.MSG_WAITALL)
status = struct.unpack("!i", answer)[0] if answer else -9
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != 9 else None
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@contextmanager
def quick_python(folder: Path) -> Iterator[Path]:
    """The path of a stand-in for Python, in a folder of its own. It and all forks end with the context."""
    address, program = folder / "socket", folder / "bin" / "python"
    program.parent.mkdir(parents=True, exist_ok=True)
    address.unlink(missing_ok=True)
    program.write_text(STAND_IN.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-m", "quick_python", str(listening.fileno()), str(program)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent)))},
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
        try:
            yield program
        finally:
            server.kill()
            server.communicate()


def import_everything() -> None:
    """Import what commands import, so that their processes begin with it."""
    for module in pkgutil.walk_packages(distill.__path__, "distill."):
        if not module.name.startswith(("distill.ui", "distill.__main__")):
            importlib.import_module(module.name)
    for name in (
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.tracking",
        "matplotlib.pyplot",
        "pyarrow.parquet",
        "dvc.cli",
        "dvc.commands.repro",
        "dvc.repo",
        "dvc.repo.reproduce",
        "dvc.stage.run",
    ):
        importlib.import_module(name)


def serve(listening: socket.socket, program: Path) -> NoReturn:
    """Fork for each connection, until killed or until the process that started this one has gone."""
    import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while True:
        if sys.stdin in select.select([listening, sys.stdin], [], [])[0]:
            sys.exit()
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _answer(connection, program)
            finally:
                os._exit(0)
        connection.close()


def _answer(connection: socket.socket, program: Path) -> None:
    """Run what is asked for in a child, and answer with its status."""
    first, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size = struct.unpack("!I", first)[0]
    asked = b""
    while len(asked) < size:
        asked += connection.recv(size - len(asked))
    arguments, folder, environment = json.loads(asked.decode("utf-8", "surrogateescape"))
    child = os.fork()
    if child == 0:
        os.setsid()
        connection.close()
        _run(arguments, folder, environment, streams, program)
    for stream in streams:
        os.close(stream)
    try:
        connection.sendall(struct.pack("!i", child))
        ended = os.pidfd_open(child)
        while ended not in select.select([ended, connection], [], [])[0]:
            os.kill(child, signal.SIGKILL)  # the stand-in has gone: it never says more
            select.select([ended], [], [])
    except OSError:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int], program: Path) -> NoReturn:
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.executable = str(program)
        _interpret(arguments[1:])
        status = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        import atexit

        for end in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
            _quietly(end)
        os._exit(status)


def _interpret(words: list[str]) -> None:
    """What Python does with a command line: options, then `-m MODULE` or `-c PROGRAM`, and its arguments."""
    while words[0] in ("-P", "-u", "-W"):
        if words[0] == "-W":
            warnings.simplefilter(words[1])  # type: ignore[arg-type]
        words = words[2 if words[0] == "-W" else 1 :]
    what, argument = words[:2]
    sys.argv = words[1:]
    if what == "-m":
        runpy.run_module(argument, run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv[0] = what
        exec(argument, vars(types.ModuleType("__main__")))
    else:
        raise RuntimeError(f"expected -m or -c, found {what}")


def _quietly(end: Any) -> None:
    try:
        end()
    except BaseException:
        traceback.print_exc()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
