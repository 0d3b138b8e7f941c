"""Tone layer: turn the codes of note, fine pitch and partial set into partials in the decoder's spectrum.

A frame's tone is a pitch (a MIDI note and sixteenths of a semitone) and a partial-set code. The code names a set of
partials, as ratios to the pitch, and a noise floor. Partials take their amplitudes from the decoded bands, and their
phases continue from frame to frame. They are added to the decoder's spectrum as lobes of its window (Rodet and Depalle,
"Spectral envelopes and inverse FFT synthesis", AES 1992).

Shapes: B batch, F code frames, T hops, S partial sets, K partials of a set, M mel bands.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.envelope import LOG_FLOOR
from distill.codec.layout import NOTES, TUNINGS
from distill.codec.scales import hertz as hertz_of
from distill.codec.spectral import MAX_LOG_MEL, SpectrogramConfig
from distill.codec.steady import steady
from distill.codec.tones.codes import FLOORS, note_and_tuning, steps_of
from distill.codec.tones.combs import SMALLEST, CombBands, Combs
from distill.codec.tones.contour import by_hop, glides, held_lows, run_phases

PARTIALS = 128  # maximum in a set
HIGHEST, LOWEST = 0.475, 20.0  # proportion of the sample rate, Hz: partials beyond are left out
# Two averages of bands over time, applied in turn: hops to each side, and the largest difference in log10.
STEADY = ((4, 0.5), (8, 0.3))


class Tones(NamedTuple):
    """Partials of hops, and the rest of the spectrum.

    `frequencies` in Hz (0: no partial), `amplitudes` and `phases` in cycles are `[B, T, K]`. `bands` (the tonal part)
    and `rest` are log10 mel amplitudes `[B, T, M]`; `toneless` `[B, T, M]` is the proportion of each band that is rest.
    `tonal` and `low` `[B, T]`, from 0 to 1, rate a hop as a tone, and as a held low tone.
    """

    frequencies: Tensor
    amplitudes: Tensor
    phases: Tensor
    bands: Tensor
    rest: Tensor
    toneless: Tensor
    tonal: Tensor
    low: Tensor


class ToneLayer(nn.Module):
    """Partials of tone codes, their proportion of each band, and the comb that they leave in mel bands."""

    def __init__(self, config: SpectrogramConfig, sets: int) -> None:
        super().__init__()
        self.config = config
        self.ratios = nn.Buffer(torch.zeros(sets, PARTIALS))  # [S, K] to the pitch, 0-padded
        self.amplitudes = nn.Buffer(torch.zeros(sets, PARTIALS))  # [S, K], the largest is 1
        self.triangles = nn.Buffer(triangles(config.n_mels), persistent=False)  # [n, M]
        self.comb_bands = CombBands(config)

    def forward(
        self,
        log_mel: Tensor,
        tones: Tensor,
        combs: Combs,
        noise: Tensor,
        phases: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> Tones:
        """Split log-mel frames `[B, T, M]` into partials of tones `[B, F, 3]` and the rest.

        `combs` are the combs of the tones. `noise` `[B, F, noise bands]` is the noise floor: log10 of noise to tone.
        `phases` `[B, T, K]` default to the phases of the tones as whole sounds; `inside` `[T]` is 0 in gaps between
        sounds. The tonal proportion carries no gradient; the gradient of `rest` reaches `log_mel` unchanged.
        """
        with torch.no_grad():
            phases = self.phases(tones) if phases is None else phases
            frequencies, relative = self.partials(tones)
            share = self.comb_bands.tonal_share(combs, noise)
            share = share.repeat_interleave(self.config.stack, dim=1)
            averaged = log_mel
            for hops, spread in STEADY:
                averaged = steady(averaged, hops, spread, inside)
            bands = 10.0 ** averaged.clamp_max(MAX_LOG_MEL)
            amplitudes, rest = self.separate(frequencies, relative, bands, share)
            rest = (rest / bands.clamp_min(LOG_FLOOR)).clamp(1e-5, 1.0)
            parts = bands * (1 - rest)
            # Proportion of a hop's power in partials: noise below, a tone above.
            noise_share, tone_share = (0.3, 0.9)
            power = parts.square().sum(dim=-1) / bands.square().sum(dim=-1).clamp_min(LOG_FLOOR**2)
            tonal = ((power - noise_share) / (tone_share - noise_share)).clamp(0, 1)
            log_parts = parts.clamp_min(LOG_FLOOR).log10()
            low = held_lows(self.pitches(tones)).repeat_interleave(self.config.stack, dim=1)
        phases = phases.to(frequencies)
        return Tones(
            frequencies, amplitudes, phases, log_parts, log_mel + rest.log10(), rest, tonal, low
        )

    def pitches(self, tones: Tensor) -> Tensor:
        """Pitches `[..., F]` in semitones (MIDI) of tones `[..., F, 3]`, NaN without a tone."""
        note, tuning, atom = tones.unbind(-1)
        pitch = steps_of(note, tuning).double() / TUNINGS
        return torch.where((note > 0) & (atom > 0), pitch, torch.nan)

    def transposed(self, tones: Tensor, semitones: float | Tensor) -> Tensor:
        """Transpose tones `[..., F, 3]` by semitones, a number or `[..., F]`; tones beyond the code range become 0."""
        note, tuning, atom = tones.unbind(-1)
        steps = (torch.as_tensor(semitones, dtype=torch.float64) * TUNINGS).round().long()
        moved_note, moved_tuning = note_and_tuning(steps_of(note, tuning) + steps.to(tones.device))
        moved = torch.stack([moved_note, moved_tuning, atom], dim=-1)
        can_be_coded = (note > 0) & (moved_note > 0) & (moved_note < NOTES)
        return torch.where(can_be_coded[..., None], moved, 0)

    def sets(self, tones: Tensor) -> Tensor:
        """Indices `[..., F]` of the partial sets of tones `[..., F, 3]`; meaningless without a tone."""
        return (tones[..., 2] - 1).clamp_min(0) // len(FLOORS)

    def floors(self, tones: Tensor) -> Tensor:
        """Indices `[..., F]` of the noise floors of tones `[..., F, 3]`; meaningless without a tone."""
        return (tones[..., 2] - 1).clamp_min(0) % len(FLOORS)

    def phases(self, tones: Tensor) -> Tensor:
        """Phases `[B, T, K]` in cycles, in the middles of hops, of the partials of tones `[B, F, 3]`; on the CPU."""
        tones = tones.cpu()
        pitch, sets = self.pitches(tones), self.sets(tones)
        return run_phases(pitch, tones[..., 1], sets, self.ratios.cpu(), self.config)

    def partials(self, tones: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies in Hz (0: no partial) and relative amplitudes, `[B, T, K]` each, of tones `[B, F, 3]`."""
        sets = self.sets(tones).repeat_interleave(self.config.stack, dim=1)
        pitch = self.pitches(tones)
        frequencies = self._heard(sets, by_hop(pitch, glides(pitch)[0], self.config.stack))
        return frequencies, self.amplitudes[sets] * (frequencies > 0)

    def comb(self, tones: Tensor) -> Tensor:
        """Frequencies `[B, F, K]` in Hz of the partials of tones `[B, F, 3]`, one value a frame; 0: no partial."""
        return self._heard(self.sets(tones), self.pitches(tones))

    def _heard(self, sets: Tensor, pitch: Tensor) -> Tensor:
        """Frequencies `[..., K]` in Hz of sets `[...]` at pitches `[...]`; 0 out of range or without a tone."""
        hertz = self.ratios[sets] * hertz_of(pitch).nan_to_num(0.0)[..., None].float()
        return torch.where(
            (hertz < HIGHEST * self.config.sample_rate) & (hertz > LOWEST), hertz, 0.0
        )

    def combs(self, tones: Tensor) -> Combs:
        """Combs of tones `[B, F, 3]`, regardless of their noise floors; zeros without a tone."""
        combs: Combs = self.comb_bands(self.comb(tones))
        return combs

    def pattern(self, tones: Tensor, combs: Combs) -> Tensor:
        """Pattern `[B, F, features]` that the combs of tones `[B, F, 3]` leave in log-mel features."""
        return self.comb_bands.pattern(self.floors(tones), combs)

    def separate(
        self, frequencies: Tensor, relative: Tensor, bands: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Split mel amplitudes `bands` `[B, T, M]` into partial amplitudes `[B, T, K]` and the rest `[B, T, M]`.

        Non-negative matrix factorisation (Lee and Seung 1999) with a column for each partial and triangular columns for
        the rest. It starts from `relative` amplitudes `[B, T, K]` and the tonal proportion `share` `[B, T, M]`.
        Partials that bands resolve are fitted; the others keep their relative amplitudes.
        """
        noise, lobes = self.triangles, self.comb_bands.lobes(frequencies)
        norm = lobes.weights.sum(dim=1).clamp_min(SMALLEST)

        def update(found: Tensor, ratio: Tensor) -> Tensor:
            changed: Tensor = found * (lobes.along(ratio) / norm)
            return changed

        tonal = bands * share
        found = relative.flatten()[lobes.sounding]
        found = update(found, tonal / lobes.bands(found).clamp_min(SMALLEST))
        hiss = ((bands - tonal) @ noise.T) / noise.square().sum(dim=1)
        weight = noise.sum(dim=1)
        tones = lobes.bands(found)
        for _ in range(2):
            ratio = bands / (tones + hiss @ noise).clamp_min(SMALLEST)
            found, hiss = update(found, ratio), hiss * (ratio @ noise.T) / weight
            tones = lobes.bands(found)
        rest, amplitudes = hiss @ noise, torch.zeros_like(frequencies).flatten()
        amplitudes = amplitudes.scatter(0, lobes.sounding, found).reshape(frequencies.shape)
        return amplitudes, bands * rest / (tones + rest).clamp_min(SMALLEST)


def triangles(bands: int, step: int = 5) -> Tensor:
    """Triangles `[n, bands]`, each `2 * step` bands wide, that sum to 1."""
    count = -(-(bands - 1) // step) + 1
    distance = (torch.arange(bands) - torch.arange(count)[:, None] * step).abs()
    return (1 - distance / step).clamp_min(0)
