"""Reports of prior training: progress line, warnings, artefact, metrics."""

from pathlib import Path

from distill.params import PriorConfig
from distill.prior.artifact import PriorArtifact, save_reference
from distill.prior.data import PriorData
from distill.prior.memory.probes import DISTRACTORS, RETRIEVED
from distill.prior.training import Callback, PriorEvent, PriorTraining
from distill.progress import ProgressReport
from distill.training.artifact import save_artifact
from distill.training.events import PriorEpochMetrics, PriorMemoryMetrics, PriorStepMetrics, RollbackEvent, WatchMetrics
from distill.training.tracking import Tracker
from distill.training.watch_report import WatchReport


def show_prior_progress(progress: ProgressReport, tracker: Tracker) -> Callback:
    """Callback for the progress line, step metrics of the tracker, and one warning when the prior memorises."""
    text, warned = "", False
    watch = WatchReport(progress, tracker)

    def show(event: PriorEvent) -> None:
        nonlocal text, warned
        if isinstance(event, WatchMetrics | RollbackEvent):
            watch.show(event)
        elif isinstance(event, PriorStepMetrics):
            shown = (text or f"loss {event.train_loss:.3f}") + watch.text
            progress(event.overall_step, event.overall_total_steps, shown)
            tracker.step({"train_loss": event.train_loss}, event.overall_step)
        elif isinstance(event, PriorMemoryMetrics):
            if event.probe and event.probe["ranked"] < RETRIEVED:
                progress.say(
                    f"warning: after {event.step} steps the memory retrieves {event.probe['ranked']:.0%} of motifs "
                    f"among {DISTRACTORS} distractors (ablated: {event.probe['ranked_ablated']:.0%})"
                )
        elif isinstance(event, PriorEpochMetrics):
            progress.status.event(event)
            text = (
                f"epoch {event.epoch + 1}: loss {event.train_loss:.3f}, held-out perplexity {event.val_perplexity:.1f} "
                f"(best {event.best_perplexity:.1f})"
            )
            if event.is_memorizing and not warned:
                warned = True
                progress.say(f"warning: {event.memorization_message}")
        else:
            progress.say(f"{event.epochs_trained} epochs, best held-out perplexity {event.best_perplexity:.1f}")

    return show


def prior_artifact(
    training: PriorTraining, config: PriorConfig, data: PriorData, fingerprint: str = ""
) -> PriorArtifact:
    """The facts of a trained prior, which an artefact and a model file keep."""
    result = training.result
    return PriorArtifact(
        shape=training.shape,
        training=config,
        recordings=data.recordings,
        best_epoch=result.best_epoch,
        epochs_trained=len(result.history),
        final_perplexity=training.complete.final_perplexity,
        best_perplexity=training.complete.best_perplexity,
        val_bits_per_second=result.best_metrics["val_bits_per_second"],
        codec_sha256=data.codes.codec_sha256,
        fingerprint=fingerprint,
        memorization=training.memorization,
    )


def save_prior(
    folder: Path, training: PriorTraining, config: PriorConfig, data: PriorData, fingerprint: str
) -> dict[str, float]:
    """Write `artifacts/prior`. Returns the metrics that compare runs."""
    result, best = training.result, training.result.best_metrics
    save_artifact(
        folder,
        training.model,
        prior_artifact(training, config, data, fingerprint),
        result.history,
        result.log,
        lambda path: save_reference(path, data.reference()),
    )
    metrics = {key: value for key, value in best.items() if key not in ("epoch", "learning_rate", "gradient_norm")}
    if result.start_metrics:
        metrics["val_bits_per_second_start"] = result.start_metrics["val_bits_per_second"]
    return {**metrics, **result.counts, "is_memorizing": float(training.complete.was_memorizing)}
