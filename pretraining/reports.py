"""Progress of a pre-training: a line for each step, one that stays for each epoch."""

from collections.abc import Callable

from distill.progress import ProgressReport
from distill.training.task import Epoch, Step


def pretraining_reports(progress: ProgressReport) -> tuple[Callable[[Step], None], Callable[[Epoch], None]]:
    """What `Trainer` calls after a step and after an epoch."""

    def show_step(step: Step) -> None:
        progress(step.step, step.total_steps, f"loss {step.losses['train_loss']:.3f}")

    def show_epoch(epoch: Epoch) -> None:
        losses = f"loss {epoch.metrics['train_loss']:.3f}, held out {epoch.metrics['val_loss']:.3f}"
        progress.say(f"epoch {epoch.epoch + 1}: {losses}")

    return show_step, show_epoch
