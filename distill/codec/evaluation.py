"""Evaluation of a trained codec: held-out recordings coded and decoded, whole, and how they sound beside their originals."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.audio.augment import waveform
from distill.audio.corpus import Corpus, CorpusEntry
from distill.codec.data import evenly_spaced
from distill.codec.fidelity import Fidelity, summary
from distill.codec.model import VQVAE

MAX_RECORDINGS = 64
MAX_SECONDS = 10.0  # of a recording
TOTAL_SECONDS = 240.0  # about, of all: a few seconds of work
PREFIX = "fidelity/"
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
    codec: VQVAE, corpus: Corpus, entries: Sequence[CorpusEntry], seconds: float = MAX_SECONDS
) -> Iterator[tuple[Samples, Samples]]:
    """Samples `[N]` of each recording, of at most `seconds`, and the same coded and decoded; memory is bounded."""
    longest = round(seconds * corpus.sample_rate)

    def sounds() -> Iterator[Tensor]:
        return (waveform(corpus, entry, 0, min(entry.samples, longest)) for entry in entries)

    for original, decoded in zip(sounds(), codec.decode_each(codec.encode_each(sounds())), strict=True):
        yield original.numpy(), decoded[: len(original)].float().cpu().numpy()


def held_out_fidelity(codec: VQVAE, corpus: Corpus, held_out: Sequence[CorpusEntry]) -> dict[str, float]:
    """Metrics `fidelity/<measure>/<statistic>` over held-out recordings, evenly spaced.

    These are at most 64 of at most 10 s each, and fewer where they would be longer than some 4 minutes together.
    """
    chosen = [held_out[index] for index in evenly_spaced(len(held_out), _most(corpus, held_out))]
    pairs = decoded_pairs(codec, corpus, chosen)
    measured = summary(Fidelity.measure(*pair, corpus.sample_rate) for pair in pairs)
    return {f"{PREFIX}{name}": value for name, value in measured.items()}


def _most(corpus: Corpus, entries: Sequence[CorpusEntry]) -> int:
    """How many recordings to measure."""
    seconds = sum(min(MAX_SECONDS, entry.samples / corpus.sample_rate) for entry in entries)
    return max(1, min(MAX_RECORDINGS, int(TOTAL_SECONDS * len(entries) / seconds)))


def fidelity_line(figures: Mapping[str, float]) -> str:
    """The medians of `held_out_fidelity` in one line; empty where it measured nothing."""
    medians = [(words, form, figures.get(f"{PREFIX}{name}/median")) for name, words, form in _SHOWN]
    shown = [f"{words} {form.format(value)}" for words, form, value in medians if value is not None]
    return f"held-out sound: {', '.join(shown)} (medians, decoded beside original)" if shown else ""
