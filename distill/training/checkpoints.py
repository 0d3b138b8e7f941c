"""What a training writes: a checkpoint to resume from, and in the end its artefact."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.errors import ArtifactError
from distill.params import Settings, first_problem
from distill.storage.files import atomic_folder, damaged, read_json, remove_folder, write_bytes, write_json
from distill.storage.tables import read_frame, write_history
from distill.storage.weights import save_weights

MAX_CURVE_POINTS = 1000
CURVES = (
    *("train_loss", "val_loss"),
    *("train_recon_loss", "val_recon_loss", "train_commit_loss", "val_commit_loss"),  # of the codec
)
WEIGHTS = "model.safetensors"

C = TypeVar("C", bound=Settings)


class CheckpointStore:
    """The newest checkpoint of a training run, in a folder named by the fingerprint of its inputs and settings.

    One safetensors file with tensors, and what JSON can hold in its header; no pickle.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "training.safetensors"

    def save(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Write a checkpoint in place of the last one, atomically."""
        on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        write_bytes(self.path, save(on_cpu, {"distill": json.dumps(values)}))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and values of the checkpoint, None where there is none. Raises ArtifactError when it is damaged."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                values = json.loads(file.metadata()["distill"])
                return {key: file.get_tensor(key) for key in file.keys()}, values  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{self.path}: expected a checkpoint to resume from, found a damaged file ({error}); "
                f"delete {self.folder} to start this training again"
            ) from error

    def clear(self) -> None:
        """Delete the checkpoints of the run."""
        remove_folder(self.folder)


def save_artifact(
    folder: Path,
    model: nn.Module,
    config: Settings,
    history: Sequence[Mapping[str, float]],
    write_more: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write `model.safetensors`, `config.json`, `history.parquet`, `history.csv` (for plots).

    `write_more` writes further files. The folder appears whole or not at all.
    """
    with atomic_folder(folder) as temporary:
        save_weights(temporary / WEIGHTS, model)
        write_json(temporary / "config.json", config.model_dump(mode="json"))
        write_history(temporary, history)
        write_more(temporary)


def load_config(folder: Path, kind: type[C]) -> C:
    """Read the `config.json` of an artefact. Raises ArtifactError."""
    path = folder / "config.json"
    try:
        return kind.model_validate(read_json(path, "the settings of a trained model"))
    except ValidationError as error:
        raise damaged(path, "valid settings", first_problem(error)) from error


def loss_curves(folder: Path, name: str) -> dict[str, list[float]]:
    """Read the loss curves of an artefact: see `curves_of`. Raises ArtifactError."""
    frame = read_frame(folder / "history.parquet", "the history of a training")
    return curves_of([{str(key): float(value) for key, value in row.items()} for row in frame.to_dict("records")], name)


def curves_of(history: Sequence[Mapping[str, float]], name: str) -> dict[str, list[float]]:
    """Losses by epoch that every row of a history has, as `<name>/<loss>`; at most 1000 points each."""
    rows = history[:: max(1, -(-len(history) // MAX_CURVE_POINTS))]
    return {
        f"{name}/{loss}": [row[loss] for row in rows] for loss in CURVES if rows and all(loss in row for row in rows)
    }
