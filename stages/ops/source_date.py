"""The date that a model of the pipeline holds."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from distill.model_file.build import date_now, date_of
from distill.params import Params


def source_date(root: Path, params: Params) -> str | None:
    """Date for `training_date`, which the same inputs give again: UTC in ISO 8601.

    It is SOURCE_DATE_EPOCH, where that is set, else the date of the last commit that changed the recordings of the
    repository `root`. The clock is not asked, as the same inputs have to give the same bytes. Nor are the dates of files, which a
    clone and `dvc checkout` set to now, nor is the newest commit of all: that of `dvc.lock` comes after the model.
    None where git does not tell: for recordings that are not committed as they are, in an object store or in a clone
    without history.
    """
    if "SOURCE_DATE_EPOCH" in os.environ:
        return date_now()
    recordings = params.corpus.path
    with suppress(OSError, subprocess.SubprocessError):
        is_shallow = _git(root, "rev-parse", "--is-shallow-repository") != "false"
        is_changed = _git(root, "status", "--porcelain", "--", recordings)
        seconds = _git(root, "log", "-1", "--format=%ct", "--", recordings)
        if seconds and not (is_shallow or is_changed):
            return date_of(int(seconds))
    return None


def _git(root: Path, *arguments: str) -> str:
    command, quiet = ["git", *arguments], subprocess.DEVNULL
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=quiet, text=True, timeout=60, check=True)
    return done.stdout.strip()
