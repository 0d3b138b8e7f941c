"""Paths that a training run needs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from distill.status import VARIABLE
from distill.storage.files import FileIdentity, identity

STATE = Path(".distill")  # of work in progress, outside what DVC deletes and caches


@dataclass(frozen=True)
class RunFolders:
    """Folder of the checkpoints, path of the stop file, and the folder below which MLflow's store lies.

    With `tracking_root` None there is a store only where MLFLOW_TRACKING_URI names one. A training that finds the stop
    file ends with its best weights, unless it is `earlier`, the one that was there when the command began. Who watches a
    command (`distill.status`) removes an earlier one before it starts: what appears from then on is for this command.
    """

    checkpoints: Path
    stop: Path
    tracking_root: Path | None = None
    earlier: FileIdentity | None = None

    @classmethod
    def below(cls, state: Path, tracking_root: Path | None = None) -> Self:
        """The paths in a folder of work in progress."""
        stop = state / "stop"
        earlier = None if os.environ.get(VARIABLE) else identity(stop)
        return cls(state / "checkpoints", stop, tracking_root, earlier)
