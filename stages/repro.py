"""Entry point of `make repro`: check settings and corpus, pull results, run `dvc repro`, print a summary."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill.audio.source import is_url, list_recordings, open_source, printable
from distill.errors import AudioError, DistillError
from distill.execution import STATE, usable_memory
from distill.params import Params, load_params
from distill.pipeline.workspace import workplace
from distill.process import print_any_text
from distill.text import is_utf8
from stages.ingest import note_corpus
from stages.ops import dvc
from stages.ops.models import keep_other_model
from stages.ops.results import pull_missing
from stages.ops.summary import run_log, summarise
from stages.running import AT_WORK, PARAMS, bundle_path, status_of

NO_PULL = "--no-pull"  # our own flag, not DVC's


def main(arguments: list[str]) -> int:
    """Run `dvc repro ARGUMENTS` and return its exit status, or the exit status of the stage that failed.

    Without arguments, first pull missing results from a remote. `--no-pull` prevents that and is not passed to DVC.
    """
    print_any_text()
    return status_of(lambda: _checked(arguments))


def _checked(arguments: list[str]) -> int:
    params = load_params(PARAMS)
    if remark := dvc.follow_git():
        print(remark, file=sys.stderr)
    _check_corpus(params.corpus.path)
    with workplace(STATE / "repro", STATE, what="this pipeline"):
        return _reproduce(params, arguments)


def _check_corpus(path: str) -> None:
    """Raise AudioError if `corpus.path` is neither a folder that DVC can hash nor the address of an object store."""
    if is_url(path):
        open_source(path)
        return
    corpus = Path(path)
    if not corpus.is_dir():
        what = "a file" if corpus.exists() else "nothing there"
        home = ", in which ~ is no home folder for DVC" if path.startswith("~") else ""
        raise AudioError(
            f"{PARAMS}: corpus.path: expected a folder of recordings, found {what} at {corpus}{home}; "
            "set it to the folder with your sounds"
        )
    _refuse_unhashable(corpus)


def _reproduce(params: Params, arguments: list[str]) -> int:
    began, earlier = time.monotonic(), len(run_log())
    for remark in filter(None, (dvc.mend(STATE), keep_other_model(bundle_path(params)))):
        print(remark, file=sys.stderr)
    AT_WORK.unlink(missing_ok=True)
    if not arguments:
        pull_missing()
    status = dvc.run_dvc(
        "repro", *(argument for argument in arguments if argument != NO_PULL)
    ).returncode
    ran = run_log()[earlier:]
    if status != 0:
        return _failed(params, ran)
    dvc.keep_lock(STATE)
    note_corpus(params)  # in case `ingest` was up to date
    summarise(params, ran, time.monotonic() - began)
    return 0


def _failed(params: Params, ran: list[dict[str, Any]]) -> int:
    """Exit status of the failed stage, or 1. Raises DistillError if no stage failed and the cause is known."""
    for entry in ran:
        if entry["exit"] != 0:
            return int(entry["exit"])
    _check_what_no_stage_says(params)
    return 1


def _check_what_no_stage_says(params: Params) -> None:
    """Raise an error for known causes that end DVC without a stage: store, full disk, busy DVC, killed process."""
    if is_url(params.corpus.path):
        list_recordings(open_source(params.corpus.path))
    if shutil.disk_usage(Path()).free < 1 << 20:  # bytes; below this it counts as full
        raise DistillError(
            "disk: expected room for what DVC keeps, found it full; free some space and run again"
        )
    if dvc.is_busy():
        raise DistillError(
            "DVC: expected no other command of it here, found one at work; wait until it ends"
        )
    if AT_WORK.exists():
        stage = next(iter(AT_WORK.read_text(encoding="utf-8").split()), "a stage")
        raise DistillError(
            f"{stage}: expected it to end by itself, found that it was killed or crashed; if memory ran out "
            f"({usable_memory() >> 20} MB may be used), close other programs, or take a smaller tier or batch_size, "
            "and run again"
        )


def _refuse_unhashable(corpus: Path) -> None:
    """Raise AudioError for entries that DVC cannot hash; its own errors are unclear."""
    entries = sorted([*_unhashable(corpus), *_unseen(corpus)])
    if entries:
        listed = 10
        shown = "; ".join(f"{path}: {reason}" for path, reason in entries[:listed])
        more = f"; and {len(entries) - listed} more" if len(entries) > listed else ""
        raise AudioError(
            f"{PARAMS}: corpus.path: expected entries that DVC can hash, found {len(entries)} others in {corpus} "
            f"({shown}{more}); rename or remove them"
        )


def _unhashable(corpus: Path) -> Iterator[tuple[str, str]]:
    """(entry, reason) for everything below `corpus` that DVC cannot hash, or where it would miss changes."""
    for parent, folders, files in os.walk(corpus):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if reason := _why_unhashable(path):
                yield printable(os.path.relpath(path, corpus)), reason


def _unseen(corpus: Path) -> Iterator[tuple[str, str]]:
    """(recording, reason) for recordings that DVC ignores, although they would be learnt."""
    leaves_out = dvc.leaves_out()
    for file in open_source(corpus).scan().audio:
        if leaves_out(corpus / file.relative):
            yield file.path, ".dvcignore leaves it out, so DVC sees no change in it"


def _why_unhashable(path: Path) -> str:
    reasons: dict[str, Callable[[], bool]] = {
        "its name is not UTF-8": lambda: not is_utf8(path.name),
        "a link that leads nowhere": lambda: not path.exists(),
        "a link to a folder, behind which DVC sees no change": lambda: (
            path.is_dir() and path.is_symlink()
        ),
        "neither a file nor a folder": lambda: not (path.is_dir() or path.is_file()),
        "no permission to read it": lambda: path.is_file() and not os.access(path, os.R_OK),
    }
    return next((reason for reason, holds in reasons.items() if holds()), "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
