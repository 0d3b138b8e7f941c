"""The pitch of a sound, measured from its samples.

The analysis is that of the codec, with sets of partials known from acoustics alone: those that are found in recordings
explain frames at any interval to the pitch that is heard.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from distill.codec.atoms import PartialSet, set_partials, shipped_sets
from distill.codec.pitch import PitchAnalysis
from distill.codec.spectral import FrameFeatures, SpectrogramConfig
from distill.codec.tone import PARTIALS, ToneLayer

LEAST_SHARE = 0.5  # of a sound's amplitude, in frames whose pitch is near its pitch
DULL = (2, 3, 4, 6, 10, 16)  # partials
SINGLE = 99
NEAR = 0.5  # semitones


class PitchMeter:
    """Measures pitches of sounds at one sample rate."""

    def __init__(self, config: SpectrogramConfig) -> None:
        self.config = config
        series = np.arange(1.0, 1 + PARTIALS)
        sets = [PartialSet(series[:most], 1 / series[:most]) for most in DULL]
        sets += [one for one in shipped_sets()[:SINGLE] if one.ratios[0] == 1]  # a sine would be a bell's hum
        self.layer, self.analysis, self.features = (
            ToneLayer(config, len(sets)),
            PitchAnalysis(config),
            FrameFeatures(config),
        )
        set_partials(self.layer, sets)

    @torch.no_grad()
    def __call__(self, samples: NDArray[np.float32]) -> float | None:
        """Pitch in semitones (MIDI) of samples `[N]`, where most of its amplitude is; None where there is no clear one."""
        frames, step = self.config.frames_for(len(samples)), self.config.samples_per_frame
        sound = nn.functional.pad(torch.from_numpy(samples), (0, frames * step - len(samples)))[None]
        features = self.features(nn.functional.pad(sound, (self.config.margin, self.config.margin)))
        wide = nn.functional.pad(sound, (self.analysis.margin, self.analysis.margin))
        tones, _ = self.analysis(self.layer, wide, features)
        pitches = self.layer.pitches(nn.functional.pad(tones, (1, 0)))[0].numpy()
        loud = sound[0].unflatten(0, (frames, step)).square().mean(dim=1).sqrt().double().numpy()
        is_tone = np.isfinite(pitches)
        if not loud[is_tone].sum():
            return None
        order = np.argsort(pitches[is_tone])
        sums = loud[is_tone][order].cumsum()
        middle = pitches[is_tone][order][np.searchsorted(sums, sums[-1] / 2)]
        share = loud[is_tone][np.abs(pitches[is_tone] - middle) <= NEAR].sum() / loud.sum()
        return float(middle) if share >= LEAST_SHARE else None
