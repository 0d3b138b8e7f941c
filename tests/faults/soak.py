"""Long and much: `python -m faults.soak KIND --count N` repeats one thing, and says what the process then holds.

Each kind works in a temporary folder on tiny networks. Memory, handles, threads, child processes and temporary files
must not grow with the repetitions. `--json` prints every figure.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from faults.usage import Course, repeat
from pipeline.project import ROOT
from quick_python import quick_python
from unit.tiny import RATE, write_prior_model, write_tone

import distill
from distill import train_prior
from distill.audio.ingest import ingest_folder
from distill.codec.artifact import load_codec
from distill.codec.training import train_codec
from distill.execution import Execution
from distill.generate.calibration import calibrate
from distill.params import default_params
from distill.pipeline.train import code_and_split
from distill.pipeline.workspace import PipelineFolders
from distill.prior.training import train_prior_of_codes
from distill.storage.work import HERE
from distill.training.folders import RunFolders

Once = Callable[[int], None]
SOUNDS = 10  # generated in one repetition
RECORDINGS = 5
UNTIL_THE_END = ExitStack()  # of this process
EXECUTION = Execution("cpu", "fp32", 1)
PARAMS = default_params(
    tier="small",
    corpus={"sample_rate": RATE},
    vqvae={
        **{"epochs": 2, "codebook_size": 8, "num_quantizers": 2, "hidden_size": 16, "num_layers": 1},
        **{"latent_size": 8, "crop_seconds": 0.25},
    },
    # Of an architecture that is not calibrated in the end, which takes longer than to train it.
    prior={"architecture": "flat", "epochs": 2, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "batch_size": 2},
    codes={"views": 2},
)


def generate(folder: Path) -> Once:
    """Ten sounds, by one model."""
    model = distill.load(_model(folder))

    def once(number: int) -> None:
        assert len(model.generate(n=SOUNDS, seed=number).sounds) == SOUNDS

    return once


def take(folder: Path) -> Once:
    """Ten times as many sounds as the repetition before last, none kept, as `distill generate` makes them."""
    model = distill.load(_model(folder))

    def once(number: int) -> None:
        lengths: list[int] = []
        model.generate(n=SOUNDS * (number + 1), seed=number, take=lambda _, samples: lengths.append(len(samples)))
        assert len(lengths) == SOUNDS * (number + 1)

    return once


def load(folder: Path) -> Once:
    """Load a model file and use each part of it."""
    path, sound = _model(folder), np.sin(np.arange(RATE // 4)).astype(np.float32)

    def once(number: int) -> None:
        model = distill.load(path)
        assert model.comparison is not None
        assert model.decode(model.encode(sound)).size
        assert model.generate(n=1, seed=number).novelty

    return once


def encode(folder: Path) -> Once:
    """Encode a sound and decode it."""
    model = distill.load(_model(folder))

    def once(number: int) -> None:
        samples = np.random.default_rng(number).normal(0, 0.1, RATE + 100 * (number % 50)).astype(np.float32)
        assert model.decode(model.encode(samples)).size

    return once


def vary(folder: Path) -> Once:
    """Vary a recording, which a process decodes."""
    model, recording = distill.load(_model(folder)), write_tone(folder / "tone.wav")

    def once(number: int) -> None:
        assert len(model.vary(recording, n=3, seed=number).sounds) == 3

    return once


def kit(folder: Path) -> Once:
    """Make a kit in the place of the one before."""
    model = distill.load(_model(folder))

    def once(number: int) -> None:
        model.kit(folder / "kit", seed=number, seconds=0.5, per_label=2, replace=number > 0, allow_copies=True)

    return once


def train(folder: Path) -> Once:
    """Train a codec and a prior, with checkpoints and MLflow's record, each time with another seed."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    made, runs = PipelineFolders.below(folder / "made"), RunFolders.below(folder / ".distill")
    ingest_folder(_recordings(folder / "sounds"), made.corpus, PARAMS.corpus, HERE)
    train_codec(made.corpus, made.vqvae, PARAMS, EXECUTION, runs).clear_checkpoints()
    codec, config = load_codec(made.vqvae)
    code_and_split(codec, config.codec_sha256, made, PARAMS, EXECUTION, HERE)

    def once(number: int) -> None:
        params = PARAMS.model_copy(update={"seed": number})
        train_codec(made.corpus, made.vqvae, params, EXECUTION, runs).clear_checkpoints()
        train_prior_of_codes(made.codes, made.split, made.prior, params, EXECUTION, runs, calibrate).clear_checkpoints()
        assert not any((folder / ".distill").rglob("*.safetensors"))

    return once


def train_api(folder: Path) -> Once:
    """Train a prior by `distill.train_prior`, and write it."""
    model, sounds = _model(folder), _recordings(folder / "sounds")
    config = PARAMS.prior_config(RECORDINGS)

    def once(_: int) -> None:
        train_prior(model, sounds, config).save(folder / "with-prior.distill")

    return once


def ingest(folder: Path) -> Once:
    """Read many recordings into the same corpus."""
    sounds = _recordings(folder / "sounds", int(os.environ.get("SOAK_RECORDINGS", "20")))

    def once(_: int) -> None:
        ingest_folder(sounds, folder / "corpus", PARAMS.corpus, HERE)

    return once


def command(folder: Path) -> Once:
    """`distill train` in a process of its own, which is to leave nothing but its model and MLflow's record."""
    python = UNTIL_THE_END.enter_context(quick_python(folder / "quick"))
    _recordings(folder / "sounds")
    flags = ("--epochs", "1", "--quality", "small", "--rvq-levels", "1", "--codebook-size", "8")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PYTHONPATH": str(ROOT)}

    def once(number: int) -> None:
        command = [python, "-m", "distill", "train", "sounds", "--name", "new", "--seed", str(number), *flags]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)
        (folder / "models" / "new.distill").unlink()

    return once


KINDS = {
    one.__name__.replace("_", "-"): one
    for one in (generate, take, load, encode, vary, kit, train, train_api, ingest, command)
}


def soak(kind: str, count: int, every: int, folder: Path) -> Course:
    """Repeat a kind in a folder, with temporary files in its `tmp`."""
    (folder / "tmp").mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder / "tmp")
    try:
        return repeat(KINDS[kind](folder), count, folder, every)
    finally:
        tempfile.tempdir = before


def _model(folder: Path) -> Path:
    write_prior_model(folder / "a.distill")
    return folder / "a.distill"


def _recordings(folder: Path, count: int = RECORDINGS) -> Path:
    folder.mkdir()
    for number in range(count):
        write_tone(folder / f"{number}.wav", 0.3 + 0.01 * (number % 50), pitch=200.0 + number)
    return folder


def main() -> None:
    """Repeat the kind that is named and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--count", type=int, default=12, help="repetitions")
    parser.add_argument("--every", type=int, default=1, help="repetitions between two looks")
    parser.add_argument("--json", action="store_true", help="print every figure as one JSON document")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(TMPDIR=f"{folder}/tmp", DISTILL_WORKERS="1", DISTILL_DEVICE="cpu")
        course = soak(given.kind, given.count, given.every, Path(folder))
    found = course.report()
    if given.json:
        print(json.dumps({"kind": given.kind, "count": given.count, "uneven": course.uneven(), "usage": found}))
        return
    for name, values in found.items():
        print(f"{name:10} {values['first']:14.6g} to {values['last']:14.6g}, {values['slope']:+.6g} a repetition")


if __name__ == "__main__":
    main()
