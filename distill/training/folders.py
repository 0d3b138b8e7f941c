"""Paths that a training run needs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolders:
    """Folder of the checkpoints, path of the stop file, and the folder below which MLflow's store lies.

    With `tracking_root` None there is a store only where MLFLOW_TRACKING_URI names one.
    """

    checkpoints: Path
    stop: Path
    tracking_root: Path | None = None
