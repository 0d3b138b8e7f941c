"""Evaluation of a trained codec: held-out recordings coded and decoded, in measures beside their originals and to hear."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, ManifestRow
from distill.audio.plots import write_spectrograms
from distill.audio.write import write_audio
from distill.codec.data import CodecData, evenly_spaced
from distill.codec.fidelity import Fidelity, summary
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, decode_each, encode, encode_each

MAX_RECORDINGS = 64
MAX_SECONDS = 10.0  # of a recording
TOTAL_SECONDS = 240.0  # about, of all: a few seconds of work
PREFIX = "fidelity/"
PREVIEWS = 4
PREVIEW_SECONDS = 5.0
TITLES = {
    "original": "{path}, held out",
    "start": "from codes, before training",
    "best": "from codes, best epoch",
    "end": "from codes, last epoch",
}
Samples = NDArray[np.float32]

_SHOWN = (  # name of a measure, words, form of its value
    ("level_db", "level", "{:+.1f} dB"),
    ("peak_db", "peak", "{:+.1f} dB"),
    ("attack_ms", "attack", "{:+.1f} ms"),
    ("envelope", "envelope", "{:.2f}"),
    ("treble_db", "above 6 kHz", "{:+.1f} dB"),
    ("flutter_db", "flutter", "{:+.1f} dB"),
)


def decoded_pairs(
    codec: VQVAE, corpus: Corpus, entries: Sequence[ManifestRow], seconds: float = MAX_SECONDS
) -> Iterator[tuple[Samples, Samples]]:
    """Samples `[N]` of each recording, of at most `seconds`, and the same coded and decoded; memory is bounded."""
    longest = round(seconds * corpus.sample_rate)

    def sounds() -> Iterator[Tensor]:
        return (waveform(corpus, entry, 0, min(entry.samples, longest)) for entry in entries)

    for original, decoded in zip(sounds(), decode_each(codec, encode_each(codec, sounds())), strict=True):
        yield original.numpy(), decoded[: len(original)].float().cpu().numpy()


def held_out_fidelity(codec: VQVAE, data: CodecData) -> dict[str, float]:
    """Metrics `fidelity/<measure>/<statistic>` over held-out recordings, evenly spaced.

    These are at most 64 of at most 10 s each, and fewer where they would be longer than some 4 minutes together.
    """
    rate, held_out = data.corpus.sample_rate, data.held_out
    seconds = sum(min(MAX_SECONDS, entry.samples / rate) for entry in held_out)
    most = max(1, min(MAX_RECORDINGS, int(TOTAL_SECONDS * len(held_out) / seconds)))
    pairs = decoded_pairs(codec, data.corpus, [held_out[index] for index in evenly_spaced(len(held_out), most)])
    measured = summary(Fidelity.measure(*pair, rate) for pair in pairs)
    return {f"{PREFIX}{name}": value for name, value in measured.items()}


def fidelity_line(figures: Mapping[str, float]) -> str:
    """The medians of `held_out_fidelity` in one line; empty where it measured nothing."""
    medians = [(words, form, figures.get(f"{PREFIX}{name}/median")) for name, words, form in _SHOWN]
    shown = [f"{words} {form.format(value)}" for words, form, value in medians if value is not None]
    return f"held-out sound: {', '.join(shown)} (medians, decoded beside original)" if shown else ""


class CodecPreviews:
    """Collect reconstructions at the moments of training that `TITLES` names, and write those there are."""

    def __init__(self, data: CodecData) -> None:
        self._corpus = data.corpus
        self._entries = data.held_out[:: max(1, len(data.held_out) // PREVIEWS)][:PREVIEWS]
        self._sounds: dict[str, list[Samples]] = {}  # moment to one sound `[N]` for each recording

    def start(self, codec: VQVAE) -> None:
        """Keep the untrained codec's reconstructions."""
        longest = int(PREVIEW_SECONDS * self._corpus.sample_rate)
        audio = [waveform(self._corpus, entry, 0, min(entry.samples, longest)) for entry in self._entries]
        self._sounds["original"] = [samples.numpy() for samples in audio]
        self._reconstruct("start", codec)

    def finish(self, codec: VQVAE, last_tensors: Mapping[str, Tensor]) -> None:
        """Keep the reconstructions of the trained codec, and those with the last weights instead of the best."""
        self._reconstruct("best", codec)
        last = copy.deepcopy(codec)
        last.load_state_dict(last_tensors)
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


def _reconstruction(codec: VQVAE, samples: Samples) -> Samples:
    """Samples `[N]` encoded and decoded."""
    audio = decode(codec, encode(codec, torch.from_numpy(samples)[None]))
    return np.asarray(audio[0, : len(samples)].numpy())
