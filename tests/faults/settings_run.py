"""Settings that are allowed, and run: `python -m faults.settings_run FOLDER N` trains tiny models with N of them.

Each training changes some settings of a tiny one to values anywhere in their ranges, edges included, and then generates
with such values, too. It ends, and what it makes is finite, or it is refused with a sentence.
"""

import contextlib
import io
import json
import random
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults.programs import defect
from pipeline.project import TINY, write_sounds

import distill
from distill.errors import for_the_user
from distill.execution import Execution
from distill.params import Params
from distill.pipeline.train import train_model

SLOW = 20.0  # seconds of a training, of which the settings are printed
MEMORY = 16 << 30  # bytes of address space; PyTorch takes 5 GB of it before it does anything
SHARES = (0.0, 1e-9, 0.1, 0.5, 0.99, 1.0)
FRACTIONS = (1e-9, 0.01, 0.5, 0.9, 0.999999)
COUNTS = (1, 2, 3, 7, 10**6, 10**18)
RATES = (1e-30, 1e-9, 1e-4, 0.01, 0.3, 1.0)
FLAGS = (True, False)
# Of settings that say how long it takes, the values that take seconds.
RANGES: dict[str, dict[str, tuple[Any, ...]]] = {
    "corpus": {
        "sample_rate": ("auto", 8_000, 11_025, 24_000, 96_000),
        "labels": ("none", "folder"),
        "max_rejected": SHARES,
    },
    "vqvae": {
        "quality": ("small", "standard", "high"),
        "codebook_size": ("auto", 2, 3, 16, 300, 2048),
        "num_quantizers": ("auto", 1, 2, 5, 16),
        "quantizer": ("overlapping", "residual"),
        "epochs": (1, 2, 3),
        "learning_rate": ("auto", *RATES),
        "dropout": ("auto", 0.0, 0.5, 0.999),
        "ema_decay": ("auto", *FRACTIONS),
        "commitment_weight": (0.0, 1e-9, 0.25, 100.0),
        "batch_size": COUNTS,
        "crop_seconds": (0.1, 0.25, 0.68, 3.3, 60.0),
        "hidden_size": (8, 9, 16, 33),
        "num_layers": (1, 2, 5),
        "latent_size": (2, 3, 8, 65, 128, 1024),
        "weight_decay": SHARES,
        "gradient_clip": (1e-30, 0.1, 5.0, 1e300),
        "encoder_rate": SHARES,
        "patience": (0, 1, 5, 10**18),
        "budget_minutes": ("auto", 0.0, 1e-9, 0.01, 100_000.0),
    },
    "split": {"val_fraction": ("auto", *FRACTIONS)},
    "codes": {"views": ("auto", 1, 2, 7)},
    "prior": {
        "architecture": ("frame", "memory", "flat"),
        "hidden_size": (8, 16, 48),
        "num_layers": (1, 2, 5),
        "num_heads": (1, 2, 3, 8),
        "depth_layers": (0, 1, 2, 5),
        "geometry": FLAGS,
        "pretrained": FLAGS,
        "count_experts": FLAGS,
        "dropout": ("auto", 0.0, 0.5, 0.999),
        "label_smoothing": ("auto", *SHARES),
        "label_dropout": SHARES,
        "history_dropout": ("auto", 0.0, 0.1, 0.5),
        "weight_averaging": (0.0, 0.5, 0.999, 0.9999999),
        "epochs": (1, 2, 3),
        "learning_rate": ("auto", *RATES),
        "batch_size": ("auto", *COUNTS),
        "context_seconds": (0.1, 0.3, 4.0, 20.0, 600.0),
        "weight_decay": SHARES,
        "gradient_clip": (1e-30, 0.1, 5.0, 1e300),
        "warmup_steps": (0, 1, 20, 10**18),
        "patience": ("auto", 0, 1, 10**18),
        "budget_minutes": ("auto", 0.0, 1e-9, 0.01, 100_000.0),
        "folds": (0, 1, 2),
    },
    "memory": {
        "span_seconds": (0.1, 1.0, 87.4, 7200.0),
        "shard_length": (8, 64, 2048, 1 << 20),
        "chunk_size": (1, 7, 64, 4096),
        "key_size": (1, 3, 32, 256),
        "polarisation": (0.0, 0.01, 100.0),
        "polarisation_warmup": SHARES,
        "motif_share": SHARES,
        "fast_fail": FLAGS,
    },
}
SAMPLING: dict[str, tuple[Any, ...]] = {
    "temperature": (0.01, 0.5, 1.0, 10.0),
    "top_k": (0, 1, 2, 10**18),
    "top_p": (0.001, 0.5, 1.0),
    "seconds": (None, 0.01, 0.3, 1.0),
    "seed": (0, 1, 2**63 - 1),
}


