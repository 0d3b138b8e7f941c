"""Tone layer: turn the codes of note, fine pitch and partial set into partials in the decoder's spectrum.

A frame's tone is a pitch (a MIDI note and sixteenths of a semitone) and a partial-set code. The code names a set of
partials, as ratios to the pitch, and a noise floor. Partials take their amplitudes from the decoded bands, and their
phases continue from frame to frame. They are added to the decoder's spectrum as lobes of its window (Rodet and Depalle,
"Spectral envelopes and inverse FFT synthesis", AES 1992).

Shapes: B batch, F code frames, T hops, S partial sets, K partials of a set, M mel bands.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.codec.envelope import LOG_FLOOR
from distill.codec.layout import NOTES, TUNINGS
from distill.codec.scales import hertz as hertz_of
from distill.codec.spectral import MAX_LOG_MEL, SpectrogramConfig
from distill.codec.steady import steady
from distill.codec.tones.bands import (
    SMALLEST,
    between_bands,
    centres_of,
    comb_pattern,
    local_mean,
    noise_share,
    triangles,
)
from distill.codec.tones.codes import FLOORS, PARTIALS, note_and_tuning, steps_of
from distill.codec.tones.glides import by_hop, glides_of, held_lows
from distill.codec.tones.lobes import MelLobes
from distill.codec.tones.vectors import (
    note_vectors,
    partial_set_vectors,
    scaled,
    tuning_vectors,
)

# Proportion of the sample rate, Hz: partials beyond these are left out
HIGHEST, LOWEST = 0.475, 20.0


# Two averages of bands over time, applied in turn: hops to each side, and the largest difference in log10.
STEADY = ((4, 0.5), (8, 0.3))


# Proportion of a hop's power in partials: noise up to the first, a tone from the second
NOISE, TONE = 0.3, 0.9
START = (
    math.sqrt(5) - 1
) / 2  # cycles: partial k starts at SINE + START * (k * k - 1), for a low crest factor
SINE = -0.25  # cycles: the first partial starts as a sine, at zero, like a struck string


class Combs(NamedTuple):
    """Band responses to partials of amplitude 1, and their local means, `[B, F, M]` each."""

    coarse: Tensor
    coarse_mean: Tensor
    fine: Tensor
    fine_mean: Tensor


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
        rate = config.sample_rate
        self.lobes = MelLobes(rate, config.n_fft, config.n_mels)
        self.fine_lobes = MelLobes(rate, config.n_fft // 4, config.n_fine_mels)
        self.centres = nn.Buffer(centres_of(rate, config.n_mels), persistent=False)  # [M] Hz
        self.fine_centres = nn.Buffer(
            centres_of(rate, config.n_fine_mels), persistent=False
        )  # [fine M] Hz
        self.noise_bands = nn.Buffer(
            between_bands(self.centres), persistent=False
        )  # [noise bands, M]

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
            share = self.share(combs, noise).repeat_interleave(self.config.stack, dim=1)
            averaged = log_mel
            for hops, spread in STEADY:
                averaged = steady(averaged, hops, spread, inside)
            bands = 10.0 ** averaged.clamp_max(MAX_LOG_MEL)
            amplitudes, rest = self.separate(frequencies, relative, bands, share)
            rest = (rest / bands.clamp_min(LOG_FLOOR)).clamp(1e-5, 1.0)
            parts = bands * (1 - rest)
            power = parts.square().sum(dim=-1) / bands.square().sum(dim=-1).clamp_min(LOG_FLOOR**2)
            tonal = ((power - NOISE) / (TONE - NOISE)).clamp(0, 1)
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
        """Phases `[B, T, K]` in cycles, in the middles of hops, of the partials of tones `[B, F, 3]`; on the CPU.

        A run is a sequence of frames with one partial set and a gliding pitch. Its phases are cumulative sums of the
        frequency. The fine-pitch code of its first frame also sets the phase in the middle of that frame, as a
        proportion of a cycle of the pitch.
        """
        stack, tones = self.config.stack, tones.cpu()
        pitch, sets = self.pitches(tones), self.sets(tones)
        glides, _ = glides_of(pitch)
        begins = nn.functional.pad(~(glides & (sets[:, 1:] == sets[:, :-1])), (1, 0), value=True)
        hertz = hertz_of(by_hop(pitch, glides, stack)).unflatten(1, (-1, stack))
        hertz = torch.where(pitch.isnan()[..., None], 0.0, hertz)
        cycles = hertz.flatten(1) * (
            self.config.hop_length / self.config.sample_rate
        )  # [B, T] in each hop
        total = cycles.cumsum(dim=1) - cycles / 2  # up to the middle of each hop
        runs = begins.flatten().cumsum(0).reshape(begins.shape) - 1
        firsts = begins.flatten().nonzero()[:, 0]
        elapsed = total - total[:, ::stack].flatten()[firsts][runs].repeat_interleave(stack, dim=1)
        ratios = self.ratios.cpu().double()[sets.flatten()]  # [B * F, K]
        hertz, last = hertz.flatten(0, 1), elapsed[:, stack - 1 :: stack].flatten()
        # Cycles of the pitch from the middle of the first hop to the middle of the first frame.
        shares = (stack / 2 - torch.arange(stack)).clamp(0, 1).double()
        first_cycles = cycles.unflatten(1, (-1, stack)).flatten(0, 1)[firsts]  # [runs, stack]
        middle = first_cycles @ shares - first_cycles[:, 0] / 2
        start = (tones[..., 1].flatten()[firsts] / TUNINGS - middle)[:, None] * ratios[firsts]
        start = start + SINE + START * (torch.arange(1, PARTIALS + 1).double().square() - 1)
        for run, frame in enumerate(firsts.tolist()):
            if frame % pitch.shape[1] and hertz[frame - 1, -1] > 0 and hertz[frame, 0] > 0:
                ended = start[run - 1] + ratios[frame - 1] * last[frame - 1]
                before, after = (
                    ratios[frame - 1] * hertz[frame - 1, -1],
                    ratios[frame] * hertz[frame, 0],
                )
                start[run] = self._go_on(start[run], ended, before, after)
        start, ratios = start[runs], ratios.unflatten(0, pitch.shape)  # [B, F, K]
        hops = [
            ((start + ratios * own[..., None]) % 1).float()
            for own in elapsed.unflatten(1, (-1, stack)).unbind(2)
        ]
        return torch.stack(hops, dim=2).flatten(1, 2)

    def _go_on(self, start: Tensor, ended: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Phases of a run's first hop: continue the nearest partial of the run before, or use `start`.

        `before` and `after` are frequencies in Hz on either side (0: no partial), `ended` the phases at the end of the
        run before; all are `[K]`. A partial continues if its frequency changes by less than 3 %.
        """
        there = torch.where(before > 0, before, torch.inf)
        distance, nearest = (after[:, None] - there).abs().min(dim=1)
        seconds = self.config.hop_length / self.config.sample_rate
        goes_on = (distance < 0.03 * after) & (after > 0)
        return torch.where(
            goes_on, (ended[nearest] + (before[nearest] + after) * seconds / 2) % 1, start
        )

    def partials(self, tones: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies in Hz (0: no partial) and relative amplitudes, `[B, T, K]` each, of tones `[B, F, 3]`."""
        sets = self.sets(tones).repeat_interleave(self.config.stack, dim=1)
        pitch = self.pitches(tones)
        frequencies = self._heard(sets, by_hop(pitch, glides_of(pitch)[0], self.config.stack))
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
        hertz, both = self.comb(tones), []
        for lobes in (self.lobes, self.fine_lobes):
            found = lobes(hertz)
            response = found.bands(torch.ones_like(found.weights[:, 0]))
            both += [response, local_mean(response)]
        return Combs(*both)

    def coarse_patterns(self, combs: Combs) -> Tensor:
        """Patterns `[floors, B, F, M]` that combs would leave in a log-mel hop, for each noise floor."""
        numbers = torch.arange(len(FLOORS), device=combs.coarse.device)[:, None, None]
        return comb_pattern(combs.coarse, combs.coarse_mean, noise_share(numbers, self.centres))

    def pattern(self, tones: Tensor, combs: Combs) -> Tensor:
        """Pattern `[B, F, features]` that combs leave in log-mel features, 0 without a tone."""
        floors, stack = self.floors(tones), self.config.stack
        coarse = comb_pattern(combs.coarse, combs.coarse_mean, noise_share(floors, self.centres))
        fine = comb_pattern(combs.fine, combs.fine_mean, noise_share(floors, self.fine_centres))
        envelope = coarse.new_zeros(*tones.shape[:2], stack * self.config.envelope_steps)
        return torch.cat(
            [coarse.repeat(1, 1, stack), fine.repeat(1, 1, 2 * stack), envelope], dim=-1
        )

    def share(self, combs: Combs, noise: Tensor) -> Tensor:
        """Tonal proportion `[B, F, M]` of each band's amplitude, given `noise` as in `forward`."""
        beside = 10.0 ** (noise @ self.noise_bands) * combs.coarse_mean
        return combs.coarse / (combs.coarse + beside + SMALLEST)

    def separate(
        self, frequencies: Tensor, relative: Tensor, bands: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Split mel amplitudes `bands` `[B, T, M]` into partials and the rest: amplitudes `[B, T, K]`, rest `[B, T, M]`.

        Non-negative matrix factorisation (Lee and Seung 1999) with a column for each partial and triangular columns for
        the rest. It starts from `relative` amplitudes `[B, T, K]` and the tonal proportion `share` `[B, T, M]`.
        Partials that bands resolve are fitted; the others keep their relative amplitudes.
        """
        noise, lobes = self.triangles, self.lobes(frequencies)
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

    def vectors(self) -> list[Tensor]:
        """Vectors `[V, VECTOR]` for the codes of note, fine pitch and partial set, near for similar sounds."""
        return [
            scaled(table)
            for table in (
                note_vectors(),
                tuning_vectors(),
                partial_set_vectors(self.ratios, self.amplitudes),
            )
        ]
