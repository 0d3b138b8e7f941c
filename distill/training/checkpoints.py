"""Resume state on disk: tensors in safetensors, the rest as JSON in its header. No pickle, one file, one rename."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill.errors import ArtifactError
from distill.files import canonical_json, write_bytes

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors and the small values beside them."""

    tensors: Tensors
    values: dict[str, Any]


class CheckpointStore:
    """The resume state of one training run, in a folder named by the fingerprint of its inputs and settings.

    `last` is where to go on from; `best` holds the weights that win so far. They are separate files, so that the best
    ones are written once and survive whatever happens to the other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Write `<name>.safetensors` atomically."""
        tensors = {key: value.detach().cpu().contiguous() for key, value in checkpoint.tensors.items()}
        write_bytes(self._path(name), save(tensors, {"distill": canonical_json(checkpoint.values)}))

    def load(self, name: str) -> Checkpoint | None:
        """Read a checkpoint back, None if there is none. Raises ArtifactError when it is damaged."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                values = json.loads(file.metadata()["distill"])
                return Checkpoint({key: file.get_tensor(key) for key in file.keys()}, values)  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{path}: expected a checkpoint to go on from, found a damaged file ({error}); "
                f"delete {self.folder} to start this training again"
            ) from error

    def clear(self) -> None:
        """Forget the run: its result is safe elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The moments and step counters of an optimiser, flattened to `optimizer.<parameter>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
