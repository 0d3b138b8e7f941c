"""Report of prior training on the console."""

import math

from distill.prior.memory.task import DISTRACTORS, RETRIEVED
from distill.progress import ProgressReport
from distill.training.events import Epoch, PriorEpochMetrics, PriorMemoryMetrics, PriorTrainingCompleteEvent
from distill.training.observers import ToConsole


class PriorConsole(ToConsole):
    """The progress line, one warning when the prior memorises, and what probes of its memory find."""

    def __init__(self, progress: ProgressReport) -> None:
        super().__init__(progress)
        self._warned = False

    def on_event(self, event: object) -> None:
        """See `Observer`."""
        super().on_event(event)
        match event:
            case PriorEpochMetrics() if event.is_memorizing and not self._warned:
                self._warned = True
                self.progress.say(f"warning: {event.memorization_message}")
            case PriorMemoryMetrics() if event.probe and event.probe["ranked"] < RETRIEVED:
                self.progress.say(
                    f"warning: after {event.step} steps the memory retrieves {event.probe['ranked']:.0%} of motifs "
                    f"among {DISTRACTORS} distractors (ablated: {event.probe['ranked_ablated']:.0%})"
                )
            case PriorTrainingCompleteEvent():
                self.progress.say(
                    f"{event.epochs_trained} epochs, best held-out perplexity {event.best_perplexity:.1f}"
                )

    def epoch_text(self, epoch: Epoch) -> str:
        """An epoch in a few words."""
        loss, perplexity = epoch.metrics["train_loss"], epoch.metrics["val_perplexity"]
        return f"loss {loss:.3f}, held-out perplexity {perplexity:.1f} (best {math.exp(epoch.best_loss):.1f})"
