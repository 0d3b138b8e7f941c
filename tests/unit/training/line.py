"""A task small enough to train in milliseconds, and what tests of the trainer share."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from distill.execution import Execution
from distill.seeds import derive_seed
from distill.training.checkpoints import NO_CHECKPOINTS, CheckpointStore
from distill.training.distributed import make_fabric
from distill.training.events import Step, TrainingResult
from distill.training.interruption import Interruption
from distill.training.run import Run
from distill.training.task import Task, TrainerSettings
from distill.training.trainer import Trainer

FABRIC = make_fabric(Execution("cpu", "fp32"))
STEADY = [2.0] * 99  # figures of probes without a spike


class LineTask(Task[Tensor]):
    """Fits a line with dropout, so that a lost random state shows; the losses of some calls are poisoned.

    Figures of probes and held-out losses are the next of `probes` and `held_out`, where these are given.
    """

    def __init__(
        self,
        poison: frozenset[int] = frozenset(),
        probes: list[float] | None = None,
        held_out: list[float] | None = None,
        steps: int = 4,
    ) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.steps_per_epoch = steps
        self.poison, self.count = poison, 0
        self.probes = None if probes is None else [*probes]
        self.held_out = None if held_out is None else [*held_out]

    def batches(self, epoch: int, skip: int) -> Iterator[Tensor]:
        for step in range(skip, self.steps_per_epoch):
            yield torch.randn(5, 3, generator=torch.Generator().manual_seed(derive_seed(epoch, step)))

    def losses(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        self.count += 1
        loss = (model(batch)[:, 0] - batch.sum(dim=1)).square().mean()
        return {"train_loss": loss * torch.nan if self.count in self.poison else loss}

    def probe(self) -> float | None:
        return 1 + self.validate()["val_loss"] if self.probes is None else self.probes.pop(0)

    def validate(self) -> dict[str, float]:
        if self.held_out is not None:
            return {"val_loss": self.held_out.pop(0)}
        with torch.no_grad():
            return {"val_loss": float((self.model(torch.ones(1, 3)) - 3).abs())}


def settings(**changes: Any) -> TrainerSettings:
    values = {"epochs": 6, "learning_rate": 0.05, "weight_decay": 0.01, "betas": (0.9, 0.99), "gradient_clip": 1.0}
    return TrainerSettings(**{**values, "warmup_steps": 2, "patience": 0, "seed": 7, "average": 0.9, **changes})


class Seen:
    """Observer that keeps all events, and calls `then` with each."""

    def __init__(self, then: Callable[[Any], object] = lambda _: None) -> None:
        self.all: list[Any] = []
        self.then = then

    def __call__(self, event: object) -> None:
        self.all.append(event)
        self.then(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.all if isinstance(event, kind)]

    @property
    def rates(self) -> list[float]:
        return [event.learning_rate for event in self.of(Step)]


def trainer(
    task: Task[Tensor],
    seen: Seen | None = None,
    store: CheckpointStore = NO_CHECKPOINTS,
    interruption: Interruption | None = None,
    cancel: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> Trainer[Tensor]:
    run = Run(FABRIC, store, () if seen is None else (seen,), interruption or Interruption(), cancel)
    return Trainer(task, settings(**changes), run)


def train(task: Task[Tensor], *given: Any, **changes: Any) -> TrainingResult:
    return trainer(task, *given, **changes).run()


def at_step(number: int, act: Callable[[], None]) -> Seen:
    """Observer that acts after a step."""
    return Seen(lambda event: act() if isinstance(event, Step) and event.step == number else None)


def kill() -> None:
    raise MemoryError("killed")


def interrupted_at(number: int) -> tuple[Seen, Interruption]:
    """An observer, and the Ctrl-C that comes during a step."""
    interruption = Interruption()
    return at_step(number, lambda: setattr(interruption, "signal", signal.SIGINT)), interruption


def whole(result: TrainingResult) -> tuple[Any, ...]:
    """All of a result that a resumed training must have, too."""
    tensors = [*sorted(result.best_tensors.items()), *sorted(result.last_tensors.items())]
    rows = [list(row.items()) for row in result.history]
    return [value.flatten().tolist() for _, value in tensors], rows, result.counts, result.remarks, result.best_metrics


def tensors_of(one: Trainer[Tensor]) -> dict[str, Tensor]:
    """Copy of what the next step depends on."""
    return {key: value.detach().clone() for key, value in one.optimizer_step.tensors().items()}
