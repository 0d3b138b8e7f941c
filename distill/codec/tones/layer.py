"""Tones: what the codes of note, tuning and atom mean, and partials of them in the decoder's spectrum.

A frame's tone is a pitch (a MIDI note and sixteenths of a semitone) and an atom: a set of partials, as ratios to the
pitch, and a floor, how noisy each part of the spectrum is. Partials take their amplitudes from the decoded bands, their
phases go on from frame to frame, and they enter the spectrum that is inverted anyway, as lobes of its window (Rodet and
Depalle, "Spectral envelopes and inverse FFT synthesis", AES 1992).

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

PARTIALS = 128  # of a set at most
FLOORS = ((0.03, 0.3, 5000.0), (0.1, 1.0, 2500.0), (0.3, 1.0, 8000.0))  # share of noise below and above so many Hz
HIGHEST, LOWEST = 0.475, 20.0  # share of the sample rate, Hz: partials beyond are left out
SMALLEST = 1e-6  # of amplitudes, so that nothing is divided by 0
TRIANGLE_STEP = 5  # bands between the middles of triangles
# Of the averages of bands over time, one after another: hops to each side, and how much bands may differ, as log10.
STEADY = ((4, 0.5), (8, 0.3))
NOISE, TONE = 0.3, 0.9  # proportion of a hop's power in partials: up to which it is noise, from which on a tone
BASS = 150.0  # Hz, below which tones are low
HELD_FRAMES, HELD_SEMITONES = 2, 1.0  # to each side, by which the pitch of a held tone differs at most
GLIDE = 1.0  # semitones between frames, up to which pitch glides and phases go on
LOW = 60.0  # semitones (MIDI): tones below this one may begin as drums do, whose pitch falls
FALL, FALL_FRAMES = 14.0, 5  # by up to so many semitones from each of so many frames to the next
START = (math.sqrt(5) - 1) / 2  # cycles: partial k begins at the phase SINE + START * (k * k - 1), which is not peaky:
SINE = -0.25  # cycles: the first as a sine, at zero, as what is struck does
VECTOR = 64  # values of a code's vector
WAVES = 12  # cosines and sines of a vector, each
RATIO_CLASSES = 36  # of an atom's vector: whole tones from an octave below the pitch
SIGNS = 24  # of an atom's vector


class Combs(NamedTuple):
    """Responses of bands to the partials of frames, all of amplitude 1, and their local means, `[B, F, M]` each."""

    coarse: Tensor
    coarse_mean: Tensor
    fine: Tensor
    fine_mean: Tensor


class Tones(NamedTuple):
    """Partials of hops, and what they leave.

    `frequencies` in Hz (0: none), `amplitudes` and `phases` in cycles are `[B, T, K]`; `bands`, which is tonal, and
    `rest` are log10 mel amplitudes `[B, T, M]`; `toneless` `[B, T, M]` is the rest as a proportion of the bands. `tonal`
    and `low` `[B, T]` say from 0 to 1 how far a hop is a tone, and a low one that is held.
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
    """What codes of note, tuning and atom sound like: partials, their share of each band, the comb that bands show."""

    def __init__(self, config: SpectrogramConfig, sets: int) -> None:
        super().__init__()
        self.config = config
        self.ratios = nn.Buffer(torch.zeros(sets, PARTIALS))  # [S, K] to the pitch, 0 where a set has no more partials
        self.amplitudes = nn.Buffer(torch.zeros(sets, PARTIALS))  # [S, K], the largest is 1
        self.triangles = nn.Buffer(triangles(config.n_mels), persistent=False)  # [n, M]
        rate = config.sample_rate
        self.lobes = MelLobes(rate, config.n_fft, config.n_mels)
        self.fine_lobes = MelLobes(rate, config.n_fft // 4, config.n_fine_mels)
        self.centres = nn.Buffer(_centres(rate, config.n_mels), persistent=False)  # [M] Hz
        self.fine_centres = nn.Buffer(_centres(rate, config.n_fine_mels), persistent=False)  # [fine M] Hz
        self.noise_bands = nn.Buffer(between_bands(self.centres), persistent=False)  # [noise bands, M]

    def forward(
        self,
        log_mel: Tensor,
        tones: Tensor,
        combs: Combs,
        noise: Tensor,
        phases: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> Tones:
        """Partials of tones `[B, F, 3]`, with their combs, whose amplitudes come from log-mel frames `[B, T, M]` with combs.

        Beside them there is the `noise` `[B, F, noise bands]` of a noise floor, log10 of noise to tone. `phases` are those of the tones as of whole sounds if None; `inside` `[T]` is 0 in gaps between sounds. What is
        tonal is a matter of proportions, through which no gradient goes: that of the rest goes to the frames as it is.
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
        return Tones(frequencies, amplitudes, phases, log_parts, log_mel + rest.log10(), rest, tonal, low)

    def pitches(self, tones: Tensor) -> Tensor:
        """Pitches `[..., F]` in semitones (MIDI) of tones `[..., F, 3]`, NaN where there is no tone."""
        note, tuning, atom = tones.unbind(-1)
        pitch = steps_of(note, tuning).double() / TUNINGS
        return torch.where((note > 0) & (atom > 0), pitch, torch.nan)

    def transposed(self, tones: Tensor, semitones: float | Tensor) -> Tensor:
        """Tones `[..., F, 3]` moved by semitones, or by `[..., F]` of them; those beyond what can be coded are left out."""
        note, tuning, atom = tones.unbind(-1)
        steps = (torch.as_tensor(semitones, dtype=torch.float64) * TUNINGS).round().long()
        moved_note, moved_tuning = note_and_tuning(steps_of(note, tuning) + steps.to(tones.device))
        moved = torch.stack([moved_note, moved_tuning, atom], dim=-1)
        can_be_coded = (note > 0) & (moved_note > 0) & (moved_note < NOTES)
        return torch.where(can_be_coded[..., None], moved, 0)

    def sets(self, tones: Tensor) -> Tensor:
        """Indices `[..., F]` of the partial sets of tones `[..., F, 3]`; any where there is no tone."""
        return (tones[..., 2] - 1).clamp_min(0) // len(FLOORS)

    def floors(self, tones: Tensor) -> Tensor:
        """Numbers `[..., F]` of the floors of tones `[..., F, 3]`; any where there is no tone."""
        return (tones[..., 2] - 1).clamp_min(0) % len(FLOORS)

    def phases(self, tones: Tensor) -> Tensor:
        """Phases `[B, T, K]` in cycles of the partials of tones `[B, F, 3]` in the middles of hops, on the CPU, in one pass.

        A run is frames of one set whose pitch glides: its phases are running sums of the frequency. In the middle of its
        first frame that of the pitch is its tuning, as a share of all tunings, whatever it says of the pitch.
        """
        stack, tones = self.config.stack, tones.cpu()
        pitch, sets = self.pitches(tones), self.sets(tones)
        glides, _ = self.glides(pitch)
        begins = nn.functional.pad(~(glides & (sets[:, 1:] == sets[:, :-1])), (1, 0), value=True)
        hertz = hertz_of(by_hop(pitch, glides, stack)).unflatten(1, (-1, stack))
        hertz = torch.where(pitch.isnan()[..., None], 0.0, hertz)
        cycles = hertz.flatten(1) * (self.config.hop_length / self.config.sample_rate)  # [B, T] of each hop
        total = cycles.cumsum(dim=1) - cycles / 2  # to its middle
        runs = begins.flatten().cumsum(0).reshape(begins.shape) - 1
        firsts = begins.flatten().nonzero()[:, 0]
        elapsed = total - total[:, ::stack].flatten()[firsts][runs].repeat_interleave(stack, dim=1)
        ratios = self.ratios.cpu().double()[sets.flatten()]  # [B * F, K]
        hertz, last = hertz.flatten(0, 1), elapsed[:, stack - 1 :: stack].flatten()
        # In cycles of the pitch, from the middle of the first hop to that of the first frame.
        shares = (stack / 2 - torch.arange(stack)).clamp(0, 1).double()
        first_cycles = cycles.unflatten(1, (-1, stack)).flatten(0, 1)[firsts]  # [runs, stack]
        middle = first_cycles @ shares - first_cycles[:, 0] / 2
        start = (tones[..., 1].flatten()[firsts] / TUNINGS - middle)[:, None] * ratios[firsts]
        start = start + SINE + START * (torch.arange(1, PARTIALS + 1).double().square() - 1)
        for run, frame in enumerate(firsts.tolist()):
            if frame % pitch.shape[1] and hertz[frame - 1, -1] > 0 and hertz[frame, 0] > 0:
                ended = start[run - 1] + ratios[frame - 1] * last[frame - 1]
                before, after = ratios[frame - 1] * hertz[frame - 1, -1], ratios[frame] * hertz[frame, 0]
                start[run] = self._go_on(start[run], ended, before, after)
        start, ratios = start[runs], ratios.unflatten(0, pitch.shape)  # [B, F, K]
        hops = [((start + ratios * own[..., None]) % 1).float() for own in elapsed.unflatten(1, (-1, stack)).unbind(2)]
        return torch.stack(hops, dim=2).flatten(1, 2)

    def _go_on(self, start: Tensor, ended: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Phases of partials at frequencies `after`, `start` or what follows from a near one of `before` that `ended`.

        All are `[K]`, frequencies in Hz, 0 where there is no partial. Near is within 3 % of the frequency.
        """
        there = torch.where(before > 0, before, torch.inf)
        distance, nearest = (after[:, None] - there).abs().min(dim=1)
        seconds = self.config.hop_length / self.config.sample_rate
        goes_on = (distance < 0.03 * after) & (after > 0)
        return torch.where(goes_on, (ended[nearest] + (before[nearest] + after) * seconds / 2) % 1, start)

    def glides(self, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """Whether pitches `[B, F]` glide from each frame to the next, `[B, F - 1]`, and whether a tone begins in a frame.

        A tone begins after none, and after a lower one that is no beginning. Low ones glide faster as they begin.
        """
        step, is_tone = pitch.diff(dim=1), ~pitch.isnan()
        first = is_tone & nn.functional.pad(~is_tone[:, :-1], (1, 0), value=True)
        starts = first | nn.functional.pad((step > GLIDE) & ~_recent(first), (1, 0))
        is_low = torch.minimum(pitch[:, 1:], pitch[:, :-1]) < LOW
        glides = (step.abs() <= GLIDE) | (is_low & (step.abs() <= FALL) & _recent(starts))
        return glides, starts & ~nn.functional.pad(glides, (1, 0))

    def partials(self, tones: Tensor) -> tuple[Tensor, Tensor]:
        """Frequencies `[B, T, K]` in Hz (0: none) and relative amplitudes of the partials of tones `[B, F, 3]`."""
        sets = self.sets(tones).repeat_interleave(self.config.stack, dim=1)
        pitch = self.pitches(tones)
        frequencies = self._heard(sets, by_hop(pitch, self.glides(pitch)[0], self.config.stack))
        return frequencies, self.amplitudes[sets] * (frequencies > 0)

    def comb(self, tones: Tensor) -> Tensor:
        """Frequencies `[B, F, K]` in Hz of the partials of frames, 0 where there is none."""
        return self._heard(self.sets(tones), self.pitches(tones))

    def _heard(self, sets: Tensor, pitch: Tensor) -> Tensor:
        """Frequencies `[..., K]` in Hz of sets `[...]` at pitches `[...]`, 0 for too low or high ones, and for no tone."""
        hertz = self.ratios[sets] * hertz_of(pitch).nan_to_num(0.0)[..., None].float()
        return torch.where((hertz < HIGHEST * self.config.sample_rate) & (hertz > LOWEST), hertz, 0.0)

    def combs(self, tones: Tensor) -> Combs:
        """Combs of tones `[B, F, 3]`, whatever their floors; zeros where there is no tone."""
        hertz, both = self.comb(tones), []
        for lobes in (self.lobes, self.fine_lobes):
            found = lobes(hertz)
            response = found.bands(torch.ones_like(found.weights[:, 0]))
            both += [response, local_mean(response)]
        return Combs(*both)

    def coarse_patterns(self, combs: Combs) -> Tensor:
        """Patterns `[floors, B, F, M]` that frames' combs would leave in one of their log-mel frames with each floor."""
        numbers = torch.arange(len(FLOORS), device=combs.coarse.device)[:, None, None]
        return _pattern(combs.coarse, combs.coarse_mean, noise_share(numbers, self.centres))

    def pattern(self, tones: Tensor, combs: Combs) -> Tensor:
        """Pattern `[B, F, features]` that frames' combs leave in their log-mel features, 0 where there is no tone."""
        floors, stack = self.floors(tones), self.config.stack
        coarse = _pattern(combs.coarse, combs.coarse_mean, noise_share(floors, self.centres))
        fine = _pattern(combs.fine, combs.fine_mean, noise_share(floors, self.fine_centres))
        envelope = coarse.new_zeros(*tones.shape[:2], stack * self.config.envelope_steps)
        return torch.cat([coarse.repeat(1, 1, stack), fine.repeat(1, 1, 2 * stack), envelope], dim=-1)

    def share(self, combs: Combs, noise: Tensor) -> Tensor:
        """Share `[B, F, M]` of each band's amplitude that is tonal, beside noise `[B, F, noise bands]` as in `forward`."""
        beside = 10.0 ** (noise @ self.noise_bands) * combs.coarse_mean
        return combs.coarse / (combs.coarse + beside + SMALLEST)

    def separate(self, frequencies: Tensor, relative: Tensor, bands: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitudes `[B, T, K]` of partials at frequencies in Hz, and what they leave of mel amplitudes `bands`.

        Non-negative matrix factorisation (Lee and Seung 1999) with a column for each partial and triangles for what is
        no partial, from `relative` amplitudes `[B, T, K]` and the `share` `[B, T, M]` of bands `[B, T, M]` that is
        tonal: where bands tell partials apart bands decide, elsewhere proportions stay.
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
        """Vectors `[V, VECTOR]` of the codes of note, tuning and atom, such that codes that sound alike are near."""
        return [_scaled(table) for table in (_note_vectors(), _tuning_vectors(), self._atom_vectors())]

    def _atom_vectors(self) -> Tensor:
        """No tone; of each atom its floor, how loud its partials are by ratio, and signs that tell sets apart."""
        ratios, loud = self.ratios.cpu(), self.amplitudes.cpu().sqrt()
        classes = ((ratios.clamp_min(0.25).log2() + 1) * 6).round().long().clamp(0, RATIO_CLASSES - 1)
        spectra = torch.zeros(len(ratios), RATIO_CLASSES).scatter_reduce(1, classes, loud * (ratios > 0), "amax")
        sets = torch.cat([spectra, _signs(len(ratios), SIGNS)], dim=1).repeat_interleave(len(FLOORS), dim=0)
        floors = nn.functional.one_hot(torch.arange(len(sets)) % len(FLOORS), len(FLOORS)).float()
        atoms = torch.cat([torch.zeros(len(sets), 1), floors, sets], dim=1)
        none = nn.functional.one_hot(torch.tensor([0]), atoms.shape[1]) * 3.0
        return torch.cat([none, atoms])


def _note_vectors() -> Tensor:
    """No tone; of each note its pitch class, octave and height."""
    notes = torch.arange(NOTES)
    is_note = (notes > 0)[:, None]
    classes, octaves = nn.functional.one_hot(notes % 12, 12), nn.functional.one_hot(notes // 12, 11)
    height = _waves(notes / NOTES)
    return torch.cat([~is_note * 3.0, classes * is_note * 2.0, octaves * is_note * 1.0, height * is_note], dim=1)


def _tuning_vectors() -> Tensor:
    """Each tuning by itself, and near ones alike."""
    tunings = torch.arange(TUNINGS)
    return torch.cat([nn.functional.one_hot(tunings, TUNINGS).float(), _waves(tunings / TUNINGS)], dim=1)


def _scaled(table: Tensor) -> Tensor:
    """A table `[V, n]` as `[V, VECTOR]` with mean square 1."""
    scaled = table / table.square().mean().sqrt() * (table.shape[1] / VECTOR) ** -0.5
    return nn.functional.pad(scaled, (0, VECTOR - table.shape[1]))


def _pattern(response: Tensor, mean: Tensor, noise: Tensor) -> Tensor:
    """Log10 of what bands with partials and this share of noise have, relative to bands with their local mean."""
    floor = noise * mean
    return ((response + floor + SMALLEST) / (mean + floor + SMALLEST)).log10()


def noise_share(number: Tensor, centres: Tensor) -> Tensor:
    """Noise `[..., M]` in bands with such centres in Hz, as a share of what is tonal there, of floors `[...]`."""
    low, high, edge = torch.tensor(FLOORS, device=number.device)[number].unbind(-1)
    return torch.where(centres < edge[..., None], low[..., None], high[..., None])


def local_mean(response: Tensor) -> Tensor:
    """Local means `[..., M]` over 13 bands to either side of responses `[..., M]`, which are mirrored beyond the ends."""
    reach = min(13, response.shape[-1] - 1)
    window = torch.hann_window(2 * reach + 3)[1:-1].to(response)
    flat = nn.functional.pad(response.flatten(0, -2)[:, None], (reach, reach), mode="reflect")
    return nn.functional.conv1d(flat, (window / window.sum())[None, None]).reshape(response.shape)


def held_lows(pitch: Tensor) -> Tensor:
    """How far pitches `[B, F]` are low, 0 to 1, and stay for some frames; a beginning does not."""
    near = nn.functional.pad(pitch, (HELD_FRAMES, HELD_FRAMES), value=torch.nan).unfold(1, 2 * HELD_FRAMES + 1, 1)
    is_held = near.amax(dim=2) - near.amin(dim=2) < HELD_SEMITONES  # not where one is NaN
    return ((2 - hertz_of(pitch) / (BASS / 2)).clamp(0, 1).nan_to_num(0.0) * is_held).float()


def between_bands(centres: Tensor) -> Tensor:
    """Weights `[noise bands, M]` with which bands of these centres in Hz lie between the middles of a noise floor's bands."""
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
    """Cosines and sines `[n, 2 * WAVES]` of positions `[n]` from 0 to 1: near ones are alike."""
    angles = math.pi * (torch.arange(WAVES) + 0.5) * position[:, None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _signs(rows: int, columns: int) -> Tensor:
    """Signs `[rows, columns]`, unlike in each row, the same everywhere."""
    words = mix(np.arange(1, rows * columns + 1, dtype=np.uint64) * np.uint64(STEP))
    return torch.from_numpy((words >> np.uint64(63)).astype(np.float32) * 2 - 1).reshape(rows, columns)


def _recent(frames: Tensor) -> Tensor:
    """Whether one of a few frames before each but the first is one of `frames` `[B, F]`: `[B, F - 1]`."""
    return nn.functional.pad(frames, (FALL_FRAMES, 0)).unfold(1, FALL_FRAMES, 1).any(dim=2)[:, 1:-1]


def by_hop(pitch: Tensor, glides: Tensor, stack: int) -> Tensor:
    """Pitches `[B, T]` of hops, of `[B, F]` that glide or do not, `[B, F - 1]`.

    In a glide they are on a line between the middles of frames, which before its first middle goes on.
    """
    step = torch.where(glides, pitch.diff(dim=1), 0.0)
    before, after = nn.functional.pad(step, (1, 0)), nn.functional.pad(step, (0, 1))
    before = torch.where(nn.functional.pad(glides, (1, 0)), before, after)
    offset = ((torch.arange(stack, device=pitch.device) + 0.5) / stack - 0.5).to(pitch)
    return (pitch[..., None] + torch.where(offset < 0, before[..., None], after[..., None]) * offset).flatten(1)


def steps_of(note: Tensor, tuning: Tensor) -> Tensor:
    """Pitches of codes of note and tuning in steps of tuning, a sixteenth of a semitone."""
    return note * TUNINGS + tuning - TUNINGS // 2


def note_and_tuning(steps: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of note and tuning of pitches in steps of tuning."""
    steps = steps + TUNINGS // 2
    return steps // TUNINGS, steps % TUNINGS


def atoms_of(sets: int) -> int:
    """Number of atoms of so many sets of partials, no tone among them."""
    return 1 + len(FLOORS) * sets


def band_position(frequencies: Tensor, config: SpectrogramConfig) -> Tensor:
    """Positions of frequencies in Hz among the centres of mel bands, 0 to less than `n_mels - 1`."""
    mel = MEL_FACTOR * (1 + frequencies / MEL_CORNER_HERTZ).log10()
    position = mel / highest_mel(config.sample_rate) * (config.n_mels + 1) - 1
    return position.clamp(0.0, config.n_mels - 1.001)


def triangles(bands: int) -> Tensor:
    """Triangles `[n, bands]`, each twice `TRIANGLE_STEP` bands wide, whose sum is 1."""
    count = -(-(bands - 1) // TRIANGLE_STEP) + 1
    distance = (torch.arange(bands) - torch.arange(count)[:, None] * TRIANGLE_STEP).abs()
    return (1 - distance / TRIANGLE_STEP).clamp_min(0)
