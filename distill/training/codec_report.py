"""What people see of codec training: the progress line, the artefact with sounds to compare, the figures."""

from collections.abc import Callable
from pathlib import Path

import torch

from distill.audio.corpus import Corpus
from distill.audio.pictures import write_spectrograms
from distill.audio.writing import write_audio
from distill.console import ProgressReport
from distill.encoding import waveform
from distill.params import VQVAEConfig
from distill.training.artifacts import save_artifact
from distill.training.codec_artifact import CodecArtifact
from distill.training.events import VQEpochMetrics, VQStepMetrics
from distill.training.tracking import Tracker
from distill.training.vqvae import CodecTraining, utilization_warnings
from distill.weights import weights_sha256

PREVIEWS = 4
PREVIEW_SECONDS = 5.0


def show_codec_progress(progress: ProgressReport, tracker: Tracker) -> Callable[[VQStepMetrics | VQEpochMetrics], None]:
    """A callback that moves the progress line and sends every tenth step to MLflow."""
    text = ""

    def show(event: VQStepMetrics | VQEpochMetrics) -> None:
        nonlocal text
        if isinstance(event, VQStepMetrics):
            progress(event.step, event.total_steps, text or f"loss {event.train_loss:.3f}")
            tracker.step({"train_loss": event.train_loss, "recon_loss": event.recon_loss}, event.step)
            return
        used = " ".join(f"{values['utilization']:.0%}" for values in event.codebook_health.values())
        text = f"epoch {event.epoch + 1}: loss {event.train_loss:.3f}, held out {event.val_loss:.3f}, codewords used {used}"

    return show


def save_codec(
    folder: Path,
    corpus: Corpus,
    training: CodecTraining,
    config: VQVAEConfig,
    corpus_sha256: str,
    fingerprint: str,
    progress: ProgressReport,
) -> dict[str, float]:
    """Write `artifacts/vqvae` with previews of held-out recordings, and warn of codebooks little used there.

    Returns the figures that compare runs.
    """
    fit, best = training.fit, training.fit.history[training.fit.best_epoch]
    artifact = CodecArtifact(
        architecture=training.model.architecture,
        training=config,
        recordings=len(corpus.entries),
        best_epoch=fit.best_epoch,
        epochs_trained=len(fit.history),
        codebook_health=training.codebook_health,
        corpus_sha256=corpus_sha256,
        codec_sha256=weights_sha256(training.model),
        fingerprint=fingerprint,
    )
    for warning in utilization_warnings(training.codebook_health):
        progress.say(f"warning: {warning}")
    save_artifact(
        folder, training.model, artifact, fit.history, lambda target: _write_previews(target, corpus, training)
    )
    figures = {key: value for key, value in best.items() if key.startswith(("val_", "train_loss", "codebook/"))}
    counts = {"best_epoch": fit.best_epoch, "epochs_trained": len(fit.history), "skipped_steps": fit.skipped_steps}
    return {**figures, **counts}


def _write_previews(folder: Path, corpus: Corpus, training: CodecTraining) -> None:
    rate, step = corpus.sample_rate, max(1, len(training.held_out) // PREVIEWS)
    for number, entry in enumerate(training.held_out[::step][:PREVIEWS]):
        audio = waveform(corpus, entry, 0, min(entry.samples, int(PREVIEW_SECONDS * rate)))
        with torch.no_grad():
            again = training.model.decode(training.model.encode(audio[None]))[0, : len(audio)]
        name = f"preview_{number}"
        write_audio(folder / f"{name}_original.wav", audio.numpy(), rate)
        write_audio(folder / f"{name}_reconstruction.wav", again.numpy(), rate)
        pair = [(f"{entry.path}, held out", audio.numpy()), ("reconstruction from codes", again.numpy())]
        write_spectrograms(folder / f"{name}.png", pair, rate)
