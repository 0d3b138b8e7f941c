"""Program for one or several processes: train a prior or a codec and write its loss curve."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from distill.audio.corpus import load_corpus
from distill.audio.ingest import ingest
from distill.codec.training import train_vqvae
from distill.errors import DistillError
from distill.execution import Execution
from distill.params import get_adaptive_vqvae_config
from distill.prior.training import fit_prior
from distill.training import PriorEpochMetrics, PriorStepMetrics, VQEpochMetrics, VQStepMetrics
from distill.training.checkpoints import CheckpointStore
from distill.training.distributed import make_fabric
from distill.training.run import Run
from unit.tiny import write_tone
from unit.training.coded import config, data, recordings
from unit.training.line import Seen


@patch("distill.codec.initialise.VIEWS", 2)
def curve(what: str, folder: Path) -> dict[str, Any]:
    """Losses of every step and epoch: of a prior on 13 recordings in batches of 4, so that the last batch holds one; of
    a codec on three tones, in batches of 5 crops, so that two processes have unequal shares.

    `refused` is what two processes say: of a prior, where the second has lost its checkpoints; of a codec, to one crop.
    """
    fabric, seen, found = make_fabric(Execution("cpu", "fp32")), Seen(), dict[str, Any]()
    if what == "prior":
        arguments = (data(recordings(0, 13), recordings(1, 5)), config(epochs=2), 0)
        result = fit_prior(*arguments, Run(fabric, CheckpointStore(folder), (seen,))).result
        elsewhere = CheckpointStore(folder if fabric.global_rank == 0 else folder / "elsewhere")
        again: Callable[[], object] = partial(fit_prior, *arguments, Run(fabric, elsewhere))
    else:
        tones = folder / f"tones{fabric.global_rank}"
        for number in range(3):
            write_tone(tones / "in" / f"{number}.wav", 1.2, pitch=130.0 * (number + 1))
        ingest(tones / "in", tones / "out", 16_000, 0.0)
        corpus, sizes = load_corpus(tones / "out"), {"codebook_size": 8, "num_quantizers": 6, "hidden_size": 32}
        settings: dict[str, Any] = {**sizes, "epochs": 2, "batch_size": 5, "latent_size": 16}
        settings |= {"num_layers": 1, "crop_seconds": 0.25, "dropout": 0.0}
        vqvae = get_adaptive_vqvae_config(3, **settings)
        result = train_vqvae(corpus, vqvae, 0.3, 0, fabric, callback=seen).result
        one = vqvae.model_copy(update={"batch_size": 1})
        again = partial(train_vqvae, corpus, one, 0.3, 0, fabric)
    if fabric.world_size == 2:
        try:
            again()
        except DistillError as error:
            found["refused"] = str(error).split(": ", 1)[1]
    steps = seen.of(VQStepMetrics)
    found["train"] = [event.train_loss for event in steps or seen.of(PriorStepMetrics)]
    found["train"] += [event.commit_loss for event in steps]
    found["val"] = [event.val_loss for kind in (VQEpochMetrics, PriorEpochMetrics) for event in seen.of(kind)]
    found["weights"] = [float(value.float().abs().sum()) for value in result.last_tensors.values()]
    found["rank"] = [fabric.global_rank]
    return found


if __name__ == "__main__":
    output = Path(sys.argv[2])
    made = curve(sys.argv[1], output / "work")
    (output / f"rank{made['rank'][0]}.json").write_text(json.dumps(made))
