"""Tone layer: turn the codes of note, fine pitch and partial set into partials in the decoder's spectrum.

A frame's tone is a pitch (a MIDI note and sixteenths of a semitone) and a partial-set code. The code names a set of
partials, as ratios to the pitch, and a noise floor. Partials take their amplitudes from the decoded bands, and their
phases continue from frame to frame. They are added to the decoder's spectrum as lobes of its window (Rodet and Depalle,
"Spectral envelopes and inverse FFT synthesis", AES 1992).

Shapes: B batch, F code frames, T hops, S partial sets, K partials of a set, M mel bands.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distill.audio.noise_floor import MIDDLES
from distill.codec.envelope import LOG_FLOOR
from distill.codec.layout import NOTES, TUNINGS
from distill.codec.scales import MEL_CORNER_HERTZ, MEL_FACTOR, band_centres, highest_mel
from distill.codec.scales import hertz as hertz_of
from distill.codec.spectral import MAX_LOG_MEL, SpectrogramConfig
from distill.codec.steady import steady
from distill.codec.tones.lobes import MelLobes
from distill.seeds import STEP, mix

PARTIALS = 128  # maximum in a set
FLOORS = (
    (0.03, 0.3, 5000.0),
    (0.1, 1.0, 2500.0),
    (0.3, 1.0, 8000.0),
)  # noise to tone below, above an edge; edge (Hz)
HIGHEST, LOWEST = (
    0.475,
    20.0,
)  # proportion of the sample rate, Hz: partials beyond these are left out
SMALLEST = 1e-6  # amplitude added or clamped to, against division by 0
TRIANGLE_STEP = 5  # bands between the peaks of triangles
# Two averages of bands over time, applied in turn: hops to each side, and the largest difference in log10.
STEADY = ((4, 0.5), (8, 0.3))
NOISE, TONE = (
    0.3,
    0.9,
)  # proportion of a hop's power in partials: noise up to the first, a tone from the second
BASS = 150.0  # Hz; tones below are low
HELD_FRAMES, HELD_SEMITONES = (
    2,
    1.0,
)  # a held tone stays within this range for these frames to each side
GLIDE = 1.0  # semitones between frames: up to this, the pitch glides and phases continue
LOW = 60.0  # semitones (MIDI): tones below may begin like drums, with a falling pitch
FALL, FALL_FRAMES = 14.0, 5  # largest semitones per frame of that fall, and the frames it may last
START = (
    math.sqrt(5) - 1
) / 2  # cycles: partial k starts at SINE + START * (k * k - 1), for a low crest factor
SINE = -0.25  # cycles: the first partial starts as a sine, at zero, like a struck string
VECTOR = 64  # size of a code's vector
WAVES = 12  # cosines in a vector, and sines
RATIO_CLASSES = 36  # in the vector of a partial set: whole tones from an octave below the pitch
SIGNS = 24  # in the vector of a partial set


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
        self.centres = nn.Buffer(_centres(rate, config.n_mels), persistent=False)  # [M] Hz
        self.fine_centres = nn.Buffer(
            _centres(rate, config.n_fine_mels), persistent=False
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
        glides, _ = self.glides(pitch)
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

    def glides(self, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of glides to the next frame `[B, F - 1]`, and of tone onsets `[B, F]`, for pitches `[B, F]`.

        A tone starts after a frame without a tone, or after an upward jump that is not part of a recent onset.
        Low tones may glide faster just after their onset.
        """
        step, is_tone = pitch.diff(dim=1), ~pitch.isnan()
        first = is_tone & nn.functional.pad(~is_tone[:, :-1], (1, 0), value=True)
        starts = first | nn.functional.pad((step > GLIDE) & ~_recent(first), (1, 0))
        is_low = torch.minimum(pitch[:, 1:], pitch[:, :-1]) < LOW
        glides = (step.abs() <= GLIDE) | (is_low & (step.abs() <= FALL) & _recent(starts))
        return glides, starts & ~nn.functional.pad(glides, (1, 0))

    def partials(self, tones: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies in Hz (0: no partial) and relative amplitudes, `[B, T, K]` each, of tones `[B, F, 3]`."""
        sets = self.sets(tones).repeat_interleave(self.config.stack, dim=1)
        pitch = self.pitches(tones)
        frequencies = self._heard(sets, by_hop(pitch, self.glides(pitch)[0], self.config.stack))
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
        return _pattern(combs.coarse, combs.coarse_mean, noise_share(numbers, self.centres))

    def pattern(self, tones: Tensor, combs: Combs) -> Tensor:
        """Pattern `[B, F, features]` that combs leave in log-mel features, 0 without a tone."""
        floors, stack = self.floors(tones), self.config.stack
        coarse = _pattern(combs.coarse, combs.coarse_mean, noise_share(floors, self.centres))
        fine = _pattern(combs.fine, combs.fine_mean, noise_share(floors, self.fine_centres))
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
            _scaled(table) for table in (_note_vectors(), _tuning_vectors(), self._atom_vectors())
        ]

    def _atom_vectors(self) -> Tensor:
        """Vectors of partial-set codes: no tone, or a floor, loudness by ratio, and random signs that separate sets."""
        ratios, loud = self.ratios.cpu(), self.amplitudes.cpu().sqrt()
        classes = (
            ((ratios.clamp_min(0.25).log2() + 1) * 6).round().long().clamp(0, RATIO_CLASSES - 1)
        )
        spectra = torch.zeros(len(ratios), RATIO_CLASSES).scatter_reduce(
            1, classes, loud * (ratios > 0), "amax"
        )
        sets = torch.cat([spectra, _signs(len(ratios), SIGNS)], dim=1).repeat_interleave(
            len(FLOORS), dim=0
        )
        floors = nn.functional.one_hot(torch.arange(len(sets)) % len(FLOORS), len(FLOORS)).float()
        atoms = torch.cat([torch.zeros(len(sets), 1), floors, sets], dim=1)
        none = nn.functional.one_hot(torch.tensor([0]), atoms.shape[1]) * 3.0
        return torch.cat([none, atoms])


def _note_vectors() -> Tensor:
    """Vectors of notes: no tone, or pitch class, octave and height."""
    notes = torch.arange(NOTES)
    is_note = (notes > 0)[:, None]
    classes, octaves = nn.functional.one_hot(notes % 12, 12), nn.functional.one_hot(notes // 12, 11)
    height = _waves(notes / NOTES)
    return torch.cat(
        [~is_note * 3.0, classes * is_note * 2.0, octaves * is_note * 1.0, height * is_note], dim=1
    )


def _tuning_vectors() -> Tensor:
    """Vectors of fine pitches: a one-hot part, and a part that is similar for near pitches."""
    tunings = torch.arange(TUNINGS)
    return torch.cat(
        [nn.functional.one_hot(tunings, TUNINGS).float(), _waves(tunings / TUNINGS)], dim=1
    )


def _scaled(table: Tensor) -> Tensor:
    """Scale a table `[V, n]` to mean square 1 and pad it to `[V, VECTOR]`."""
    scaled = table / table.square().mean().sqrt() * (table.shape[1] / VECTOR) ** -0.5
    return nn.functional.pad(scaled, (0, VECTOR - table.shape[1]))


def _pattern(response: Tensor, mean: Tensor, noise: Tensor) -> Tensor:
    """Log10 of bands with partials and noise (a proportion of the mean), relative to bands with their local mean."""
    floor = noise * mean
    return ((response + floor + SMALLEST) / (mean + floor + SMALLEST)).log10()


def noise_share(number: Tensor, centres: Tensor) -> Tensor:
    """Ratio of noise to tone `[..., M]` in bands with these centres in Hz, for floor indices `number` `[...]`."""
    low, high, edge = torch.tensor(FLOORS, device=number.device)[number].unbind(-1)
    return torch.where(centres < edge[..., None], low[..., None], high[..., None])


def local_mean(response: Tensor) -> Tensor:
    """Local means `[..., M]` of responses `[..., M]`: a Hann window of 13 bands to each side, mirrored at the ends."""
    reach = min(13, response.shape[-1] - 1)
    window = torch.hann_window(2 * reach + 3)[1:-1].to(response)
    flat = nn.functional.pad(response.flatten(0, -2)[:, None], (reach, reach), mode="reflect")
    return nn.functional.conv1d(flat, (window / window.sum())[None, None]).reshape(response.shape)


def held_lows(pitch: Tensor) -> Tensor:
    """Rate pitches `[B, F]` as held low tones, 0 to 1: low, and steady for `HELD_FRAMES` to each side."""
    near = nn.functional.pad(pitch, (HELD_FRAMES, HELD_FRAMES), value=torch.nan).unfold(
        1, 2 * HELD_FRAMES + 1, 1
    )
    is_held = near.amax(dim=2) - near.amin(dim=2) < HELD_SEMITONES  # False if any is NaN
    return ((2 - hertz_of(pitch) / (BASS / 2)).clamp(0, 1).nan_to_num(0.0) * is_held).float()


def between_bands(centres: Tensor) -> Tensor:
    """Linear interpolation weights `[noise bands, M]` over log frequency, from noise-floor bands to `centres` in Hz."""
    middles = torch.from_numpy(MIDDLES).log()
    octave = centres.clamp(MIDDLES[0], MIDDLES[-1]).log()
    after = torch.searchsorted(middles, octave).clamp(1, len(middles) - 1)
    share = (octave - middles[after - 1]) / (middles[after] - middles[after - 1])
    rows = torch.arange(len(middles))[:, None]
    return (rows == after) * share + (rows == after - 1) * (1 - share)


def _centres(sample_rate: int, bands: int) -> Tensor:
    """Centres `[bands]` of mel bands in Hz."""
    return torch.from_numpy(band_centres(sample_rate, bands)).float()


def _waves(position: Tensor) -> Tensor:
    """Cosines and sines `[n, 2 * WAVES]` of positions `[n]` from 0 to 1; near positions have similar rows."""
    angles = math.pi * (torch.arange(WAVES) + 0.5) * position[:, None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _signs(rows: int, columns: int) -> Tensor:
    """Pseudo-random signs `[rows, columns]`, the same on every machine."""
    words = mix(np.arange(1, rows * columns + 1, dtype=np.uint64) * np.uint64(STEP))
    return torch.from_numpy((words >> np.uint64(63)).astype(np.float32) * 2 - 1).reshape(
        rows, columns
    )


def _recent(frames: Tensor) -> Tensor:
    """Mask `[B, F - 1]`, from the second frame on: whether `frames` `[B, F]` is true in the `FALL_FRAMES` before."""
    return nn.functional.pad(frames, (FALL_FRAMES, 0)).unfold(1, FALL_FRAMES, 1).any(dim=2)[:, 1:-1]


def by_hop(pitch: Tensor, glides: Tensor, stack: int) -> Tensor:
    """Interpolate pitches `[B, F]` to hops `[B, T]`; `glides` `[B, F - 1]` marks glides to the next frame.

    In a glide the pitch is linear between the middles of frames; before the first middle the line is extended.
    """
    step = torch.where(glides, pitch.diff(dim=1), 0.0)
    before, after = nn.functional.pad(step, (1, 0)), nn.functional.pad(step, (0, 1))
    before = torch.where(nn.functional.pad(glides, (1, 0)), before, after)
    offset = ((torch.arange(stack, device=pitch.device) + 0.5) / stack - 0.5).to(pitch)
    return (
        pitch[..., None] + torch.where(offset < 0, before[..., None], after[..., None]) * offset
    ).flatten(1)


def steps_of(note: Tensor, tuning: Tensor) -> Tensor:
    """Pitches in sixteenths of a semitone from codes of note and fine pitch."""
    return note * TUNINGS + tuning - TUNINGS // 2


def note_and_tuning(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of note and fine pitch from pitches in sixteenths of a semitone."""
    steps = steps + TUNINGS // 2
    return steps // TUNINGS, steps % TUNINGS


def atoms_of(sets: int) -> int:
    """Number of partial-set codes for this number of partial sets, including the code for no tone."""
    return 1 + len(FLOORS) * sets


def band_position(frequencies: Tensor, config: SpectrogramConfig) -> Tensor:
    """Positions of frequencies in Hz among the centres of mel bands, 0 to less than `n_mels - 1`."""
    mel = MEL_FACTOR * (1 + frequencies / MEL_CORNER_HERTZ).log10()
    position = mel / highest_mel(config.sample_rate) * (config.n_mels + 1) - 1
    return position.clamp(0.0, config.n_mels - 1.001)


def triangles(bands: int) -> Tensor:
    """Triangles `[n, bands]`, each `2 * TRIANGLE_STEP` bands wide, that sum to 1."""
    count = -(-(bands - 1) // TRIANGLE_STEP) + 1
    distance = (torch.arange(bands) - torch.arange(count)[:, None] * TRIANGLE_STEP).abs()
    return (1 - distance / TRIANGLE_STEP).clamp_min(0)
