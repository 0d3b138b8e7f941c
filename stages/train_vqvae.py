"""Stage `train_vqvae`: the corpus to a trained codec."""

from collections.abc import Mapping

from distill.audio.corpus import load_corpus
from distill.console import ProgressReport
from distill.execution import execution_from_environment
from distill.files import sha256_file
from distill.params import Params, tier_for
from distill.training.artifacts import checkpoint_key, fingerprint
from distill.training.checkpoints import CheckpointStore
from distill.training.codec_report import save_codec, show_codec_progress
from distill.training.fabric import make_fabric
from distill.training.interruption import catch_interruption
from distill.training.tracking import tracked
from distill.training.vqvae import train_vqvae
from stages.running import CHECKPOINTS, CORPUS, VQVAE, run_stage, tracking_root, write_metrics


def main(params: Params) -> Mapping[str, float]:
    fabric = make_fabric(execution_from_environment())
    corpus = load_corpus(CORPUS)
    recordings = len(corpus.entries)
    config = params.vqvae.resolve(recordings, params.tier)
    val_fraction = params.split.resolve(recordings)
    settings = {
        **config.model_dump(),
        "val_fraction": val_fraction,
        "seed": params.seed,
        "tier": tier_for(recordings, params.tier).name,
    }
    corpus_sha256 = sha256_file(CORPUS / "manifest.parquet")
    mark = fingerprint("train_vqvae", {"corpus": corpus_sha256}, settings)
    store = CheckpointStore(CHECKPOINTS / checkpoint_key(mark))
    with (
        catch_interruption() as interruption,
        tracked(tracking_root(), "train_vqvae", mark, {**settings, "recordings": recordings}) as tracker,
        ProgressReport("codec") as progress,
    ):
        callback = show_codec_progress(progress, tracker)
        training = train_vqvae(
            corpus, config, val_fraction, params.seed, fabric, store, callback, tracker.metrics, interruption
        )
        metrics = save_codec(VQVAE, corpus, training, config, corpus_sha256, mark, progress)
        tracker.artifact(VQVAE / "model.safetensors", "checkpoint")
        tracker.artifact(VQVAE / "config.json", "checkpoint")
        tracker.artifact(VQVAE / "previews", "previews")
    write_metrics("train_vqvae", metrics)
    store.clear()
    return {}


if __name__ == "__main__":
    run_stage("train_vqvae", main)
