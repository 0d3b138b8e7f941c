"""A folder of recordings to a model file without DVC: what `distill train` does. Work in progress is kept in `.distill`."""

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from distill.audio.corpus import MANIFEST, IngestReport, ingest, load_corpus
from distill.audio.manifest import read_manifest
from distill.codec.artifact import load_codec
from distill.codec.model import VQVAE
from distill.codec.run import CodecRun, CodecSettings, run_codec_training
from distill.codec.training import train_vqvae
from distill.codes.encode import encode_for_prior
from distill.codes.store import read_index, split_recordings, write_split
from distill.errors import ArtifactError, ParamsError
from distill.execution import Execution, execution_from_environment
from distill.model_file.build import bundle_artifacts, bundle_prior
from distill.model_file.format import Bundle, load_bundle
from distill.params import CorpusParams, Params, PriorConfig, SplitParams
from distill.pipeline.known_corpora import find_corpus, remember_corpus
from distill.pipeline.workspace import STATE, STOP, workplace
from distill.prior.data import PriorData
from distill.prior.run import PriorRun, PriorSettings, read_prior_data, run_prior_training
from distill.prior.training import Callback, PriorTraining, fit_prior
from distill.progress import ProgressReport
from distill.storage.files import canonical_json, sha256_file, sha256_text
from distill.storage.weights import weights_sha256
from distill.training.events import VQEpochMetrics, VQStepMetrics
from distill.training.fabric import make_fabric

MOST_LINES = 20


@dataclass(frozen=True)
class TrainedModel:
    """A finished model file and how it came about."""

    path: Path
    corpus: IngestReport
    rejected: tuple[str, ...]  # file: reason
    codec: CodecRun
    prior: PriorRun | None


@dataclass(frozen=True)
class AddedPrior:
    """A model file that was given a prior."""

    path: Path
    prior: PriorRun


def train_model(
    folder: Path, model: Path, params: Params, execution: Execution, prior: bool = False, state: Path = STATE
) -> TrainedModel:
    """Learn the recordings in `folder` and write the model file `model`: a codec, and with `prior` a prior of its codes.

    An interrupted or killed training goes on when called again with the same folder and settings, whatever the model
    file is called. Raises DistillError.
    """
    work = state / "train" / _key("train", os.fsencode(folder.resolve()).hex(), params)
    with workplace(work, work.parent, state / "checkpoints", state):
        corpus, rejected = _ingest(folder, work / "corpus", params.corpus, execution)
        settings = CodecSettings(params.vqvae, params.split, params.tier, params.seed)
        places = (state / "checkpoints", settings, execution, None, state / STOP)
        codec = run_codec_training(work / "corpus", work / "vqvae", *places)
        trained = None
        if prior:
            network, config = load_codec(work / "vqvae")
            trained = _train_prior(network, config.codec_sha256, work, params, execution, state)
        bundle_artifacts(model, work / "vqvae", work / "prior" if prior else None, params.bundle.reference)
        remember_corpus(state, sha256_file(work / "corpus" / MANIFEST), folder)
        for run in (codec, trained):
            if run is not None:
                run.store.clear()
        shutil.rmtree(work, ignore_errors=True)
    return TrainedModel(model, corpus, tuple(rejected), codec, trained)


def add_prior(
    model: Path, output: Path, folder: Path | None, params: Params, execution: Execution, state: Path = STATE
) -> AddedPrior:
    """Train a prior for the codec in `model` and write both as `output`, which may be `model` itself.

    Without a `folder` it is the one that the codec learnt, where this computer knows it. The same recordings are held
    out as for the codec. Goes on where it was interrupted. Raises DistillError.
    """
    bundle = load_bundle(model)
    known = bundle.metadata.provenance.data_sha256
    chosen = folder if folder is not None else find_corpus(state, known)
    if chosen is None:
        raise ParamsError(
            f"{model}: expected to know where its recordings are, found no note of it in {state}; name their folder with --data"
        )
    params = _as_codec(params, bundle)
    work = state / "train" / _key("prior", bundle.metadata.codec_sha256 + os.fsencode(chosen.resolve()).hex(), params)
    with workplace(work, work.parent, state / "checkpoints", state):
        _ingest(chosen, work / "corpus", params.corpus, execution)
        if folder is None and sha256_file(work / "corpus" / MANIFEST) != known:
            raise ParamsError(
                f"{chosen}: expected the recordings that {model} learnt, found others there by now; "
                f"to train on them all the same, say --data {chosen}"
            )
        trained = _train_prior(bundle.codec, bundle.metadata.codec_sha256, work, params, execution, state)
        bundle_prior(output, bundle, work / "prior", params.bundle.reference)
        remember_corpus(state, sha256_file(work / "corpus" / MANIFEST), chosen)
        trained.store.clear()
        shutil.rmtree(work, ignore_errors=True)
    return AddedPrior(output, trained)


