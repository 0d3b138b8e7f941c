"""Results that a change of the code should not move unseen: `PYTHONPATH=tests:. python -m golden.figures` records them.

Each figure is stable to rounding between processors; what compounds rounding errors is left out. The model files are
those that `unit.tiny.write_prior_model` wrote when the format last changed: what opened and generated then does today.
"""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import distill
from distill.codec.decoder import gaussian_table
from distill.codec.losses import DecoderLoss, MultiScaleMelLoss
from distill.codec.streaming import decode
from distill.demo.recordings import demo_recordings
from distill.seeds import Stream, derive_seed
from distill.split import split_recordings
from unit.tiny import tiny_codec
from unit.training.coded import config, data, fit, recordings

RECORDED = Path(__file__).with_name("recorded.json")
MODELS = sorted((Path(__file__).parent / "models").glob("*.distill"))
Figures = dict[str, Any]


def rms(samples: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(samples, np.float64)))))


def models() -> Figures:
    """What old model files generate: lengths, loudness and how each begins."""
    found: Figures = {}
    for path in MODELS:
        model = distill.load(path)
        made = model.generate(n=2, seconds=1.0, seed=7, label="b" if path.stem.startswith("frame") else None)
        for number, (codes, sound, novelty) in enumerate(zip(made.codes, made.sounds, made.novelty, strict=True)):
            found[f"{path.stem}/{number}/codes"] = codes[:4].tolist()
            found[f"{path.stem}/{number}/samples"] = len(sound)
            found[f"{path.stem}/{number}/rms"] = rms(sound)
            found[f"{path.stem}/{number}/verdict"] = str(novelty.verdict)
    return found


def demo() -> Figures:
    """Loudness and length of synthesised recordings."""
    return {one.name: [len(one.samples), rms(one.samples)] for one in islice(demo_recordings(), 4)}


def splits() -> Figures:
    """Who is held out, and the seed of each random stream."""
    names = [f"{number}.wav" for number in range(12)]
    sounds = [SimpleNamespace(path=name, pcm_sha256=name, group=name, label="", samples=1) for name in names]
    return {
        "held out": sorted(split_recordings(sounds, 0, 0.3).held_out),
        **{stream.name: derive_seed(7, stream, 1, 2) for stream in Stream},
    }


def codec() -> Figures:
    """Decoded loudness of an untrained codec, and losses of a tone that is half as loud."""
    network = tiny_codec()
    tone = torch.sin(torch.arange(8192) * 0.1)[None] * 0.5
    codes = torch.arange(60).reshape(1, 10, 6) % 7
    with torch.no_grad():
        decoded = decode(network, codes)
    losses = DecoderLoss(16_000)(torch.cat([0.5 * tone, 0.4 * tone]), tone)
    return {
        "decoded rms": rms(decoded),
        "spectral loss": float(MultiScaleMelLoss(16_000, (256, 1024))(tone, 0.5 * tone)),
        "decoder loss": {name: float(value) for name, value in losses.items()},
        "noise": gaussian_table()[:4].tolist(),
    }


def priors() -> Figures:
    """Held-out nats per code of each architecture after three epochs."""
    known, held_out = recordings(0, 12), recordings(1, 5)
    found: Figures = {}
    for architecture in ("frame", "memory", "flat"):
        settings = config(architecture=architecture, epochs=3, dropout=0.1)
        found[architecture] = [row["val_loss"] for row in fit(data(known, held_out), settings).result.history]
    return found


GROUPS: dict[str, Callable[[], Figures]] = {
    "models": models,
    "demo": demo,
    "splits": splits,
    "codec": codec,
    "priors": priors,
}

if __name__ == "__main__":
    RECORDED.write_text(json.dumps({name: figures() for name, figures in GROUPS.items()}, indent=1) + "\n")
