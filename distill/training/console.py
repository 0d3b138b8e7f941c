"""Observers of a training for people: the console with the status files, and the callback of a caller."""

from collections.abc import Callable
from typing import Any

from distill.progress import ProgressReport
from distill.training.events import (
    Epoch,
    PriorEpochMetrics,
    RollbackEvent,
    Start,
    Step,
    TrainingResult,
    VQEpochMetrics,
    WatchMetrics,
)

Observer = Callable[[Any], object]
"""Function that gets every event of a training in order: each of `Trainer`, followed by those of its task."""


def public_events(callback: Callable[[Any], None] | None) -> tuple[Observer, ...]:
    """Observer that passes only the public events to `callback`; none without a callback."""
    if not callback:
        return ()

    def observe(event: object) -> None:
        if not isinstance(event, Start | Step | Epoch | TrainingResult):
            callback(event)

    return (observe,)


class ToConsole:
    """Observer that writes the progress line, rollbacks, remarks and the status files; a base class for each stage."""

    label = "training"

    def __init__(self, progress: ProgressReport) -> None:
        self.progress = progress
        self._done, self._total, self._text, self._probe = 0, 0, "", ""

    def __call__(self, event: object) -> None:
        """Handle an event: see `Observer`. The last step is shown together with the last epoch's metrics."""
        match event:
            case Start():
                self.progress.status.metrics(event.metrics, -1)
            case Step():
                self._done, self._total = event.step, event.total_steps
                self._text = self._text or f"loss {event.losses['train_loss']:.3f}"
                if self._done < self._total:
                    self._show()
            case Epoch():
                self._text = f"epoch {event.epoch + 1}: {self.epoch_text(event)}"
                self._show()
                self.progress.status.metrics(event.all_metrics, event.epoch)
            case VQEpochMetrics() | PriorEpochMetrics():
                self.progress.status.event(event)
            case WatchMetrics():
                self._probe = f"; probe {event.value:.3g} ({event.change:+.0%})"
            case RollbackEvent():
                self.progress.say(event.message)
            case TrainingResult():
                self.progress.status.kept(event.best_epoch - 1)
                for remark in event.remarks:  # the summary of the command prints them
                    self.progress.status.say(remark)

    def epoch_text(self, epoch: Epoch) -> str:
        """Describe an epoch in a few words."""
        return f"loss {epoch.metrics['train_loss']:.3f}, held out {epoch.metrics['val_loss']:.3f}"

    def _show(self) -> None:
        if self._total:
            self.progress(self._done, self._total, self._text + self._probe)
