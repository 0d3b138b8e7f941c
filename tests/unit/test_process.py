"""What a process asks of the C library, of OpenMP and of Python, in processes as people start them."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from distill.process import ROOM, SPINS, bound_spinning

FAULTS = """
import resource
from distill.process import {function}

assert {function}()
for _ in range(20):  # the heap grows by some blocks before one fits again
    b'.' * ({megabytes} << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    b'.' * ({megabytes} << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def printed(
    code: str, environment: dict[str, str] | None = None, before: Callable[[], object] | None = None
) -> tuple[str, str]:
    """What a program prints and says."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, preexec_fn=before, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "ねこ é"), ("latin-1", "?? é"), ("cp437", "?? é"), ("ascii", "?? ?")],
)
def test_what_the_encoding_of_stdout_has_not_is_replaced(encoding: str, expected: str) -> None:
    code = "from distill.process import print_any_text; print_any_text(); print('ねこ é', end='\\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert found == expected.encode(encoding) + b"\xff"  # a byte of a name that is not UTF-8


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
@pytest.mark.parametrize(
    ("function", "megabytes", "kept"),
    [("keep_freed_memory", 64, True), ("keep_freed_blocks", 16, True), ("keep_freed_blocks", 64, False)],
)
def test_blocks_that_are_kept_are_not_faulted_in_again(function: str, megabytes: int, kept: bool) -> None:
    """In a process of its own: what earlier tests left in the heap decides whether a block fits again."""
    found = int(printed(FAULTS.format(function=function, megabytes=megabytes))[0])
    pages = megabytes << 8  # of a block
    assert (found < 5 * pages) == kept  # a block may still be new, ten are not


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("limited", [False, True])
def test_no_compiled_modules_are_kept_that_a_limit_may_cut_off(tmp_path: Path, limited: bool) -> None:
    import resource

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (ROOM // 2 if limited else usual, most))
    code = "import distill, os, sys; print(sys.dont_write_bytecode, os.environ.get('PYTHONDONTWRITEBYTECODE'))"
    found, _ = printed(code, {**environment, "PYTHONPYCACHEPREFIX": str(tmp_path)}, limit)
    assert found.split() == (["True", "1"] if limited else ["False", "None"])


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "PASSIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_spin_for_a_moment_where_nothing_else_is_asked(own: dict[str, str]) -> None:
    environment = dict(own)
    bound_spinning(environment)
    assert environment == (own or {"GOMP_SPINCOUNT": SPINS})


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp")
def test_the_library_of_threads_has_read_it() -> None:
    """torch's own libgomp prints its settings when it is loaded: it must be after ours."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    _, said = printed("import distill.training.distributed, torch", {**environment, "OMP_DISPLAY_ENV": "VERBOSE"})
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in said


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors of POSIX")
def test_closed_standard_streams_swallow_what_is_said_and_get_no_files_number() -> None:
    """As where a daemon or a program without a console starts Distill; children have the same ones."""
    code = """
import os, subprocess, sys
from distill.process import begin
begin()
print("said", file=sys.stderr)
child = "import sys; print(sys.stdin is None, sys.stderr is None, flush=True)"
subprocess.run([sys.executable, "-c", child], check=True)
print(sys.stdin.read() + "made", os.open(os.devnull, os.O_RDONLY) > 2)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: (os.close(0), os.close(2)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "False False\nmade True\n"


def test_pictures_need_no_window_that_a_notebook_names() -> None:
    """Jupyter names its own for all that it starts: in another environment Matplotlib does not even load with it."""
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    code = "from distill.process import begin; begin(); import matplotlib; print(matplotlib.get_backend())"
    assert printed(code, environment) == ("agg\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="users of POSIX")
def test_a_user_without_a_name_is_one_for_the_libraries() -> None:
    """As in a container that runs as any number: there PyTorch does not even load its compiler."""
    code = """
import getpass, os, pwd
def unknown(number):
    raise KeyError(number)
pwd.getpwuid = unknown
from distill.process import begin
begin()
print(getpass.getuser() == str(os.getuid()))
"""
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    assert printed(code, environment) == ("True\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use cannot be deleted")
@pytest.mark.parametrize("program", ["from distill.__main__ import main; main()", "import stages"])
def test_a_current_folder_that_was_deleted_is_a_sentence(tmp_path: Path, program: str) -> None:
    (tmp_path / "gone").mkdir()
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path / "gone",
        env={**os.environ, "PYTHONPATH": root},
        preexec_fn=(tmp_path / "gone").rmdir,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (
        "distill: expected a current folder that exists, found that it was deleted; change to another folder and run "
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said + "again\n")


@pytest.mark.parametrize("program", [["distill", "--version"], ["stages.repro"], ["stages.train_prior"]])
def test_ctrl_c_while_libraries_are_imported_ends_a_command_in_one_line(tmp_path: Path, program: list[str]) -> None:
    (tmp_path / "rich.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", *program], env=environment, capture_output=True, text=True, check=False
    )
    said = "distill: interrupted; nothing half-written was kept\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)


def test_what_is_no_ctrl_c_keeps_its_traceback() -> None:
    code = "from distill.process import end_in_a_line; end_in_a_line(); 1 / 0"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
