"""The trained codec beside a codec without a network, at the same bitrate, on the same held-out recordings.

The peer: principal components of stacked log-mel frames, residual k-means over the training recordings, the
pseudo-inverse of the mel filters, 32 rounds of Griffin-Lim.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torchaudio
from rich.console import Console
from rich.table import Table
from torch import Tensor

from distill.audio.corpus import Corpus, CorpusEntry, load_corpus
from distill.codes.split import split_groups
from distill.encoding import waveform
from distill.models.vqvae import VQVAE
from distill.params import load_params
from distill.training.codec_artifact import load_codec
from distill.training.losses import REPORT_WINDOWS, MultiScaleMelLoss
from distill.training.vqvae import build_vqvae, initialise

ROUNDS = 5
GRIFFIN_LIM_ROUNDS = 32
MAX_SECONDS = 10.0


def main() -> None:
    """Print one table. Raises ArtifactError when there is nothing to measure yet."""
    params = load_params(Path("params.yaml"))
    corpus = load_corpus(Path("artifacts/corpus"))
    codec, artifact = load_codec(Path("artifacts/vqvae"))
    sides = split_groups((e.group for e in corpus.entries), params.seed, params.split.resolve(len(corpus.entries)))
    held_out = [entry for entry in corpus.entries if sides[entry.group] == "val"]
    baseline = build_vqvae(corpus.sample_rate, artifact.training, params.seed).eval()
    initialise(baseline, corpus, [entry for entry in corpus.entries if sides[entry.group] == "train"], params.seed)
    baseline.eval()
    sounds = [_padded(codec, corpus, entry) for entry in held_out]
    seconds = sum(sound.shape[1] for sound in sounds) / corpus.sample_rate
    systems: dict[str, tuple[VQVAE, Callable[[Tensor], Tensor]]] = {
        "trained codec": (codec, codec.decode),
        "no network": (baseline, lambda codes: _griffin_lim(baseline, codes)),
    }
    loss = MultiScaleMelLoss(corpus.sample_rate, REPORT_WINDOWS)
    distances = {name: [_distance(loss, sound, *system) for sound in sounds] for name, system in systems.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for _ in range(ROUNDS):
        for name, system in systems.items():
            times[name].append(_speed(sounds, *system))
    table = Table("system", "7-scale log10-mel L1", "encode x real time", "decode x real time")
    for name in systems:
        encode, decode = (seconds / statistics.median(column) for column in zip(*times[name], strict=True))
        table.add_row(name, f"{statistics.mean(distances[name]):.3f}", f"{encode:.0f}", f"{decode:.0f}")
    shape = codec.architecture
    bits = shape.spectrogram.frame_rate * shape.num_quantizers * (shape.codebook_size - 1).bit_length()
    console = Console()
    console.print(
        f"{len(held_out)} held-out recordings, {seconds:.0f} s, {bits / 1000:.2f} kbit/s, medians of {ROUNDS} interleaved rounds"
    )
    console.print(table)
    ratio = statistics.mean(distances["trained codec"]) / statistics.mean(distances["no network"])
    console.print(f"distance of the trained codec / no network: {ratio:.3f}")


def _padded(codec: VQVAE, corpus: Corpus, entry: CorpusEntry) -> Tensor:
    sound = waveform(corpus, entry, 0, min(entry.samples, int(MAX_SECONDS * corpus.sample_rate)))
    frames = codec.spectrogram.frames_for(len(sound))
    return torch.nn.functional.pad(sound, (0, frames * codec.spectrogram.samples_per_frame - len(sound)))[None]


@torch.no_grad()
def _griffin_lim(codec: VQVAE, codes: Tensor) -> Tensor:
    config = codec.spectrogram
    centred = codec.quantizer.decode(codes) @ cast(Tensor, codec.components).T
    log_mel = (centred + cast(Tensor, codec.mean)).reshape(1, -1, config.n_mels)
    magnitude = (10.0**log_mel @ cast(Tensor, codec.inverse_bank)).clamp_min(0).transpose(1, 2)
    last = magnitude[:, :, -1:]  # centred frames: one more than hops
    window = torch.hann_window(config.n_fft)
    length = codes.shape[1] * config.samples_per_frame
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        audio = torchaudio.functional.griffinlim(
            torch.cat([magnitude, last], dim=2),
            window=window,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            win_length=config.n_fft,
            power=1.0,
            n_iter=GRIFFIN_LIM_ROUNDS,
            momentum=0.99,
            length=length,
            rand_init=True,
        )
    return cast(Tensor, audio)


@torch.no_grad()
def _distance(loss: MultiScaleMelLoss, sound: Tensor, codec: VQVAE, decode: Callable[[Tensor], Tensor]) -> float:
    return float(loss(decode(codec.encode(sound)), sound))


def _speed(sounds: list[Tensor], codec: VQVAE, decode: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    began = time.perf_counter()
    codes = [codec.encode(sound) for sound in sounds]
    encoded = time.perf_counter()
    for one in codes:
        decode(one)
    return encoded - began, time.perf_counter() - encoded


if __name__ == "__main__":
    main()
