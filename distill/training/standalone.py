"""A folder of recordings to a model file without DVC: what `distill train` does. Work in progress is kept in `.distill`."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from distill.audio.corpus import MANIFEST, IngestReport, ingest
from distill.audio.manifest import read_manifest
from distill.console import ProgressReport
from distill.errors import ParamsError
from distill.execution import Execution
from distill.files import canonical_json, sha256_text
from distill.params import Params
from distill.training.bundling import bundle_artifacts
from distill.training.codec_run import CodecRun, CodecSettings, run_codec_training

STATE = Path(".distill")
LOCK = "lock"
MOST_LINES = 20


@dataclass(frozen=True)
class TrainedModel:
    """A finished model file and how it came about."""

    path: Path
    corpus: IngestReport
    rejected: tuple[str, ...]  # file: reason
    codec: CodecRun


def train_model(folder: Path, model: Path, params: Params, execution: Execution, state: Path = STATE) -> TrainedModel:
    """Learn the recordings in `folder` and write the model file `model`, a codec without a prior.

    An interrupted or killed training goes on when called again with the same folder and settings, whatever the model
    file is called. Raises DistillError.
    """
    work = state / "train" / _key(folder, params)
    with _no_empty_folders(work, work.parent, state / "checkpoints", state), _alone(work):
        corpus, rejected = _ingest(folder, work / "corpus", params, execution)
        settings = CodecSettings(params.vqvae, params.split, params.tier, params.seed)
        codec = run_codec_training(
            work / "corpus", work / "vqvae", state / "checkpoints", settings, execution, tracking_root=None
        )
        bundle_artifacts(model, work / "vqvae")
        codec.store.clear()
        shutil.rmtree(work, ignore_errors=True)
    return TrainedModel(model, corpus, tuple(rejected), codec)


def _key(folder: Path, params: Params) -> str:
    """Name of the work folder: the same for the same recordings and settings, whatever the model is called."""
    settings = params.model_dump(mode="json", exclude={"bundle": True, "corpus": {"path"}})
    return sha256_text(os.fsencode(folder.resolve()).hex() + canonical_json(settings))[:24]


def _ingest(folder: Path, output: Path, params: Params, execution: Execution) -> tuple[IngestReport, list[str]]:
    """The corpus, and a line for each file that is not in it."""
    with ProgressReport("ingest") as progress:
        sample_rate, max_rejected = params.corpus.sample_rate, params.corpus.max_rejected
        report = ingest(folder, output, sample_rate, max_rejected, execution.workers, progress)
        progress.say(report.summary())
        rows = read_manifest(output / MANIFEST)
        rejected = [f"{row.path}: {row.reason}" for row in rows if row.status == "rejected"]
        for line in rejected[:MOST_LINES]:
            progress.say(f"  rejected {line}")
        if len(rejected) > MOST_LINES:
            progress.say(f"  and {len(rejected) - MOST_LINES} more")
    return report, rejected


@contextmanager
def _no_empty_folders(*folders: Path) -> Iterator[None]:
    """Leave only folders with work in them, ours or that of others."""
    try:
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep the work folder to this process; the system gives it free when the process ends, however it ends."""
    with _lock_file(work) as lock:
        if os.name != "nt":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ParamsError(
                    f"{work}: expected to train alone, found the same training at work already; wait until it ends"
                ) from error
        try:
            yield
        finally:
            (work / LOCK).unlink(missing_ok=True)


def _lock_file(work: Path) -> IO[str]:
    try:
        work.mkdir(parents=True, exist_ok=True)
        return (work / LOCK).open("w")
    except (FileExistsError, NotADirectoryError) as error:
        raise ParamsError(
            f"{error.filename}: expected a folder for work in progress, found a file; move it away"
        ) from error