def train_prior(
    model_path: Path | str,
    dataset_dir: Path | str,
    prior_config: PriorConfig,
    callback: Callback | None = None,
    cancel_event: threading.Event | None = None,
) -> PriorTraining:
    """Train a prior for the codec in a model file on a folder of recordings; nothing is written.

    Recordings are held out as they were for the codec, whatever `prior_config` says of it. Setting `cancel_event` ends
    training within a step with the best weights so far. Raises DistillError.
    """
    bundle, execution = load_bundle(Path(model_path)), execution_from_environment()
    params = _as_codec(Params(corpus=CorpusParams(path=str(dataset_dir))), bundle)
    with TemporaryDirectory() as work:
        _ingest(Path(dataset_dir), Path(work) / "corpus", params.corpus, execution)
        code_corpus(bundle.codec, bundle.metadata.codec_sha256, Path(work), params, execution)
        data = read_prior_data(Path(work) / "codes", Path(work) / "split.parquet")
    fabric = make_fabric(execution)
    return fit_prior(data, prior_config, params.seed, fabric, callback=callback, cancel_event=cancel_event)


def code_folder(folder: Path, work: Path, params: Params, execution: Execution) -> PriorData:
    """What a prior would learn of the recordings in `folder`, coded by a codec that is trained on them; all files go to `work`, and what is
    interrupted is lost."""
    _ingest(folder, work / "corpus", params.corpus, execution)
    corpus = load_corpus(work / "corpus")
    count = len(corpus.entries)
    config, fraction = params.vqvae.resolve(count, params.tier), params.split.resolve(count)
    with ProgressReport("codec") as progress:

        def watch(event: VQStepMetrics | VQEpochMetrics) -> None:
            if isinstance(event, VQStepMetrics):
                progress(event.step, event.total_steps, f"loss {event.train_loss:.3f}")

        codec = train_vqvae(corpus, config, fraction, params.seed, make_fabric(execution), callback=watch).model
    code_corpus(codec, weights_sha256(codec), work, params, execution)
    return read_prior_data(work / "codes", work / "split.parquet")


def code_corpus(codec: VQVAE, codec_sha256: str, work: Path, params: Params, execution: Execution) -> None:
    """From `corpus` in `work` write `codes` and `split.parquet` beside it."""
    recordings = load_corpus(work / "corpus")
    make_fabric(execution).to_device(codec)
    seconds = sum(entry.samples for entry in recordings.entries) / recordings.sample_rate
    fraction = params.split.resolve(len(recordings.entries))
    views = params.codes.resolve(seconds)
    with ProgressReport("encode") as progress:
        encode_for_prior(
            codec,
            codec_sha256,
            recordings,
            work / "codes",
            views,
            fraction,
            params.seed,
            progress,
            params.corpus.labels,
        )
    codec.cpu()
    write_split(work / "split.parquet", split_recordings(read_index(work / "codes"), params.seed, fraction))


def _train_prior(
    codec: VQVAE, codec_sha256: str, work: Path, params: Params, execution: Execution, state: Path
) -> PriorRun:
    """Codes, split and prior of the corpus in `work`."""
    code_corpus(codec, codec_sha256, work, params, execution)
    return run_prior_training(
        work / "codes",
        work / "split.parquet",
        work / "prior",
        state / "checkpoints",
        PriorSettings(params.prior, params.split, params.tier, params.seed),
        execution,
        None,
        state / STOP,
    )


def _as_codec(params: Params, bundle: Bundle) -> Params:
    """`params` with what the codec settles: its sample rate, and by which seed and share recordings are held out."""
    held_out = bundle.metadata.training_config.get("split")
    try:
        seed, fraction = int(held_out["seed"]), float(held_out["val_fraction"])  # type: ignore[index]
        rate = bundle.metadata.spectrogram_config.sample_rate
        corpus = params.corpus.model_copy(update={"sample_rate": rate})
        return params.model_copy(update={"seed": seed, "split": SplitParams(val_fraction=fraction), "corpus": corpus})
    except (TypeError, KeyError, ValueError) as error:
        raise ArtifactError(
            "the model does not say which recordings its codec was judged by: expected training_config.split with seed "
            "and val_fraction; train the codec again with `distill train`"
        ) from error


def _key(kind: str, inputs: str, params: Params) -> str:
    """Name of the work folder: the same for the same recordings and settings, whatever the model is called."""
    settings = params.model_dump(mode="json", exclude={"bundle": True, "corpus": {"path"}})
    return sha256_text(kind + inputs + canonical_json(settings))[:24]


def _ingest(folder: Path, output: Path, params: CorpusParams, execution: Execution) -> tuple[IngestReport, list[str]]:
    """The corpus, and a line for each file that is not in it."""
    with ProgressReport("ingest") as progress:
        report = ingest(folder, output, params.sample_rate, params.max_rejected, execution.workers, progress)
        progress.say(report.summary())
        rows = read_manifest(output / MANIFEST)
        rejected = [f"{row.path}: {row.reason}" for row in rows if row.status == "rejected"]
        for line in rejected[:MOST_LINES]:
            progress.say(f"  rejected {line}")
        if len(rejected) > MOST_LINES:
            progress.say(f"  and {len(rejected) - MOST_LINES} more")
    return report, rejected
