"""Weights of codes with which sounds that are drawn are at given notes.

The prior draws a frame's note, tuning and atom in turn. A set of partials is heard at an interval to the pitch that is
coded, so a note is coded in as many ways as there are intervals. Each code is weighted by how near to its target the
frame will be heard, over all sets as often as recordings have them.
"""

import math

import torch
from torch import Tensor

from distill.codec.constants import ATOM, NOTE, NOTES, TUNING, TUNINGS
from distill.codec.spectral import SpectrogramConfig
from distill.codec.tone import FLOORS, START, ToneLayer, atoms_of
from distill.generate.pitch import PitchMeter
from distill.prior.base import Prior
from distill.prior.frame import FramePrior

SPREAD = 0.15  # semitones from the target, at which a code keeps 0.6 of its probability
LOUDEST_HERTZ, SECONDS = 500.0, 0.3  # of the loudest partial, and of the sound, by which a set is heard


def heard_intervals(layer: ToneLayer, config: SpectrogramConfig) -> Tensor:
    """Intervals `[S]` in semitones from the pitch that is coded to the one that is heard of each set; NaN where none is."""
    meter, intervals = PitchMeter(config), torch.full((len(layer.ratios),), torch.nan, dtype=torch.float64)
    time = torch.arange(round(SECONDS * config.sample_rate)).double() / config.sample_rate
    for row, (ratios, loud) in enumerate(
        zip(layer.ratios.cpu().double(), layer.amplitudes.cpu().double(), strict=True)
    ):
        if not loud.any():
            continue
        base = LOUDEST_HERTZ / ratios[loud.argmax()]
        there = (ratios > 0) & (ratios * base < config.sample_rate / 2)
        phases = START * torch.arange(int(there.sum())).square()
        waves = torch.cos(2 * math.pi * (phases[:, None] + base * ratios[there, None] * time))
        sound = (loud[there, None] * waves).sum(dim=0)
        pitch = meter((0.3 * sound / sound.abs().max()).float().numpy())
        if pitch is not None:
            intervals[row] = pitch - (69 + 12 * math.log2(base / 440))
    return intervals


def set_usage(prior: Prior, sets: int) -> Tensor:
    """How often recordings use each set, `[sets]`, as the prior has counted; alike for one that counts nothing."""
    experts = prior.count_experts if isinstance(prior, FramePrior) else None
    logs = torch.zeros(atoms_of(sets)) if experts is None else experts.unigram[ATOM, : atoms_of(sets)].cpu()
    shares: Tensor = logs[1:].unflatten(0, (sets, len(FLOORS))).exp().sum(dim=1)
    return shares / shares.sum()


class NoteWeights:
    """Weights for sounds at `targets` `[B]`, in semitones (MIDI).

    `intervals` `[S]` are those of `heard_intervals`, `usage` `[S]` how often each set is used.
    """

    def __init__(self, targets: Tensor, intervals: Tensor, usage: Tensor) -> None:
        self.targets = (targets * TUNINGS).round().long()
        pitched = intervals.isfinite()
        self.atoms = torch.full((1 + len(FLOORS) * len(intervals),), torch.nan, dtype=torch.float64)  # steps
        self.atoms[1:] = (intervals * TUNINGS).round().repeat_interleave(len(FLOORS))
        self.reach = (NOTES + 1) * TUNINGS
        distance = torch.arange(-self.reach, self.reach + 1)[:, None] + (intervals[pitched] * TUNINGS).round()
        shares = usage[pitched].double()
        self.near = _nearness(distance, False) @ shares  # [2 * reach + 1], of pitches as coded relative to the target
        self.exact = _nearness(distance, True) @ shares

    def __call__(self, shares: Tensor, coarser: Tensor, rows: Tensor, begun: Tensor) -> Tensor:
        """Probabilities `[B, V]` of the next level of sounds `rows` `[B]`, whose frame has the `coarser` codes `[B, L]`.

        `begun` `[B]` says which have had a tone. Another level than note, tuning and atom stays as it is.
        """
        level = coarser.shape[1]
        if level not in (NOTE, TUNING, ATOM):
            return shares
        targets = self.targets[rows]
        table = torch.where(begun[:, None], self.near, self.exact)
        steps = torch.arange(NOTES * TUNINGS) - TUNINGS // 2
        if level == NOTE:
            index = (steps - targets[:, None] + self.reach).clamp(0, 2 * self.reach)
            weights = table.gather(1, index).unflatten(1, (NOTES, TUNINGS)).sum(dim=2)
            weights[:, 0] = 0.0
            tonal = _weighted(shares, weights)
            tone = torch.where(begun, shares[:, 1:].sum(dim=1) / shares.sum(dim=1), 1.0)[:, None]
            weighted = tonal * tone
            weighted[:, 0] = 1 - tone[:, 0]
            return weighted.to(shares)
        note = coarser[:, NOTE]
        if level == TUNING:
            index = note[:, None] * TUNINGS + steps[:TUNINGS] - targets[:, None] + self.reach
            weights = table.gather(1, index)
        else:
            coded = note * TUNINGS + coarser[:, TUNING] - TUNINGS // 2
            distance = (coded - targets)[:, None] + self.atoms
            weights = torch.where(begun[:, None], _nearness(distance, False), _nearness(distance, True)).nan_to_num(0.0)
        return torch.where((note > 0)[:, None], _weighted(shares, weights), shares).to(shares)


def _nearness(distance: Tensor, exact: bool) -> Tensor:
    """Weights of what is so many steps of tuning from a target."""
    if exact:
        return torch.where(distance.isnan(), torch.nan, (distance == 0).double())
    return (-0.5 * (distance / (SPREAD * TUNINGS)).square()).exp()


def _weighted(shares: Tensor, weights: Tensor) -> Tensor:
    """Probabilities `[B, V]` times weights, with the sum 1; weights alone where that leaves nothing."""
    weighted = shares * weights
    total = weighted.sum(dim=1, keepdim=True)
    weighted = torch.where(total > 0, weighted, weights)
    return weighted / weighted.sum(dim=1, keepdim=True).clamp_min(1e-300)
