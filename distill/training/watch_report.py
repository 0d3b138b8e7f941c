"""Report of probes and rollbacks while a training runs: on the console and in MLflow."""

from distill.progress import ProgressReport
from distill.training.events import RollbackEvent, WatchMetrics
from distill.training.tracking import Tracker


class WatchReport:
    """Report of probes and rollbacks. `text` has the last probe in a few words, for the progress line."""

    def __init__(self, progress: ProgressReport, tracker: Tracker) -> None:
        self.progress, self.tracker = progress, tracker
        self.text = ""

    def show(self, event: WatchMetrics | RollbackEvent) -> None:
        """Send a probe to MLflow as `step/watch_...`; say a rollback."""
        if isinstance(event, RollbackEvent):
            self.progress.say(event.message)
            return
        self.text = f"; {event.text}"
        values = {event.figure: event.value, "change": event.change, "threshold": event.threshold}
        self.tracker.metrics({f"step/watch_{name}": value for name, value in values.items()}, event.step)
