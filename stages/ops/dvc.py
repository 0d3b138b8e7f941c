"""Run DVC, and repair its files that a killed run or a full disk has damaged.

DVC writes `dvc.lock` and its list of locks in place, so they can be truncated. It refuses to run with a truncated
`dvc.lock`. Locks of a killed process stay if another process gets its id. Partial copies stay in its cache.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import FrameType

import psutil
import yaml
from dvc.config import Config
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from distill.errors import DistillError
from distill.pipeline.workspace import has_locks, locked
from distill.storage.files import write_bytes
from distill.training.interruption import SIGNALS, is_ignored, raise_interrupted

LOCK = Path("dvc.lock")
HELD = Path(".dvc/tmp/lock")
LOCKED = Path(".dvc/tmp/rwlock")
LOCAL = Path(".dvc/config.local")
KEPT = "dvc.lock"  # name of the copy of the last valid `dvc.lock`
CACHE = Path(".dvc/cache")
OUTS = (
    Path("artifacts"),
    Path("metrics"),
    Path("models"),
)  # where DVC tests which links the disk supports
HALF = re.compile(r"\.[\w-]{22}\.tmp")  # name of a partial copy


def run_dvc(
    *arguments: str, wants_output: bool = False, kept: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run DVC. Termination signals are forwarded to DVC and its stage as SIGINT, after which DVC waits for the stage.

    After a signal, raises Interrupted if `kept`, the text of its message, is given.
    """
    received: list[int] = []
    started: list[subprocess.Popen[str]] = []

    def forward(number: int, _: FrameType | None = None) -> None:
        received.append(number)
        for process in started if os.name != "nt" else ():
            os.killpg(process.pid, signal.SIGINT)

    # Before DVC starts, so that signals are not ignored there, as in a shell's background.
    previous = {
        number: signal.signal(number, forward) for number in SIGNALS if not is_ignored(number)
    }
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            stdout=subprocess.PIPE if wants_output else None,
            text=True,
            start_new_session=os.name != "nt",
        )
        started.append(process)
        if received:
            forward(received[0])
        output, _ = process.communicate()
        if received and kept:
            raise_interrupted(received[0], kept)
        return subprocess.CompletedProcess(process.args, process.returncode, output)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def has_git() -> bool:
    """Whether DVC can read a git repository here or in a parent folder."""
    from dvc.scm import SCM, SCMError  # loads slowly

    try:
        SCM(Path.cwd()).close()
    except SCMError:
        return False
    return True


def follow_git() -> str:
    """Configure DVC to work without git if there is no repository, and with git again once there is a repository.

    Without a repository DVC refuses every command unless `core.no_scm` is set, here in `.dvc/config.local`. Returns a
    remark on the change, or "".
    """
    config = Config.from_cwd()
    is_set, is_ours = (
        bool(core.get("no_scm")) for core in (config["core"], config.load_one("local")["core"])
    )
    if has_git():
        if not is_ours:
            return ""
        with config.edit("local") as local:
            del local["core"]["no_scm"]
        return f"DVC: found a git repository: core.no_scm is removed from {LOCAL}, and experiments work"
    if is_set:
        return ""
    with config.edit("local") as local:
        local["core"]["no_scm"] = True
    return (
        f"DVC: expected a git repository, found none: core.no_scm is set in {LOCAL}; results are kept, experiments and "
        "`dvc diff` need git"
    )


def keep_lock(folder: Path) -> None:
    """Keep a copy of `dvc.lock` in a folder, if it is valid."""
    if LOCK.exists() and _is_whole(LOCK):
        write_bytes(folder / KEPT, LOCK.read_bytes())


def mend(folder: Path) -> str:
    """Repair DVC's files, and `dvc.lock` from its copy in `folder`. Returns a remark if `dvc.lock` was damaged, or
    "".

    On a drive without file locks, configures DVC to use hard links. Raises DistillError if the drive has neither.
    """
    holders = _holders()
    if holders and not any(holders):
        LOCKED.unlink()
    _remove_half_copies()
    if not has_locks(HELD.parents[1]) and not any(holders):
        _lock_by_links()
    if not LOCK.exists() or _is_whole(LOCK):
        return ""
    is_conflict = b"\n<<<<<<< " in b"\n" + LOCK.read_bytes()
    found = (
        "is in a merge conflict of git" if is_conflict else "was cut off, by a full disk or a kill"
    )
    kept = folder / KEPT
    if kept.exists() and _is_whole(kept):
        write_bytes(LOCK, kept.read_bytes())
        return f"{LOCK} {found}: that of the last run here is put back"
    LOCK.unlink()
    return f"{LOCK} {found}, and is removed: all stages are looked at again"


def locked_results() -> list[Path]:
    """Results of stages in `dvc.lock`; [] if it is missing or truncated."""
    try:
        stages = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]
        return [Path(out["path"]) for stage in stages.values() for out in stage.get("outs", ())]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []


def leaves_out() -> Callable[[Path], bool]:
    """Make a predicate: whether `.dvcignore` excludes a file, so that DVC misses changes in it."""
    from dvc.repo import Repo  # loads slowly

    with Repo() as repo:
        rules = repo.dvcignore
    return lambda path: bool(rules.is_ignored_file(os.path.abspath(path)))  # noqa: PTH100 - do not resolve links


def is_busy() -> bool:
    """Whether another DVC process is active here: it runs a stage, or holds DVC's lock."""
    if any(_holders()):
        return True
    try:
        with locked(HELD) as is_free:
            return not is_free
    except OSError:
        return True


def _lock_by_links() -> None:
    """Configure DVC to lock by hard links, after removing an old lock file. Raises DistillError."""
    HELD.unlink(missing_ok=True)
    try:
        HELD.hardlink_to(HELD.parents[1] / "config")
    except OSError as error:
        raise DistillError(
            f"{HELD}: expected a drive with locks or hard links, which DVC needs, found neither ({error.strerror}); "
            "move the project to another drive, or learn a folder with `distill train`"
        ) from error
    HELD.unlink()
    run_dvc("config", "--local", "core.hardlink_lock", "true")


def _remove_half_copies() -> None:
    """Remove partial copies in DVC's cache and next to results, which `dvc gc` keeps.

    They can be as large as a model. Does nothing while another DVC process holds the lock, as it may be copying.
    """
    beside = (path for folder in OUTS for path in folder.glob(".*.tmp"))
    half = [path for path in (*CACHE.rglob(".*.tmp"), *beside) if HALF.fullmatch(path.name)]
    if half:
        with suppress(OSError), locked(HELD) as is_free:
            for path in half if is_free else ():
                path.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether DVC can read a lock file."""
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, Invalid):
        return False
    return True


def _holders() -> list[bool]:
    """For each process in DVC's list of locks, whether it is a running DVC process; [False] for a damaged list."""
    try:
        locks = json.loads(LOCKED.read_text(encoding="utf-8"))
        readers = chain.from_iterable(locks.get("read", {}).values())
        return [
            _is_dvc(int(entry["pid"])) for entry in (*locks.get("write", {}).values(), *readers)
        ]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, AttributeError, KeyError):
        return [False]


def _is_dvc(process: int) -> bool:
    try:
        return any(Path(word).stem == "dvc" for word in psutil.Process(process).cmdline())
    except psutil.Error:
        return False
