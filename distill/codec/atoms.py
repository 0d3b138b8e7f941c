"""Sets of partials that tones are made of: some known from acoustics, others found in the recordings.

Shapes: F frames, S partial sets, K partials, P peaks.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.pitch import PitchAnalysis
from distill.codec.tone import PARTIALS, ToneLayer

FITTED = 14  # sets that are found in the recordings, at most
MAX_FRAMES = 1500  # among which they are found
CANDIDATES = 192
TONAL = 0.5  # of its energy that a frame has in peaks, to count as tonal
LEAST_GAIN = 0.002  # of what a set must explain more, as a share of the frames
SAME = 25 / 1200  # octaves, between partials of a chord that count as one
CHORD_PARTIALS = 24  # of each of its sounds

Doubles = NDArray[np.float64]


class PartialSet(NamedTuple):
    """Ratios `[k]` of partials to the pitch, rising, and their amplitudes `[k]`."""

    ratios: Doubles
    amplitudes: Doubles


def shipped_sets() -> list[PartialSet]:
    """Sets of partials known from acoustics: ratios and amplitudes of each.

    Strings with stiffness (f_n = n f_0 sqrt(1 + B n^2)), pipes closed at one end, sines, bars, membranes, bells
    (Fletcher and Rossing, The Physics of Musical Instruments), and chords of harmonic sounds.
    """
    n = np.arange(1, PARTIALS + 1, dtype=np.float64)
    sets = [PartialSet(n * np.sqrt((1 + b * n * n) / (1 + b)), 1 / n) for b in (0.0, 1e-4, 4e-4, 1.2e-3)]
    sets.append(PartialSet(n[::2], 1 / n[::2]))
    for ratios in (
        (1.0,),
        (1.0, 2.756, 5.404, 8.933, 13.34),
        (1.0, 3.98, 9.9, 16.5),
        (1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5, 3.6),
        (0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0, 5.33, 6.67),
    ):
        sets.append(PartialSet(np.array(ratios), 1 / np.arange(1.0, len(ratios) + 1)))
    return sets + [_chord(steps) for steps in CHORDS]


def _chord(steps: tuple[int, ...]) -> PartialSet:
    """Partials of a harmonic sound and others that are `steps` semitones above it; of near ones the lowest."""
    n = np.arange(1, CHORD_PARTIALS + 1, dtype=np.float64)
    ratios = np.concatenate([n * 2 ** (step / 12) for step in (0, *steps)])
    amplitudes = np.concatenate([1 / n] * (1 + len(steps)))
    order = np.argsort(ratios)
    ratios, amplitudes = ratios[order], amplitudes[order]
    apart = np.diff(np.log2(ratios), prepend=-1.0) > SAME
    return PartialSet(ratios[apart][:PARTIALS], amplitudes[apart][:PARTIALS])


CHORDS = (  # semitones above the lowest note
    *((3,), (4,), (5,), (7,), (8,), (9,)),
    *((4, 7), (3, 7), (5, 7), (3, 8), (4, 9), (5, 9), (5, 8)),
    *((4, 7, 10), (3, 7, 10), (4, 7, 11), (7, 16), (7, 15)),
)


def set_partials(layer: ToneLayer, sets: list[PartialSet], first: int = 0) -> None:
    """Write sets into a layer, from set `first` on; of too many partials the loudest are kept. Further sets are empty."""
    layer.ratios[first:], layer.amplitudes[first:] = 0.0, 0.0
    for row, (own, loud) in enumerate(sets, start=first):
        kept = np.sort(np.argsort(-loud, kind="stable")[:PARTIALS])
        layer.ratios[row, : len(kept)] = torch.from_numpy(own[kept])
        layer.amplitudes[row, : len(kept)] = torch.from_numpy(loud[kept] / loud.max())


@torch.no_grad()
def fit_sets(
    layer: ToneLayer, analysis: PitchAnalysis, sounds: list[tuple[Tensor, Tensor]], generator: torch.Generator
) -> None:
    """Find sets in sounds that explain frames better than those that are shipped; greedily, the best first.

    `sounds` are samples `[margin + F * samples_per_frame + margin]` and log-mel frames `[F, n_mels]`.
    """
    shipped = shipped_sets()
    set_partials(layer, shipped)
    rows = [analysis.tables(analysis.peaks(audio[None]), log_mel) for audio, log_mel in sounds]
    peaks = [analysis.peaks(audio[None]) for audio, _ in sounds]
    worth, energy, total = (torch.cat(parts) for parts in zip(*rows, strict=True))
    places, weights, energies = (torch.cat(parts) for parts in zip(*peaks, strict=True))
    tonal = (energies.sum(dim=1) > TONAL).nonzero()[:, 0]
    tonal = tonal[torch.randperm(len(tonal), generator=generator)[:MAX_FRAMES].sort().values]
    if not len(tonal):
        return
    worth, energy, total = worth[tonal], energy[tonal], total[tonal]
    own = type(peaks[0])(places[tonal], weights[tonal], energies[tonal])
    pitch, _, score = (part[:, 0] for part in analysis.candidates(layer, own, worth, energy, total))
    reached = score.clamp_min(0.0)
    # Those that are explained worst are the likeliest to be of another kind.
    order = reached.argsort(stable=True)[:CANDIDATES]
    found = []
    for frame in order.tolist():
        there = own.weights[frame] > 0
        hertz = 2.0 ** own.places[frame][there].double().numpy()
        loud = 10.0 ** ((own.weights[frame][there].double().numpy() - 1) * 45.0 / 20)
        base = float(440.0 * 2.0 ** ((pitch[frame] - 69) / 12)) if score[frame] > -torch.inf else hertz[loud.argmax()]
        rising = np.argsort(hertz)
        ratios, loud = hertz[rising] / base, loud[rising]
        near = (ratios >= 1 / 8) & (ratios <= PARTIALS)
        found.append(PartialSet(ratios[near], loud[near]))
    trial = ToneLayer(layer.config, 1)
    scores = []
    for one in found:
        set_partials(trial, [one])
        scores.append(analysis.candidates(trial, own, worth, energy, total)[2][:, 0].clamp_min(0.0))
    gains = torch.stack(scores)
    chosen: list[PartialSet] = []
    while len(chosen) < len(layer.ratios) - len(shipped):
        gain = (gains - reached).clamp_min(0.0).mean(dim=1)
        best = int(gain.argmax())
        if gain[best] < LEAST_GAIN:
            break
        chosen.append(found[best])
        reached = torch.maximum(reached, gains[best])
    set_partials(layer, chosen, len(shipped))
