"""Pitch meter: the pitch of a sound, measured from its samples.

It uses the codec's analysis with partial sets known from acoustics. Sets that are fitted to recordings are left out:
their base frequency may be at any interval from the perceived pitch.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from distill.codec.scales import PITCH_CENTS, hertz
from distill.codec.spectral import FrameFeatures, SpectrogramConfig
from distill.codec.tones.analysis import PitchAnalysis
from distill.codec.tones.atoms import PartialSet, set_partials, shipped_sets
from distill.codec.tones.layer import PARTIALS, ToneLayer

LEAST_SHARE = 0.5  # minimum proportion of a sound's amplitude in frames near its pitch


class PitchMeter:
    """Measure the pitch of a sound; a chord has the pitch of its root."""

    def __init__(self, config: SpectrogramConfig) -> None:
        self.config = config
        series = np.arange(1.0, 1 + PARTIALS)
        # Dull sounds have few partials above the noise.
        sets = [PartialSet(series[:few], 1 / series[:few]) for few in (2, 3, 4, 6, 10, 16)]
        # No bells: they have a partial an octave below their pitch, so a sine would be read an octave too high.
        sets += [partials for partials in shipped_sets() if partials.ratios[0] == 1]
        self.layer = ToneLayer(config, len(sets))
        set_partials(self.layer, sets)
        # Penalise absent partials more, so that a dull sound is not explained as high partials of a lower pitch.
        self.analysis = PitchAnalysis(config, least_worth=0.05)
        self.features = FrameFeatures(config)

    @torch.no_grad()
    def __call__(self, samples: NDArray[np.float32]) -> float | None:
        """Pitch in semitones (MIDI) of samples `[N]`, or None if less than half of the amplitude is near it.

        It is the median over the frames of the first 30 s, weighted by amplitude. It is raised if only every second,
        third or fifth partial is present.
        """
        sound = torch.from_numpy(samples[: 30 * self.config.sample_rate])
        margin, step = self.analysis.margin, self.config.samples_per_frame
        wide = self.config.padded(sound, margin)
        pitches = self.course(wide).numpy()
        powers = wide[0, margin:-margin].unflatten(0, (-1, step)).square().mean(dim=1)
        loud = powers.sqrt().double().numpy()
        there = np.isfinite(pitches) & (loud > 0)
        if not there.any():
            return None
        order = pitches[there].argsort()
        sums = loud[there][order].cumsum()
        median = float(pitches[there][order][np.searchsorted(sums, sums[-1] / 2)])
        share = loud[there][np.abs(pitches[there] - median) <= PITCH_CENTS / 100].sum() / loud.sum()
        return self._raised(sound, median) if share >= LEAST_SHARE else None

    @torch.no_grad()
    def course(self, audio: torch.Tensor) -> torch.Tensor:
        """Pitches `[F]` in semitones (MIDI) of samples; NaN without a tone.

        Samples are `[1, margin + F * samples_per_frame + margin]`.
        """
        spare = self.analysis.margin - self.config.margin
        tones, _ = self.analysis(self.layer, audio, self.features(audio[:, spare:-spare]))
        return self.layer.pitches(tones)[0]

    def _raised(self, sound: torch.Tensor, pitch: float) -> float:
        """Pitch of a sound `[N]`, moved up to the multiple that has nearly all of the energy.

        Noise makes frames show pitches that are too low.
        """
        power = torch.fft.rfft(sound * torch.hann_window(len(sound))).abs().square().double()
        sums, numbers = nn.functional.pad(power.cumsum(0), (1, 0)), torch.arange(1, 17)
        bins = numbers * (hertz(pitch) * len(sound) / self.config.sample_rate)
        first, last = (
            (bins * 2 ** (way * PITCH_CENTS / 1200)).long().clamp(max=len(power)) for way in (-1, 1)
        )
        energy = sums[(last + 1).clamp(max=len(power))] - sums[first]
        for times in (5, 3, 2):
            if energy[numbers % times > 0].sum() < 0.003 * energy.sum():
                return pitch + 12 * math.log2(times)
        return pitch
