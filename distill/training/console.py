"""Observers of a training for people: the console with the status files, and a caller's own function."""

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
"""Gets every event of a training, in order: each event of `Trainer`, followed by events of its task."""


def public_events(callback: Callable[[Any], None] | None) -> tuple[Observer, ...]:
    """Observer that gives a caller's function, where there is one, the public events alone."""
    if not callback:
        return ()
    return (
        lambda event: (
            None if isinstance(event, Start | Step | Epoch | TrainingResult) else callback(event)
        ),
    )


class ToConsole:
    """The progress line, rollbacks, remarks, and the status files. A training that has more to say extends it."""

    label = "training"

    def __init__(self, progress: ProgressReport) -> None:
        self.progress = progress
        self._done, self._total, self._text, self._probe = 0, 0, "", ""

    def __call__(self, event: object) -> None:
        """See `Observer`. The last step's line waits for the last epoch's metrics."""
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
                for remark in event.remarks:  # the summary at the end of a command has them, too
                    self.progress.status.say(remark)

    def epoch_text(self, epoch: Epoch) -> str:
        """An epoch in a few words."""
        return f"loss {epoch.metrics['train_loss']:.3f}, held out {epoch.metrics['val_loss']:.3f}"

    def _show(self) -> None:
        if self._total:
            self.progress(self._done, self._total, self._text + self._probe)
