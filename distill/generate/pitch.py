"""The pitch of a sound, measured from its samples.

The analysis is that of the codec, with sets of partials known from acoustics alone: those that are found in recordings
explain frames at any interval to the pitch that is heard.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from distill.codec.atoms import PartialSet, set_partials, shipped_sets
from distill.codec.constants import NOTE
from distill.codec.pitch import PitchAnalysis
from distill.codec.spectral import FrameFeatures, SpectrogramConfig
from distill.codec.tone import PARTIALS, ToneLayer

FEW_PARTIALS = (2, 3, 4, 6, 10, 16)  # of dull sounds, whose higher partials are in noise
LEAST_WORTH = 0.05  # of a partial that is not found: dull sounds are no high partials of lower ones
NEAR = 0.5  # semitones
LEAST_SHARE = 0.5  # of a sound's amplitude that is near its pitch
MOST_SECONDS = 30  # of a sound that are measured


class PitchMeter:
    """Measures pitches of sounds. That of a chord is its root's."""

    def __init__(self, config: SpectrogramConfig) -> None:
        self.config = config
        series = np.arange(1.0, 1 + PARTIALS)
        sets = [PartialSet(series[:few], 1 / series[:few]) for few in FEW_PARTIALS]
        # No bells, which have a partial below their pitch: a sine would be that of one an octave higher.
        sets += [one for one in shipped_sets() if one.ratios[0] == 1]
        self.layer = ToneLayer(config, len(sets))
        set_partials(self.layer, sets)
        self.analysis, self.features = PitchAnalysis(config, LEAST_WORTH), FrameFeatures(config)

    @torch.no_grad()
    def __call__(self, samples: NDArray[np.float32]) -> float | None:
        """Pitch in semitones (MIDI) of samples `[N]`, where half of their amplitude is near one; else None.

        It is the median over frames, by their amplitude.
        """
        sound = torch.from_numpy(samples[: MOST_SECONDS * self.config.sample_rate])
        frames, step = self.config.frames_for(max(1, len(sound))), self.config.samples_per_frame
        sound = nn.functional.pad(sound, (0, frames * step - len(sound)))[None]
        near, wide = (nn.functional.pad(sound, (part.margin, part.margin)) for part in (self.config, self.analysis))
        tones, _ = self.analysis(self.layer, wide, self.features(near))
        pitches = self.layer.pitches(nn.functional.pad(tones, (NOTE, 0)))[0].numpy()
        loud = sound[0].unflatten(0, (frames, step)).square().mean(dim=1).sqrt().double().numpy()
        there = np.isfinite(pitches) & (loud > 0)
        if not there.any():
            return None
        order = pitches[there].argsort()
        sums = loud[there][order].cumsum()
        median = float(pitches[there][order][np.searchsorted(sums, sums[-1] / 2)])
        share = loud[there][np.abs(pitches[there] - median) <= NEAR].sum() / loud.sum()
        return median if share >= LEAST_SHARE else None
