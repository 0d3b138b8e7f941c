"""Where trainings keep what they need while they run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolders:
    """Where a run keeps its checkpoints, which file asks it to stop, and below which folder MLflow's store lies.

    Without a `tracking_root` only MLFLOW_TRACKING_URI decides whether there is a store.
    """

    checkpoints: Path
    stop: Path
    tracking_root: Path | None = None
