"""Checkpoints on disk: tensors in safetensors, the rest as JSON in its header. No pickle, one file, one rename."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill.errors import ArtifactError
from distill.storage.files import canonical_json, remove_folder, write_bytes

KEPT = 5  # newest checkpoints of a run

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors, and the values of a training state that JSON can hold."""

    tensors: Tensors
    values: dict[str, Any]


class CheckpointStore:
    """Checkpoints of one training run, in a folder named by the fingerprint of its inputs and settings.

    `step-<number>` are the newest states to resume from, `best-<epoch>` holds the best weights so far: a separate file,
    so that it is written once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def below(self, name: str) -> "CheckpointStore":
        """A store for a part of the run, cleared with it."""
        return CheckpointStore(self.folder / name)

    def save(self, step: int, best_epoch: int, checkpoint: Checkpoint) -> None:
        """Write the state to resume from, atomically. Delete all but the newest few, and the other best epochs."""
        self._write(self._step(step), checkpoint)
        for path in self._steps()[:-KEPT]:
            path.unlink()
        for path in self.folder.glob("best-*.safetensors"):
            if path != self._best(best_epoch):
                path.unlink()

    def save_best(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Write the best weights, atomically; earlier ones stay until the next `save`."""
        self._write(self._best(epoch), checkpoint)

    def newest(self) -> Checkpoint | None:
        """Read the newest state to resume from, None if there is none. Raises ArtifactError when it is damaged."""
        steps = self._steps()
        return self._read(steps[-1]) if steps else None

    def best(self, epoch: int) -> Checkpoint:
        """Read the best weights. Raises ArtifactError when they are damaged or missing."""
        return self._read(self._best(epoch))

    def clear(self) -> None:
        """Delete the checkpoints of the run."""
        remove_folder(self.folder)

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))

    def _step(self, step: int) -> Path:
        return self.folder / f"step-{step:010d}.safetensors"

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch + 1:06d}.safetensors"

    def _write(self, path: Path, checkpoint: Checkpoint) -> None:
        tensors = {key: value.detach().cpu().contiguous() for key, value in checkpoint.tensors.items()}
        write_bytes(path, save(tensors, {"distill": canonical_json(checkpoint.values)}))

    def _read(self, path: Path) -> Checkpoint:
        try:
            with safe_open(path, framework="pt") as file:
                values = json.loads(file.metadata()["distill"])
                return Checkpoint({key: file.get_tensor(key) for key in file.keys()}, values)  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{path}: expected a checkpoint to resume from, found a damaged file ({error}); "
                f"delete {self.folder} to start this training again"
            ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """State of an optimiser (moments and step counters), flattened to `optimizer.<parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Load into an optimiser the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value.clone()  # the optimiser works in place
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
