"""Reports of codec training: progress line, use of the codebooks, artefact and metrics."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from distill.codec.artifact import CodecArtifact
from distill.codec.evaluation import fidelity_line
from distill.codec.previews import CodecPreviews
from distill.codec.task import utilization_warnings
from distill.codec.training import Callback, CodecTraining
from distill.params import VQVAEConfig
from distill.progress import HEALTH_TITLE, ProgressReport, health_line, health_table
from distill.storage.weights import weights_sha256
from distill.training.artifact import save_artifact
from distill.training.events import RollbackEvent, VQEpochMetrics, VQStepMetrics, WatchMetrics
from distill.training.tracking import Tracker
from distill.training.watch_report import WatchReport


def show_codec_progress(progress: ProgressReport, tracker: Tracker) -> Callback:
    """Make a callback that updates the progress line, shows codebook health each epoch and sends steps to MLflow.

    A level with low utilization is warned of once.
    """
    text, done, total = "", 0, 0
    warned: set[str] = set()
    watch = WatchReport(progress, tracker)

    def show(event: VQStepMetrics | VQEpochMetrics | WatchMetrics | RollbackEvent) -> None:
        nonlocal text, done, total
        if isinstance(event, WatchMetrics | RollbackEvent):
            watch.show(event)
            return
        if isinstance(event, VQStepMetrics):
            done, total = event.step, event.total_steps
            if done < total:  # the last step's line waits for the last epoch's figures
                progress(done, total, (text or f"loss {event.train_loss:.3f}") + watch.text)
            tracker.step({"train_loss": event.train_loss, "recon_loss": event.recon_loss}, event.step)
            return
        text = f"epoch {event.epoch + 1}: loss {event.train_loss:.3f}, held out {event.val_loss:.3f}"
        if progress.is_live:
            progress.show_below(health_table(event.codebook_health, f"{HEALTH_TITLE}, epoch {event.epoch + 1}"))
        else:
            text = f"{text}; {health_line(event.codebook_health)}"
        if total:
            progress(done, total, text + watch.text)
        for warning in event.utilization_warnings:
            level = warning.partition(":")[0]
            if level not in warned:
                warned.add(level)
                progress.say(f"warning: epoch {event.epoch + 1}: {warning}")

    return show


def print_codec(training: CodecTraining, figures: Mapping[str, float], console: Console) -> None:
    """Print the result of a training: losses, fidelity of `figures`, a row for each codebook, warnings."""
    result = training.result
    best, last = result.best_metrics, result.history[-1] if result.history else None
    if last is None:
        where = f"stopped within the first epoch, held out {best['val_loss']:.3f}"
    elif result.best_epoch < 0:
        where = f"no epoch of {len(result.history)} was better than the start, held out {best['val_loss']:.3f}"
    else:
        where = f"best epoch {result.best_epoch + 1} of {len(result.history)}, loss {best['train_loss']:.3f}, held out "
        where += f"{best['val_loss']:.3f}"
    end = "" if last is None else f"; at the end {last['train_loss']:.3f} and {last['val_loss']:.3f}"
    console.print(f"codec: {where}{end}", soft_wrap=True)
    if line := fidelity_line(figures):
        console.print(line, soft_wrap=True)
    console.print(health_table(training.codebook_health, f"{HEALTH_TITLE}, best epoch"))
    for warning in utilization_warnings(training.codebook_health, training.model.architecture.gain_shape):
        console.print(f"warning: {warning}", soft_wrap=True)


def save_codec(
    folder: Path,
    training: CodecTraining,
    config: VQVAEConfig,
    previews: CodecPreviews,
    recordings: int,
    split: tuple[int, float],
    corpus_sha256: str,
    fingerprint: str,
    tier: str,
) -> dict[str, float]:
    """Write the artefact `folder` with the previews and return the metrics that compare runs.

    `split` is the seed and the share of the held-out recordings.
    """
    result, best = training.result, training.result.best_metrics
    artifact = CodecArtifact(
        architecture=training.model.architecture,
        training=config,
        recordings=recordings,
        seed=split[0],
        val_fraction=split[1],
        best_epoch=result.best_epoch,
        epochs_trained=len(result.history),
        codebook_health=training.codebook_health,
        corpus_sha256=corpus_sha256,
        codec_sha256=weights_sha256(training.model),
        fingerprint=fingerprint,
        tier=tier,
    )
    save_artifact(
        folder,
        training.model,
        artifact,
        result.history,
        result.log,
        lambda temporary: previews.write(temporary / "previews"),
    )
    figures = {key: value for key, value in best.items() if key.startswith(("val_", "train_loss", "codebook/"))}
    return {**figures, **result.counts}
