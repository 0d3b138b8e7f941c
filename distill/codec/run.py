"""The codec from a corpus on disk to an artefact on disk, resumed where it was left: one way for stage and command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from distill.audio.corpus import CorpusEntry, load_corpus
from distill.codec.model import VQVAE
from distill.codec.previews import CodecPreviews
from distill.codec.report import save_codec, show_codec_progress
from distill.codec.training import CodecTraining, train_vqvae
from distill.execution import Execution
from distill.params import Auto, SplitParams, TierName, VQVAEParams, tier_for
from distill.progress import ProgressReport
from distill.storage.files import sha256_file
from distill.training.artifact import checkpoint_key, fingerprint
from distill.training.checkpoints import CheckpointStore
from distill.training.fabric import make_fabric
from distill.training.interruption import catch_interruption, watch_for_stop
from distill.training.tracking import Tracker, tracked


@dataclass(frozen=True)
class CodecSettings:
    """What decides the codec that a corpus gives."""

    vqvae: VQVAEParams
    split: SplitParams
    tier: TierName | Auto
    seed: int


@dataclass(frozen=True)
class CodecRun:
    """A training that reached its end. `store` holds the way there: clear it once what was made of it is safe."""

    training: CodecTraining
    figures: dict[str, float]
    recordings: int
    tier: TierName
    store: CheckpointStore


def run_codec_training(
    corpus_folder: Path,
    folder: Path,
    checkpoints: Path,
    settings: CodecSettings,
    execution: Execution,
    tracking_root: Path | None,
    stop: Path,
) -> CodecRun:
    """Train on the corpus in `corpus_folder` and write the artefact `folder`.

    Goes on from the state below `checkpoints` that has the same inputs, settings and code. MLflow's store is below
    `tracking_root`; without one only MLFLOW_TRACKING_URI decides. A file that appears at `stop` ends training with the
    best weights so far. Raises Interrupted after saving.
    """
    fabric = make_fabric(execution)
    corpus = load_corpus(corpus_folder)
    recordings = len(corpus.entries)
    config = settings.vqvae.resolve(recordings, settings.tier)
    val_fraction = settings.split.resolve(recordings)
    tier = tier_for(recordings, settings.tier).name
    resolved = {**config.model_dump(), "val_fraction": val_fraction, "seed": settings.seed, "tier": tier}
    corpus_sha256 = sha256_file(corpus_folder / "manifest.parquet")
    mark = fingerprint("train_vqvae", {"corpus": corpus_sha256}, resolved)
    store = CheckpointStore(checkpoints / checkpoint_key(mark))
    previews = CodecPreviews(corpus)
    with (
        catch_interruption() as interruption,
        tracked(tracking_root, "train_vqvae", mark, {**resolved, "recordings": recordings}) as tracker,
        ProgressReport("codec") as progress,
    ):

        def start(codec: VQVAE, held_out: Sequence[CorpusEntry]) -> None:
            previews.start(codec, held_out)
            _track_previews(tracker, previews)

        training = train_vqvae(
            corpus,
            config,
            val_fraction,
            settings.seed,
            fabric,
            store,
            show_codec_progress(progress, tracker),
            tracker.metrics,
            interruption,
            watch_for_stop(stop, progress),
            on_start=start,
        )
        for remark in training.fit.remarks:
            progress.say(remark)
        previews.finish(training)
        figures = save_codec(
            folder, training, config, previews, recordings, (settings.seed, val_fraction), corpus_sha256, mark
        )
        tracker.artifact(folder / "model.safetensors", "checkpoint")
        tracker.artifact(folder / "config.json", "checkpoint")
        tracker.artifact(folder / "previews", "previews")
    return CodecRun(training, figures, recordings, tier, store)


def _track_previews(tracker: Tracker, previews: CodecPreviews) -> None:
    """Let MLflow have what there is so far."""
    if not tracker.off:
        with TemporaryDirectory() as folder:
            previews.write(Path(folder))
            tracker.artifact(Path(folder), "previews")
