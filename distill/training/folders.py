"""Paths that a training run needs."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

STATE = Path(".distill")  # of work in progress, outside what DVC deletes and caches


@dataclass(frozen=True)
class RunFolders:
    """Folder of the checkpoints, path of the stop file, and the folder below which MLflow's store lies.

    With `tracking_root` None there is a store only where MLFLOW_TRACKING_URI names one. A training that finds the stop
    file ends with its best weights, unless the file is older than `begun`, when the command began (seconds since 1970).
    """

    checkpoints: Path
    stop: Path
    tracking_root: Path | None = None
    begun: float = field(default_factory=time.time)

    @classmethod
    def below(cls, state: Path, tracking_root: Path | None = None) -> Self:
        """The paths in a folder of work in progress."""
        return cls(state / "checkpoints", state / "stop", tracking_root)
