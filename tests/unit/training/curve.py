"""Run by `torchrun`: train a prior and write down its loss curve."""

import json
import sys
from pathlib import Path
from typing import Any

from unit.training.coded import config, data, recordings

from distill.execution import Execution
from distill.training import PriorEpochMetrics, PriorStepMetrics
from distill.training.checkpoints import CheckpointStore
from distill.training.fabric import make_fabric
from distill.training.prior import fit_prior


def curve(folder: Path) -> dict[str, list[float]]:
    """Losses of every step and epoch of 13 recordings, 4 at a time, so that the last batch holds one."""
    found: dict[str, list[float]] = {"train": [], "val": []}

    def note(event: Any) -> None:
        if isinstance(event, PriorStepMetrics):
            found["train"].append(event.train_loss)
        elif isinstance(event, PriorEpochMetrics):
            found["val"].append(event.val_loss)

    fabric = make_fabric(Execution("cpu", "fp32"))
    training = fit_prior(
        data(recordings(0, 13), recordings(1, 5)), config(epochs=5), 0, fabric, CheckpointStore(folder), note
    )
    found["rank"] = [fabric.global_rank]
    found["weights"] = [float(value.abs().sum()) for value in training.fit.best_tensors.values()]
    return found


if __name__ == "__main__":
    output = Path(sys.argv[1])
    result = curve(output / "checkpoints")
    (output / f"rank{result['rank'][0]}.json").write_text(json.dumps(result))
