"""Previews: held-out recordings and their reconstructions before training, at the best epoch and at the last."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, CorpusEntry
from distill.audio.plots import write_spectrograms
from distill.audio.write import write_audio
from distill.codec.model import VQVAE
from distill.codec.training import CodecTraining

PREVIEWS = 4
PREVIEW_SECONDS = 5.0
TITLES = {
    "original": "{path}, held out",
    "start": "from codes, before training",
    "best": "from codes, best epoch",
    "end": "from codes, last epoch",
}


class CodecPreviews:
    """Collect reconstructions at the moments of training that `TITLES` names, and write those there are."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._entries: Sequence[CorpusEntry] = ()
        self._sounds: dict[str, list[NDArray[np.float32]]] = {}  # moment to one sound `[N]` for each recording

    def start(self, codec: VQVAE, held_out: Sequence[CorpusEntry]) -> None:
        """Choose the recordings and keep the untrained codec's reconstructions."""
        self._entries = held_out[:: max(1, len(held_out) // PREVIEWS)][:PREVIEWS]
        longest = int(PREVIEW_SECONDS * self._corpus.sample_rate)
        audio = [waveform(self._corpus, entry, 0, min(entry.samples, longest)) for entry in self._entries]
        self._sounds["original"] = [samples.numpy() for samples in audio]
        self._reconstruct("start", codec)

    def finish(self, training: CodecTraining) -> None:
        """Keep the reconstructions with the best and with the last weights."""
        self._reconstruct("best", training.model)
        last = copy.deepcopy(training.model)
        last.load_state_dict(training.result.last_tensors)
        self._reconstruct("end", last)

    def write(self, folder: Path) -> None:
        """Write `preview_<n>_<moment>.wav`, and for each recording an image of spectrograms, a row for each moment."""
        rate = self._corpus.sample_rate
        for number, entry in enumerate(self._entries):
            sounds = {moment: parts[number] for moment, parts in self._sounds.items()}
            for moment, samples in sounds.items():
                softer = np.float32(max(1.0, np.abs(samples).max(initial=0.0)))  # where it would clip
                write_audio(folder / f"preview_{number}_{moment}.wav", samples / softer, rate)
            rows = [(TITLES[moment].format(path=entry.path), samples) for moment, samples in sounds.items()]
            write_spectrograms(folder / f"preview_{number}.png", rows, rate)

    def _reconstruct(self, moment: str, codec: VQVAE) -> None:
        self._sounds[moment] = [_reconstruction(codec, samples) for samples in self._sounds["original"]]


def _reconstruction(codec: VQVAE, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples `[N]` encoded and decoded."""
    audio = codec.decode(codec.encode(torch.from_numpy(samples)[None]))
    return np.asarray(audio[0, : len(samples)].numpy())
