"""Variations of recordings: distance to the recording, nearest kind, pitch and length, by strength."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.measures import mel_distance, mel_loss
from benchmarks.pitch import pitch_change, pitch_track
from benchmarks.prior import Say
from distill.api import Model
from distill.audio.read import SUPPORTED_SUFFIXES
from distill.codec.data import evenly_spaced
from distill.codes.store import Codes
from distill.errors import ParamsError
from distill.generate.sounds import decode_sounds
from distill.generate.variations import Variation, draw_takes, similarities
from distill.novelty.distance import Statistics, sound_statistics, squared_distances
from distill.novelty.spectral_space import CodeSpectra

STRENGTHS = tuple(round(0.1 * step, 1) for step in range(11))  # 0: the decoded recording, 1: a free draw
TAKES = 8
RECORDINGS = 24  # evenly spaced
MOST_SECONDS = 4.0  # of a recording
GROWS = 0.9  # rank correlation from which distance grows with strength


@dataclass(frozen=True)
class AtStrength:
    """Means over takes at a strength; distances are to the decoded recording.

    `own` is the share of takes whose nearest recording has the kind of the varied one, `own_others` without it among
    them. `semitones` is the median absolute change of pitch over `pitched` takes. `equal` counts takes that are the
    same as another or the recording, `wrong_lengths` those of other lengths.
    """

    strength: float
    mel: float
    difference_db: float
    equal_codes: float
    own: float
    own_others: float
    semitones: float
    pitched: int
    equal: int
    wrong_lengths: int


@dataclass(frozen=True)
class VariationsReport:
    """Figures by strength, and rank correlations of mel distance and strength, one a recording."""

    corpus: str
    model: str
    recordings: int
    correlations: tuple[float, ...]
    strengths: tuple[AtStrength, ...]

    @property
    def growing(self) -> float:
        """Share of recordings whose distance grows with strength."""
        return float(np.mean(np.array(self.correlations) >= GROWS))


@dataclass(frozen=True, eq=False)
class _Corpus:
    """All recordings of a folder: samples `[N]`, codes, kinds and statistics."""

    samples: list[NDArray[np.float32]]
    codes: list[Codes]
    kinds: NDArray[np.str_]
    statistics: Statistics


def measure_variations(folder: Path, model: Path, say: Say) -> VariationsReport:
    """Vary recordings of a folder with a model. Raises ArtifactError, AudioError, ParamsError without recordings.

    A recording's kind is its folder, in a folder without subfolders the first part of its name.
    """
    loaded = Model(model)
    corpus = _read(folder, loaded)
    count = len(corpus.codes)
    chosen = evenly_spaced(count, RECORDINGS)
    found = []
    for number, index in enumerate(chosen, start=1):
        say(f"recording {number} of {len(chosen)}")
        found.append([_measure(loaded, corpus, index, strength) for strength in STRENGTHS])
    correlations = tuple(float(spearmanr(STRENGTHS, [row.mel for row in rows]).statistic) for rows in found)
    strengths = tuple(_mean([rows[step] for rows in found]) for step in range(len(STRENGTHS)))
    return VariationsReport(folder.resolve().name, model.name, len(chosen), correlations, strengths)


def _read(folder: Path, model: Model) -> _Corpus:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUPPORTED_SUFFIXES)
    if not paths:
        raise ParamsError(f"{folder}: expected a folder of recordings, found none; check the path")
    flat = all(path.parent == folder for path in paths)
    kinds = np.array([path.name.split("_")[0] if flat else path.parent.name for path in paths])
    longest = round(MOST_SECONDS * model.sample_rate)
    samples = [model.samples_to_vary(path)[:longest] for path in paths]
    codes = [model.encode(one) for one in samples]
    spectra = CodeSpectra(model.bundle.codec)
    return _Corpus(samples, codes, kinds, sound_statistics([spectra(one) for one in codes]))


def _measure(model: Model, corpus: _Corpus, index: int, strength: float) -> AtStrength:
    codec, prior = model.bundle.codec, model.bundle.prior
    assert prior is not None
    codes, length = corpus.codes[index], len(corpus.samples[index])
    takes = draw_takes(prior, codec.quantizer.codebooks, Variation(codes, TAKES, strength), index)
    recording, *sounds = decode_sounds(codec, [codes, *takes.codes], length)
    loss, rate = mel_loss(model.sample_rate), model.sample_rate
    both = [mel_distance(loss, torch.from_numpy(recording), torch.from_numpy(sound)) for sound in sounds]
    alike = similarities(codec, None, codes, takes.codes)
    spectra = CodeSpectra(codec)
    apart = squared_distances(sound_statistics([spectra(one) for one in takes.codes]), corpus.statistics)
    own = _own(apart, corpus.kinds, index)
    apart[:, index] = np.inf
    track = pitch_track(recording, rate)
    changes = np.array([pitch_change(track, pitch_track(sound, rate)) for sound in sounds])
    changes = changes[np.isfinite(changes)]
    different = {one.tobytes() for one in takes.codes} - ({codes.tobytes()} if strength else set())
    return AtStrength(
        strength,
        float(np.mean(both)),
        float(np.mean([one.difference_db for one in alike])),
        float(np.mean([one.equal_codes for one in alike])),
        own,
        _own(apart, corpus.kinds, index),
        float(np.median(changes)) if len(changes) else float("nan"),
        len(changes),
        TAKES - len(different),
        sum(len(sound) != length for sound in sounds),
    )


def _own(apart: NDArray[np.float64], kinds: NDArray[np.str_], index: int) -> float:
    """Share of takes whose nearest recording, by distances `[takes, recordings]`, has the kind of this one."""
    return float((kinds[apart.argmin(axis=1)] == kinds[index]).mean())


def _mean(rows: Sequence[AtStrength]) -> AtStrength:
    """Means over recordings of equal weight; the median of pitch changes, sums of counts."""
    changes = [row.semitones for row in rows if row.pitched]

    def mean(name: str) -> float:
        return float(np.mean([getattr(row, name) for row in rows]))

    return AtStrength(
        strength=rows[0].strength,
        mel=mean("mel"),
        difference_db=mean("difference_db"),
        equal_codes=mean("equal_codes"),
        own=mean("own"),
        own_others=mean("own_others"),
        semitones=float(np.median(changes)) if changes else float("nan"),
        pitched=sum(row.pitched for row in rows),
        equal=sum(row.equal for row in rows),
        wrong_lengths=sum(row.wrong_lengths for row in rows),
    )
