"""Progress of a pre-training: a line for each step, one that stays for each epoch."""

from distill.training.console import ToConsole
from distill.training.events import Epoch


class PretrainingConsole(ToConsole):
    """The progress line, and a line for each epoch."""

    def __call__(self, event: object) -> None:
        """See `Observer`."""
        super().__call__(event)
        if isinstance(event, Epoch):
            self.progress.say(f"epoch {event.epoch + 1}: {self.epoch_text(event)}")
