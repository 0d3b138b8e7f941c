"""Train a model file from recordings without DVC, with work in progress in `.distill`.

Recordings are in a folder, or at a URL such as s3://bucket/prefix.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distill.audio.corpus import MANIFEST, Corpus, load_corpus
from distill.audio.ingest import ingest_folder
from distill.audio.source import address
from distill.codec.artifact import load_codec
from distill.codec.model import VQVAE
from distill.codec.training import CodecTraining, train_codec
from distill.codes.encode import code_corpus
from distill.codes.store import split_codes
from distill.errors import ArtifactError, ParamsError
from distill.execution import STATE, Execution, execution_from_environment
from distill.model_file.build import (
    Dates,
    bundle_artifacts,
    bundle_prior,
    date_now,
    save_with_prior,
)
from distill.model_file.format import Bundle, BundleMetadata, load_bundle
from distill.novelty.reference import Reference
from distill.params import Params, PriorConfig
from distill.pipeline.workspace import PipelineFolders, find_corpus, remember_corpus, workplace
from distill.prior.data import PriorData, read_prior_data
from distill.prior.training import Callback, PriorTraining, fit_prior, train_prior_of_codes
from distill.storage.files import canonical_json, remove_folder, sha256_file, sha256_text
from distill.storage.weights import weights_sha256
from distill.storage.work import Executor
from distill.training.checkpoints import curves_of
from distill.training.console import public_events
from distill.training.distributed import make_fabric
from distill.training.run import Run


@dataclass(frozen=True)
class TrainedModel:
    """A trained model file with the report on its corpus, as in `report.json`, and its trainings."""

    path: Path
    corpus: dict[str, Any]
    codec: CodecTraining
    prior: PriorTraining | None


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedPrior(PriorTraining):
    """A trained prior with the other parts of a model file: the codec and the reference."""

    bundle: Bundle  # of the codec
    reference: Reference  # without scores

    def save(self, path: Path | str, reference: bool = True) -> BundleMetadata:
        """Write codec and prior as the model file `path`, which may be the file of the codec, and its card.

        Without `reference` the file holds no codes of the recordings and cannot score novelty. Raises DistillError.
        """
        curves = curves_of(self.result.history, "prior")
        kept = self.reference if reference else None
        return save_with_prior(
            Path(path), self.bundle, self.model, self.facts, curves, kept, Dates.now()
        )


def train_model(
    folder: Path | str,
    model: Path,
    params: Params,
    execution: Execution,
    executor: Executor,
    prior: bool = False,
    state: Path = STATE,
) -> TrainedModel:
    """Train a codec, and with `prior` a prior, on the recordings in `folder`, and write the model file `model`.

    After an interruption or a kill, the same call resumes, also with another name of the model file, and ends with
    the same bytes except the date. `executor` runs decoding and encoding. Raises DistillError.
    """
    existed = model.exists()
    with _work("train", folder, params, state) as folders:
        corpus = ingest_folder(
            folder, folders.corpus, params.corpus, executor, kept=folders.decoded
        )
        trained = train_codec(folders.corpus, folders.vqvae, params, execution, state)
        priors: list[PriorTraining] = []
        if prior:
            codec, config = load_codec(folders.vqvae)
            code_and_split(
                codec, config.codec_sha256, folders, params, execution, executor, config.by_label
            )
            of_codes = (folders.codes, folders.split, folders.prior, params, execution, state)
            priors.append(train_prior_of_codes(*of_codes))
        _check_still_free(model, existed)
        model.parent.mkdir(parents=True, exist_ok=True)  # only now, as wrong input leaves no folder
        prior_folder = folders.prior if prior else None
        bundle_artifacts(model, folders.vqvae, prior_folder, params.bundle.reference, Dates.now())
        remember_corpus(state, sha256_file(folders.corpus / MANIFEST), address(folder))
        for training in (trained, *priors):
            training.clear_checkpoints()
    return TrainedModel(model, corpus, trained, next(iter(priors), None))


def add_prior(
    model: Path,
    output: Path,
    folder: Path | str | None,
    params: Params,
    execution: Execution,
    executor: Executor,
    state: Path = STATE,
) -> PriorTraining:
    """Train a prior for the codec in `model` and write both as `output`, which may be `model` itself.

    `folder` defaults to the recordings of the codec, if this computer has a record of their place. Codec and prior
    hold out the same recordings. An interrupted training resumes. `executor` runs decoding and encoding. Raises
    DistillError.
    """
    existed, bundle = output.exists(), load_bundle(model)
    data_sha256, codec_sha256 = bundle.metadata.provenance.data_sha256, bundle.metadata.codec_sha256
    chosen = _recordings_of(model, data_sha256, state) if folder is None else folder
    params = _with_codec_split(params, bundle)
    with _work(f"prior{codec_sha256}", chosen, params, state) as folders:
        ingest_folder(chosen, folders.corpus, params.corpus, executor, kept=folders.decoded)
        manifest = sha256_file(folders.corpus / MANIFEST)
        if folder is None and manifest != data_sha256:
            raise ParamsError(
                f"{chosen}: expected the training recordings of {model}, found others; "
                f"to train on them nevertheless, use --data {chosen}"
            )
        code_and_split(
            bundle.codec, codec_sha256, folders, params, execution, executor, _is_by_label(bundle)
        )
        trained = train_prior_of_codes(
            folders.codes, folders.split, folders.prior, params, execution, state
        )
        _check_still_free(output, existed)
        bundle_prior(output, bundle, folders.prior, params.bundle.reference, Dates.now())
        remember_corpus(state, manifest, address(chosen))
        trained.clear_checkpoints()
    return trained


def _recordings_of(model: Path, data_sha256: str, state: Path) -> str:
    """Recorded address of a model's training recordings on this computer. Raises ParamsError without a record."""
    if recordings := find_corpus(state, data_sha256):
        return recordings
    raise ParamsError(
        f"{model}: expected the folder of its recordings, found no record of it in {state}; name it with --data"
    )


