"""Reports of codec training on the console: use of the codebooks each epoch, and the result."""

from typing import TYPE_CHECKING

from rich.console import Console

from distill.codec.evaluation import fidelity_line
from distill.codec.task import health_from_metrics
from distill.progress import HEALTH_TITLE, ProgressReport, health_line, health_table
from distill.training.events import Epoch, VQEpochMetrics
from distill.training.observers import ToConsole

if TYPE_CHECKING:
    from distill.codec.training import CodecTraining


class CodecConsole(ToConsole):
    """The progress line with codebook health; a level with low utilisation is warned of once."""

    def __init__(self, progress: ProgressReport) -> None:
        super().__init__(progress)
        self._warned: set[str] = set()

    def on_event(self, event: object) -> None:
        """See `Observer`."""
        if isinstance(event, Epoch) and self.progress.is_live:
            health = health_from_metrics(event.metrics)
            self.progress.show_below(health_table(health, f"{HEALTH_TITLE}, epoch {event.epoch + 1}"))
        super().on_event(event)
        if isinstance(event, VQEpochMetrics):
            for warning in event.utilization_warnings:
                level = warning.partition(":")[0]
                if level not in self._warned:
                    self._warned.add(level)
                    self.progress.say(f"warning: epoch {event.epoch + 1}: {warning}")

    def epoch_text(self, epoch: Epoch) -> str:
        """An epoch in a few words, with codebook health where no table shows it."""
        text = super().epoch_text(epoch)
        return text if self.progress.is_live else f"{text}; {health_line(health_from_metrics(epoch.metrics))}"


def print_codec(training: "CodecTraining", console: Console) -> None:
    """Print the result of a training: losses, fidelity, a row for each codebook, warnings."""
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
    if line := fidelity_line(training.metrics):
        console.print(line, soft_wrap=True)
    console.print(health_table(training.codebook_health, f"{HEALTH_TITLE}, best epoch"))
    for warning in training.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