def drawn(draw: random.Random) -> dict[str, Any]:
    """Settings of a tiny training, of which some are changed."""
    sections: dict[str, Any] = {name: dict(values) for name, values in TINY.items()}
    memory: dict[str, Any] = {}
    for _ in range(draw.choice((1, 2, 3, 5, 9, 15))):
        name = draw.choice(("corpus", "split", "codes", "memory", *["vqvae"] * 6, *["prior"] * 7))
        key = draw.choice(sorted(RANGES[name]))
        section = memory if name == "memory" else sections.setdefault(name, {})
        section[key] = draw.choice(RANGES[name][key])
    if memory:
        sections["prior"] |= {"architecture": "memory", "memory": memory}
    sections["corpus"] = {"path": "unused", **sections.get("corpus", {})}
    return {
        **sections,
        "seed": draw.choice((0, 7, 2**32 - 1)),
        "bundle": {"name": "a", "reference": draw.random() < 0.8},
    }


def used(folder: Path, values: dict[str, Any], draw: random.Random) -> str:
    """Train with settings and generate with the model; what is wrong with its sounds, "" where nothing is."""
    path = folder / "a.distill"
    with contextlib.redirect_stderr(io.StringIO()):
        train_model(
            folder / "sounds", path, Params.model_validate(values), Execution("cpu", "fp32", 1), True, folder / "state"
        )
        model = distill.load(path)
        sampling = {key: draw.choice(choices) for key, choices in SAMPLING.items()}
        made = model.generate(n=2, guidance=draw.choice((0.0, 1.0, 2.0, 20.0)) if model.labels else None, **sampling)
    if not all(np.isfinite(sound).all() for sound in made.sounds):
        return "NaN or infinite samples"
    return "" if len(made.sounds) == 2 else f"{len(made.sounds)} sounds"


def main(folder: Path, count: int, seed: int) -> None:
    """Train with as many settings and print the counts of outcomes as JSON, each failure with its settings."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    write_sounds(folder / "sounds", 8, between="/")
    trained, refused, slowest, wrong = 0, dict[str, int](), 0.0, dict[str, Any]()
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        values = drawn(draw)
        began, fault = time.process_time(), ""
        try:
            fault = used(folder, values, draw)
            trained += 1
        except Exception as error:
            known = for_the_user(error)
            said = str(known).replace(str(folder), "")
            if known is None:
                fault = defect(error)
            elif not said.isprintable():
                fault = "a sentence that cannot be printed"
            else:
                refused[said[:300]] = refused.get(said[:300], 0) + 1
        if fault:
            wrong.setdefault(fault, values)
        seconds = time.process_time() - began
        slowest = max(slowest, seconds)
        print(
            f"{number}: {seconds:.1f} s", fault, json.dumps(values) if fault or seconds > SLOW else "", file=sys.stderr
        )
        (folder / "a.distill").unlink(missing_ok=True)
        (folder / "a.distill.md").unlink(missing_ok=True)
        shutil.rmtree(folder / "state", ignore_errors=True)
    print(json.dumps({"trained": trained, "refused": refused, "wrong": wrong, "slowest": slowest}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