@contextmanager
def _work(kind: str, folder: Path | str, params: Params, state: Path) -> Iterator[PipelineFolders]:
    """Provide the folders of a training, which are removed after success. They depend on recordings and settings."""
    date_now()  # raises for a wrong SOURCE_DATE_EPOCH before any work
    work = state / "train" / work_key(kind, folder, params)
    with workplace(work, work.parent, state / "checkpoints", state):
        yield PipelineFolders.below(work)
        remove_folder(work)


def work_key(kind: str, folder: Path | str, params: Params) -> str:
    """Name of the folder of a training, which does not depend on the model's name."""
    settings = params.model_dump(mode="json", exclude={"bundle": True, "corpus": {"path"}})
    return sha256_text(kind + os.fsencode(address(folder)).hex() + canonical_json(settings))[:24]


def _check_still_free(model: Path, existed: bool) -> None:
    """Raise ParamsError if something else has written the model file since the training began."""
    if model.exists() and not existed:
        raise ParamsError(
            f"{model}: expected no file, as when this training began, found one that something else has written; "
            "the training is saved: run the same command with another name"
        )


def train_prior(
    model_path: Path | str,
    dataset_dir: Path | str,
    prior_config: PriorConfig,
    callback: Callback | None = None,
    cancel_event: threading.Event | None = None,
) -> TrainedPrior:
    """Train a prior for the codec in a model file on a folder of recordings, without writing files.

    `save` of the result writes a model file. Codec and prior hold out the same recordings, whatever the
    `val_fraction` of `prior_config`. Setting `cancel_event` ends training within a step with the best weights so far.
    Raises DistillError.
    """
    bundle, execution = load_bundle(Path(model_path)), execution_from_environment()
    params = _with_codec_split(
        Params.model_validate({"corpus": {"path": str(dataset_dir)}}), bundle
    )
    with TemporaryDirectory() as work:
        data = code_folder(
            dataset_dir, Path(work), params, execution, lambda _: bundle.codec, _is_by_label(bundle)
        )
    cancel = cancel_event or threading.Event()
    run = Run(make_fabric(execution), observers=public_events(callback), cancel=cancel.is_set)
    training = fit_prior(data, prior_config, params.seed, run)
    return TrainedPrior(**vars(training), bundle=bundle, reference=data.reference())


def code_folder(
    folder: Path | str,
    work: Path,
    params: Params,
    execution: Execution,
    train: Callable[[Corpus], VQVAE],
    by_label: bool = False,
) -> PriorData:
    """Encode the recordings in `folder`, which may be a URL, with the codec that `train` returns, and split them.

    All files are in `work`, which may be deleted afterwards. Raises DistillError.
    """
    folders, executor = PipelineFolders.below(work), Executor(execution.workers)
    ingest_folder(folder, folders.corpus, params.corpus, executor)
    codec = train(load_corpus(folders.corpus))
    code_and_split(codec, weights_sha256(codec), folders, params, execution, executor, by_label)
    return read_prior_data(folders.codes, folders.split, params.seed)


def code_and_split(
    codec: VQVAE,
    codec_sha256: str,
    folders: PipelineFolders,
    params: Params,
    execution: Execution,
    executor: Executor,
    by_label: bool,
) -> None:
    """Encode the corpus in `folders`, and split it into training and held-out recordings."""
    made = (folders.corpus, folders.codes, params, execution, executor, folders.coded)
    code_corpus(codec, codec_sha256, *made, by_label=by_label)
    split_codes(folders.codes, folders.split, params)


def _is_by_label(bundle: Bundle) -> bool:
    """Whether the codec's split, which `_with_codec_split` has checked, is by label."""
    return bool(bundle.metadata.training_config["split"].get("by_label", False))


def _with_codec_split(params: Params, bundle: Bundle) -> Params:
    """Copy `params` with the settings of the codec's corpus and split. Raises ArtifactError."""
    held_out = bundle.metadata.training_config.get("split")
    try:
        seed, fraction = int(held_out["seed"]), float(held_out["val_fraction"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError) as error:
        raise ArtifactError(
            "metadata of the model: expected training_config.split with the codec's seed and val_fraction, found none; "
            "train the codec again with `distill train`"
        ) from error
    about = bundle.metadata
    channels = params.corpus.channels if about.is_stereo else "mono"  # as in the codec's corpus
    decoded = {
        "sample_rate": about.spectrogram_config.sample_rate,
        "trim": about.trim,
        "channels": channels,
    }
    corpus = params.corpus.model_copy(update=decoded)
    split = params.split.model_copy(update={"val_fraction": fraction})
    return params.model_copy(update={"seed": seed, "split": split, "corpus": corpus})
