"""Observers of a training: the console, MLflow, the files of `distill.status`, and a caller's own function."""

from collections.abc import Callable
from typing import Any, Protocol

from distill.progress import ProgressReport
from distill.status import Status
from distill.training.events import (
    Epoch,
    PriorEpochMetrics,
    PriorStepMetrics,
    RollbackEvent,
    Step,
    TrainingEnd,
    VQEpochMetrics,
    VQStepMetrics,
    WatchMetrics,
)
from distill.training.tracking import Tracker


class Observer(Protocol):
    """Gets every event of a training, in order: those of `Trainer`, each followed by those of its task."""

    def on_event(self, event: object) -> None:
        """Take an event; one of a kind that does not matter here is left out."""


class ToCallback:
    """A caller's function, which gets the public events."""

    def __init__(self, callback: Callable[[Any], None]) -> None:
        self.callback = callback

    def on_event(self, event: object) -> None:
        """See `Observer`."""
        if not isinstance(event, Step | Epoch | TrainingEnd):
            self.callback(event)


class ToConsole:
    """The progress line, rollbacks and remarks. A training that has more to say extends it."""

    def __init__(self, progress: ProgressReport) -> None:
        self.progress = progress
        self._done, self._total, self._text, self._probe = 0, 0, "", ""

    def on_event(self, event: object) -> None:
        """See `Observer`. The last step's line waits for the last epoch's metrics."""
        match event:
            case Step():
                self._done, self._total = event.step, event.total_steps
                self._text = self._text or f"loss {event.losses['train_loss']:.3f}"
                if self._done < self._total:
                    self._show()
            case Epoch():
                self._text = f"epoch {event.epoch + 1}: {self.epoch_text(event)}"
                self._show()
            case WatchMetrics():
                self._probe = f"; {event.text}"
            case RollbackEvent():
                self.progress.say(event.message)
            case TrainingEnd():
                for remark in event.remarks:
                    self.progress.say(remark)

    def epoch_text(self, epoch: Epoch) -> str:
        """An epoch in a few words."""
        return f"loss {epoch.metrics['train_loss']:.3f}, held out {epoch.metrics['val_loss']:.3f}"

    def _show(self) -> None:
        if self._total:
            self.progress(self._done, self._total, self._text + self._probe)


class ToMlflow:
    """An MLflow run: metrics by epoch, losses and probes by step as `step/...`, and the remarks at the end."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_event(self, event: object) -> None:
        """See `Observer`."""
        match event:
            case VQStepMetrics():
                losses = {"train_loss": event.train_loss, "recon_loss": event.recon_loss}
                self.tracker.step(losses, event.step)
            case PriorStepMetrics():
                self.tracker.step({"train_loss": event.train_loss}, event.overall_step)
            case Epoch():
                self.tracker.metrics(metrics_of(event), event.epoch)
            case VQEpochMetrics():
                self.tracker.metrics({"overfitting_gap": event.overfitting_gap}, event.epoch)
            case PriorEpochMetrics():
                self.tracker.metrics({"best_perplexity": event.best_perplexity}, event.epoch)
            case WatchMetrics():
                values = {event.figure: event.value, "change": event.change, "threshold": event.threshold}
                self.tracker.metrics({f"step/watch_{name}": value for name, value in values.items()}, event.step)
                self.tracker.metrics(event.inspected, event.step)
            case TrainingEnd():
                self.tracker.remarks(event.remarks)
                self.tracker.metrics(event.counts, 0)


class ToFiles:
    """The status files, which the page reads: the metrics of each epoch, and whether a prior memorises."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def on_event(self, event: object) -> None:
        """See `Observer`."""
        if isinstance(event, Epoch):
            self.status.metrics(metrics_of(event), event.epoch)
        elif isinstance(event, PriorEpochMetrics):
            self.status.event(event)


def metrics_of(epoch: Epoch) -> dict[str, float]:
    """The metrics of an epoch with its time and learning rate."""
    return {**epoch.metrics, "learning_rate": epoch.learning_rate, "epoch_time_s": epoch.epoch_time_s}
