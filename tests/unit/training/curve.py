"""Program for `torchrun`: train a prior or a codec and write its loss curve."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from unit.training.coded import config, data, recordings

from distill.audio.corpus import load_corpus
from distill.audio.ingest import ingest
from distill.audio.write import write_audio
from distill.codec.training import train_vqvae
from distill.errors import DistillError
from distill.execution import Execution
from distill.params import get_adaptive_vqvae_config
from distill.prior.training import fit_prior
from distill.training import PriorEpochMetrics, PriorStepMetrics, VQEpochMetrics, VQStepMetrics
from distill.training.checkpoints import CheckpointStore
from distill.training.distributed import make_fabric
from distill.training.run import Run
from distill.training.tracking import ToCallback


def prior_curve(folder: Path) -> dict[str, Any]:
    """Losses of every step and epoch of a prior, on 13 recordings in batches of 4, so that the last batch holds one.

    Of two processes the second then loses its checkpoints; `refused` is what both say.
    """
    found: dict[str, Any] = {"train": [], "val": []}

    def note(event: Any) -> None:
        if isinstance(event, PriorStepMetrics):
            found["train"].append(event.train_loss)
        elif isinstance(event, PriorEpochMetrics):
            found["val"].append(event.val_loss)

    fabric = make_fabric(Execution("cpu", "fp32"))
    arguments = (data(recordings(0, 13), recordings(1, 5)), config(epochs=5), 0)
    training = fit_prior(*arguments, Run(fabric, CheckpointStore(folder), (ToCallback(note),)))
    if fabric.world_size == 2:
        try:
            elsewhere = CheckpointStore(folder if fabric.global_rank == 0 else folder / "elsewhere")
            fit_prior(*arguments, Run(fabric, elsewhere))
        except DistillError as error:
            found["refused"] = str(error).split(": ", 1)[1]
    found["rank"] = [fabric.global_rank]
    found["weights"] = [float(value.abs().sum()) for value in training.result.best_tensors.values()]
    return found


def codec_curve(folder: Path) -> dict[str, Any]:
    """Losses of a codec on three tones, in batches of 5 crops, so that two processes have unequal shares."""
    found: dict[str, Any] = {"train": [], "val": []}

    def note(event: Any) -> None:
        if isinstance(event, VQStepMetrics):
            found["train"] += [event.train_loss, event.commit_loss]
        elif isinstance(event, VQEpochMetrics):
            found["val"].append(event.val_loss)

    fabric = make_fabric(Execution("cpu", "fp32"))
    folder_of_rank = folder / f"tones{fabric.global_rank}"
    for number in range(3):
        samples = np.sin(np.arange(16_000) * 0.05 * (number + 1)).astype(np.float32)[:, None] * 0.5
        write_audio(folder_of_rank / "in" / f"{number}.wav", samples, 16_000)
    ingest(folder_of_rank / "in", folder_of_rank / "out", 16_000, 0.0)
    config = get_adaptive_vqvae_config(
        3,
        **{"epochs": 3, "batch_size": 5, "codebook_size": 8, "num_quantizers": 3, "hidden_size": 32, "num_layers": 1},
        **{"latent_size": 16, "crop_seconds": 0.25, "dropout": 0.0},
    )
    training = train_vqvae(load_corpus(folder_of_rank / "out"), config, 0.3, 0, fabric, callback=note)
    found["rank"] = [fabric.global_rank]
    found["weights"] = [float(value.float().abs().sum()) for value in training.result.last_tensors.values()]
    return found


CURVES = {"prior": prior_curve, "codec": codec_curve}

if __name__ == "__main__":
    output = Path(sys.argv[2])
    result = CURVES[sys.argv[1]](output / "work")
    (output / f"rank{result['rank'][0]}.json").write_text(json.dumps(result))
