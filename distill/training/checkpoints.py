"""Files of a training: checkpoints to resume from, and the artefact that it ends with."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.errors import ArtifactError
from distill.params import Settings, first_problem
from distill.storage.files import (
    atomic_folder,
    damaged,
    read_json,
    remove_folder,
    write_bytes,
    write_json,
)
from distill.storage.tables import read_frame, write_history
from distill.storage.weights import save_weights, tensors_sha256

WEIGHTS = "model.safetensors"
DAMAGES = (OSError, SafetensorError, KeyError, TypeError, ValueError)  # raised by damaged files
CURVES = (
    "train_loss",
    "val_loss",
    "ablated/val_loss",
    "train_recon_loss",
    "val_recon_loss",
    "train_commit_loss",
    "val_commit_loss",
)

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=Settings)


class CheckpointStore:
    """Checkpoints of a training, in a folder named by the fingerprint of its inputs and settings.

    Each checkpoint is one complete safetensors file, without pickle: tensors, among them the best weights so far, and
    JSON values in the header. Training resumes from the newest; to go back to an earlier checkpoint, delete the newer
    files. `keep` and `kept` store other slow work of the training in the same folder, by name and in the same format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def paths(self) -> list[Path]:
        """Checkpoint files, the oldest first."""
        return sorted(self.folder.glob("step_*.safetensors"))

    def save(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Write the checkpoint of step `values["step"]` atomically, and delete all but the newest five."""
        self.keep(f"step_{values['step']:09d}", tensors, values)
        for path in self.paths[:-5]:
            path.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read tensors and values of the newest intact checkpoint; both are empty if there are no checkpoints.

        Damaged files are named in a warning and deleted. Raises ArtifactError if all are damaged.
        """
        problems: dict[Path, Exception] = {}
        for path in reversed(self.paths):
            try:
                tensors, values = _read(path)
            except DAMAGES as error:
                problems[path] = error
            else:
                _delete(problems, values["step"])
                return tensors, values
        if problems:
            newest, problem = next(iter(problems.items()))
            raise ArtifactError(
                f"{newest}: expected a checkpoint to resume from, found a damaged file ({problem}), as are all before "
                f"it; delete {self.folder} to start this training again"
            ) from problem
        return {}, {}

    def keep(self, name: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Write tensors and JSON values to the file `name`, atomically."""
        on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        header = {"distill": json.dumps(values), "sha256": tensors_sha256(on_cpu)}
        write_bytes(self.folder / f"{name}.safetensors", save(on_cpu, header))

    def kept(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read what `keep` wrote; both are empty without a file. A damaged file is deleted with a warning."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return {}, {}
        try:
            return _read(path)
        except DAMAGES as error:
            logger.warning(
                "%s: expected earlier work, found a damaged file (%s); it is done again",
                path,
                error,
            )
            path.unlink(missing_ok=True)
            return {}, {}

    def clear(self) -> None:
        """Delete the folder with all that it holds."""
        remove_folder(self.folder)


class NoCheckpoints(CheckpointStore):
    """Store of a training that keeps no checkpoints."""

    def keep(self, name: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def kept(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:  # noqa: ARG002
        """Return nothing kept."""
        return {}, {}

    def clear(self) -> None:
        """Delete nothing."""

    @property
    def paths(self) -> list[Path]:
        """No files."""
        return []


NO_CHECKPOINTS = NoCheckpoints(Path())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and values of a file that `keep` wrote. Raises one of `DAMAGES`."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        values = json.loads(header["distill"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if tensors_sha256(tensors) != header["sha256"]:
        raise ValueError("its contents are not those that were written")
    return tensors, values


def _delete(damaged_files: Mapping[Path, Exception], step: int) -> None:
    for path, problem in damaged_files.items():
        logger.warning(
            "%s: expected a checkpoint to resume from, found a damaged file (%s); it is deleted, and training goes on "
            "from the one before, after %s steps",
            *(path, problem, step),
        )
        path.unlink(missing_ok=True)


def save_artifact(
    folder: Path,
    model: nn.Module,
    config: Settings,
    history: Sequence[Mapping[str, float]],
    write_more: Callable[[Path], None] = lambda _: None,
) -> None:
    """Write an artefact: `model.safetensors`, `config.json`, `history.parquet`, and `history.csv` for plots.

    `write_more` adds files to the folder, which is written whole or not at all.
    """
    with atomic_folder(folder) as temporary:
        save_weights(temporary / WEIGHTS, model)
        write_json(temporary / "config.json", config.model_dump(mode="json"))
        write_history(temporary, history)
        write_more(temporary)


def is_artifact(folder: Path, config: Settings) -> bool:
    """Whether `folder` is the artefact with this `config.json`; artefacts are written whole or not at all."""
    return folder.exists() and read_json(
        folder / "config.json", "the settings of a model"
    ) == config.model_dump(mode="json")


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
    trained = frame[frame["epoch"] > 0]  # the initial weights have no loss on training data
    return curves_of(
        [
            {str(key): float(value) for key, value in row.items()}
            for row in trained.to_dict("records")
        ],
        name,
    )


def curves_of(history: Sequence[Mapping[str, float]], name: str) -> dict[str, list[float]]:
    """Loss curves `<name>/<loss>` of at most 1000 points, for the losses in `CURVES` that every row has."""
    rows = history[:: max(1, -(-len(history) // 1000))]
    return {
        f"{name}/{loss}": [row[loss] for row in rows]
        for loss in CURVES
        if rows and all(loss in row for row in rows)
    }
