"""DVC: its commands, and its files that a killed run or a full disk leaves damaged, mended before DVC reads them.

DVC writes `dvc.lock` and its list of locks in place, so that they can be cut off. With a `dvc.lock` that is cut off it
refuses to run; what a killed process had locked stays locked where another process has its number. What it copied in
part stays in its cache.
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
KEPT = "dvc.lock"  # name of the last `dvc.lock` that was whole
CACHE = Path(".dvc/cache")
OUTS = (Path("artifacts"), Path("metrics"), Path("models"))  # where DVC tries what links a disk can have
HALF = re.compile(r"\.[\w-]{22}\.tmp")  # name of a file that DVC has not copied to its end


def run_dvc(*arguments: str, wants_output: bool = False, kept: str = "") -> subprocess.CompletedProcess[str]:
    """Run DVC. Signals that ask to end are forwarded to it and its stage as SIGINT, for which DVC waits until they end.

    Then raises Interrupted, which says what is `kept`, where that is given.
    """
    received: list[int] = []
    started: list[subprocess.Popen[str]] = []

    def forward(number: int, _: FrameType | None = None) -> None:
        received.append(number)
        for process in started if os.name != "nt" else ():
            os.killpg(process.pid, signal.SIGINT)

    # Before DVC begins: what is caught here is not ignored there, as a shell's background lets it be.
    previous = {number: signal.signal(number, forward) for number in SIGNALS if not is_ignored(number)}
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
    """Whether DVC finds a git repository here or in a folder above, and can read it."""
    from dvc.scm import SCM, SCMError  # it takes a moment to load

    try:
        SCM(Path.cwd()).close()
    except SCMError:
        return False
    return True


def follow_git() -> str:
    """Let DVC work without git where there is no repository, and with git again once there is one.

    Without a repository DVC refuses every command unless `core.no_scm` is set, here in `.dvc/config.local`. Returns what
    changed, in a sentence, or "".
    """
    config = Config.from_cwd()
    is_set, is_ours = (bool(core.get("no_scm")) for core in (config["core"], config.load_one("local")["core"]))
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
    """Keep a copy of `dvc.lock` in a folder, if it is whole."""
    if LOCK.exists() and _is_whole(LOCK):
        write_bytes(folder / KEPT, LOCK.read_bytes())


def mend(folder: Path) -> str:
    """Mend DVC's files, `dvc.lock` from its copy in a folder. Returns what was mended, in a sentence, or "".

    On a drive without locks DVC is set to use hard links. Raises DistillError where there are none either.
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
    found = "is in a merge conflict of git" if is_conflict else "was cut off, by a full disk or a kill"
    kept = folder / KEPT
    if kept.exists() and _is_whole(kept):
        write_bytes(LOCK, kept.read_bytes())
        return f"{LOCK} {found}: that of the last run here is put back"
    LOCK.unlink()
    return f"{LOCK} {found}, and is removed: all stages are looked at again"


def locked_results() -> list[Path]:
    """What `dvc.lock` names as results of stages; nothing where it is missing or cut off."""
    try:
        stages = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]
        return [Path(out["path"]) for stage in stages.values() for out in stage.get("outs", ())]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []


def leaves_out() -> Callable[[Path], bool]:
    """Whether files of `.dvcignore` leave out a file, so that DVC sees no change in it."""
    from dvc.repo import Repo  # it takes a moment to load

    with Repo() as repo:
        rules = repo.dvcignore
    return lambda path: bool(rules.is_ignored_file(os.path.abspath(path)))  # noqa: PTH100 - links stay as they are


def is_busy() -> bool:
    """Whether another process of DVC works here: it runs a stage, or holds DVC's lock."""
    if any(_holders()):
        return True
    try:
        with locked(HELD) as is_free:
            return not is_free
    except OSError:
        return True


def _lock_by_links() -> None:
    """Let DVC lock by a hard link, after what other locks left. Raises DistillError."""
    HELD.unlink(missing_ok=True)
    try:
        HELD.hardlink_to(HELD.parents[1] / "config")
    except OSError as error:
        raise DistillError(
            f"{HELD}: expected a drive with locks or hard links, which DVC needs, found neither ({error.strerror}); move "
            "the project to another drive, or learn a folder with `distill train`"
        ) from error
    HELD.unlink()
    run_dvc("config", "--local", "core.hardlink_lock", "true")


def _remove_half_copies() -> None:
    """Remove what DVC copied in part, into its cache and beside results: as large as a model, and `dvc gc` leaves it.

    Not while another process of DVC holds its lock, and may be copying.
    """
    beside = (path for folder in OUTS for path in folder.glob(".*.tmp"))
    half = [path for path in (*CACHE.rglob(".*.tmp"), *beside) if HALF.fullmatch(path.name)]
    if half:
        with suppress(OSError), locked(HELD) as is_free:
            for path in half if is_free else ():
                path.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether DVC reads a lock file."""
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, Invalid):
        return False
    return True


def _holders() -> list[bool]:
    """For each process in DVC's list of locks, whether it is one of DVC that runs; none does where the list is cut off."""
    try:
        locks = json.loads(LOCKED.read_text(encoding="utf-8"))
        readers = chain.from_iterable(locks.get("read", {}).values())
        return [_is_dvc(int(entry["pid"])) for entry in (*locks.get("write", {}).values(), *readers)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, AttributeError, KeyError):
        return [False]


def _is_dvc(process: int) -> bool:
    try:
        return any(Path(word).stem == "dvc" for word in psutil.Process(process).cmdline())
    except psutil.Error:
        return False
