"""Artefact of a training stage on disk: weights, their configuration and the history of the training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from torch import nn

from distill.errors import ArtifactError
from distill.params import Settings, first_problem
from distill.storage.files import atomic_folder, read_json, write_json
from distill.storage.tables import read_frame, write_history
from distill.storage.weights import save_weights

MAX_CURVE_POINTS = 1000
CURVES = (
    *("train_loss", "val_loss"),
    *("train_recon_loss", "val_recon_loss", "train_commit_loss", "val_commit_loss"),  # of the codec
)
WEIGHTS = "model.safetensors"

C = TypeVar("C", bound=Settings)


def save_artifact(
    folder: Path,
    model: nn.Module,
    config: Settings,
    history: Sequence[Mapping[str, float]],
    write_more: Callable[[Path], None] | None = None,
) -> None:
    """Write `model.safetensors`, `config.json`, `history.parquet`, `history.csv` (for plots).

    `write_more` writes further files. The folder appears whole or not at all.
    """
    with atomic_folder(folder) as temporary:
        save_weights(temporary / WEIGHTS, model)
        write_json(temporary / "config.json", config.model_dump(mode="json"))
        write_history(temporary, history)
        if write_more is not None:
            write_more(temporary)


def load_config(folder: Path, kind: type[C]) -> C:
    """Read a folder's `config.json`. Raises ArtifactError."""
    path = folder / "config.json"
    try:
        return kind.model_validate(read_json(path, "the settings of a trained model"))
    except ValidationError as error:
        raise ArtifactError(
            f"{path}: expected valid settings, found {first_problem(error)}; run `dvc repro` again"
        ) from error


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
