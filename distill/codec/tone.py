"""Tones: what the codes of note, tuning and atom mean, and partials of them in the decoder's spectrum.

A frame's tone is a pitch (a MIDI note and sixteenths of a semitone) and an atom: a set of partials, as ratios to the
pitch, and how tonal each part of the spectrum is. Partials take their amplitudes from the decoded bands, their phases
go on from frame to frame, and they enter the spectrum that is inverted anyway, as lobes of its window (Rodet and
Depalle, "Spectral envelopes and inverse FFT synthesis", AES 1992).

Shapes: B batch, F code frames, T hops, S partial sets, K partials of a set, M mel bands.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from distill.codec.constants import ATOM, NOTE, NOTES, TUNING, TUNINGS
from distill.codec.spectral import SpectrogramConfig, mel_filterbank
from distill.seeds import STEP, mix

PARTIALS = 64  # of a set at most
FLOORS = ((0.03, 0.3, 5000.0), (0.1, 1.0, 2500.0), (0.3, 1.0, 8000.0))  # below and above so many Hz
HIGHEST, LOWEST = 0.475, 20.0  # share of the sample rate, Hz: partials beyond are left out
LOBE = 5  # bins to either side of a partial in the spectrum
SMOOTHING = 13  # bands to either side whose mean is a band's smooth level, or all if there are fewer
SMALLEST = 1e-6
VECTOR = 64  # values of a code's vector
AMPLITUDE_ROUNDS = 4
STEADY_HOPS, STEADY_SPREAD = 4, 0.3  # of the average over time; log10 of amplitudes that count as alike
GLIDE = 1.0  # semitones between frames, up to which pitch glides and phases go on
MATCH = 0.03  # of a partial's frequency: nearer ones go on where the atom or the note changes
START = (math.sqrt(5) - 1) / 2  # cycles: partial k begins at the phase START * k * k, which is not peaky


class Phases(NamedTuple):
    """Phases of the partials of frames, in cycles: `start[run] + ratio * elapsed`.

    `elapsed` `[B, T]` float64 are cycles of the pitch since the run began; `runs` `[B, F]` int64 index `start` `[n, K]`.
    """

    elapsed: Tensor
    runs: Tensor
    start: Tensor

    def frames(self, first: int, last: int, stack: int) -> "Phases":
        """Phases of frames `first` to `last`."""
        return Phases(self.elapsed[:, first * stack : last * stack], self.runs[:, first:last], self.start)


class ToneLayer(nn.Module):
    """What codes of note, tuning and atom sound like: partials, their share of each band, the comb that bands show."""

    ratios: Tensor  # [S, K] to the pitch, 0 where a set has no more partials
    amplitudes: Tensor  # [S, K], the largest is 1
    bank: Tensor  # [bins, M]
    fine_bank: Tensor  # [bins, fine M]

    def __init__(self, config: SpectrogramConfig, sets: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("ratios", torch.zeros(sets, PARTIALS))
        self.register_buffer("amplitudes", torch.zeros(sets, PARTIALS))
        for name, n_fft, bands in (
            ("bank", config.n_fft, config.n_mels),
            ("fine_bank", config.n_fft // 4, config.n_fine_mels),
        ):
            self.register_buffer(name, mel_filterbank(config.sample_rate, n_fft, bands), persistent=False)

    def pitches(self, codes: Tensor) -> Tensor:
        """Pitches `[B, F]` in semitones (MIDI) of codes `[B, F, Q]`, NaN where there is no tone."""
        pitch = codes[..., NOTE] + (codes[..., TUNING] - TUNINGS // 2) / TUNINGS
        return torch.where((codes[..., NOTE] > 0) & (codes[..., ATOM] > 0), pitch.double(), torch.nan)

    def sets(self, codes: Tensor) -> Tensor:
        """Indices `[B, F]` of the partial sets of codes `[B, F, Q]`; any where there is no tone."""
        return (codes[..., ATOM] - 1).clamp_min(0) // len(FLOORS)

    def phases(self, codes: Tensor) -> Phases:
        """Phases of all frames of codes `[B, F, Q]`, on the CPU, in one pass."""
        stack, codes = self.config.stack, codes.cpu()
        pitch, sets = self.pitches(codes), self.sets(codes)
        ratios = self.ratios.cpu().double()
        same = pitch.diff(dim=1).abs() <= GLIDE
        begins = nn.functional.pad(~(same & (sets[:, 1:] == sets[:, :-1])), (1, 0), value=True)
        hertz = torch.where(pitch.isnan()[..., None], 0.0, frequency(self._by_hop(pitch)).unflatten(1, (-1, stack)))
        seconds = self.config.hop_length / self.config.sample_rate
        cycles = hertz.flatten(1) * seconds  # [B, T] of each hop, as if pitch were constant in it
        total = cycles.cumsum(dim=1) - cycles / 2  # at its centre
        runs = begins.flatten().cumsum(0).reshape(begins.shape) - 1
        firsts = begins.flatten().nonzero()[:, 0]
        first_total = total[:, ::stack].flatten()[firsts]
        elapsed = total - first_total[runs].repeat_interleave(stack, dim=1)
        start = (START * torch.arange(1, PARTIALS + 1, dtype=torch.float64).square() % 1).repeat(len(firsts), 1)
        flat_pitch, flat_sets = pitch.flatten(), sets.flatten()
        # Only partials of neighbouring runs can go on.
        frames = pitch.shape[1]
        last_elapsed = elapsed[:, stack - 1 :: stack].flatten()
        last_hertz = hertz[:, :, -1].flatten()
        first_hertz = hertz[:, :, 0].flatten()
        for run, frame in enumerate(firsts.tolist()):
            if frame % frames == 0 or flat_pitch[frame].isnan() or flat_pitch[frame - 1].isnan():
                continue
            before, after = (
                ratios[flat_sets[frame - 1]] * last_hertz[frame - 1],
                ratios[flat_sets[frame]] * first_hertz[frame],
            )
            there = torch.where(before > 0, before, torch.inf)
            distance, nearest = (after[:, None] - there).abs().min(dim=1)
            goes_on = (distance < MATCH * after) & (after > 0)
            ended = start[run - 1][nearest] + ratios[flat_sets[frame - 1]][nearest] * last_elapsed[frame - 1]
            start[run] = torch.where(goes_on, (ended + (before[nearest] + after) * seconds / 2) % 1, start[run])
        return Phases(elapsed, runs, start)

    def _by_hop(self, pitch: Tensor) -> Tensor:
        """Pitches `[B, T]` of hops: between frames of a glide on a line between their centres."""
        stack = self.config.stack
        step = pitch.diff(dim=1)
        step = torch.where(step.abs() <= GLIDE, step, 0.0)
        before, after = nn.functional.pad(step, (1, 0)), nn.functional.pad(step, (0, 1))
        place = ((torch.arange(stack, device=pitch.device) + 0.5) / stack - 0.5).to(pitch)
        return (pitch[..., None] + torch.where(place < 0, before[..., None], after[..., None]) * place).flatten(1)

    def partials(self, codes: Tensor, phases: Phases) -> tuple[Tensor, Tensor, Tensor]:
        """Frequencies `[B, T, K]` (0: none), relative amplitudes and phases in cycles of codes `[B, F, Q]`."""
        stack = self.config.stack
        pitch, sets = self.pitches(codes), self.sets(codes).repeat_interleave(stack, dim=1)
        hertz = frequency(self._by_hop(pitch)).nan_to_num(0.0)
        ratios = self.ratios[sets]
        found = ratios * hertz[..., None].float()
        found = torch.where((found < HIGHEST * self.config.sample_rate) & (found > LOWEST), found, 0.0)
        start = phases.start[phases.runs].repeat_interleave(stack, dim=1)
        turns = (start + ratios.cpu().double() * phases.elapsed[..., None]) % 1
        return found, self.amplitudes[sets] * (found > 0), turns.to(found)

    def comb(self, codes: Tensor) -> Tensor:
        """Frequencies `[B, F, K]` in Hz of the partials of frames, 0 where there is none."""
        pitch, sets = self.pitches(codes), self.sets(codes)
        found = self.ratios[sets] * frequency(pitch).nan_to_num(0.0)[..., None].float()
        return torch.where((found < HIGHEST * self.config.sample_rate) & (found > LOWEST), found, 0.0)

    def floors(self, codes: Tensor, centres: Tensor) -> Tensor:
        """Noise beside the partials, `[B, F, M]`, as a share of the smooth level, at bands with `centres` `[M]` in Hz."""
        number = (codes[..., ATOM] - 1).clamp_min(0) % len(FLOORS)
        low, high, edge = torch.tensor(FLOORS, device=codes.device)[number].unbind(-1)
        return torch.where(centres < edge[..., None], low[..., None], high[..., None])

    def vectors(self) -> list[Tensor]:
        """Vectors `[V, VECTOR]` of the codes of note, tuning and atom, such that codes that sound alike are near."""
        notes = torch.arange(NOTES)
        one_hot = nn.functional.one_hot
        parts = [
            (notes == 0).float()[:, None] * 3,
            one_hot(notes % 12, 12) * (notes > 0)[:, None] * 2.0,
            one_hot(notes // 12, 11) * (notes > 0)[:, None] * 1.0,
            _waves(notes / NOTES, 12) * (notes > 0)[:, None],
        ]
        tunings = torch.arange(TUNINGS)
        tuning = [one_hot(tunings, TUNINGS).float(), _waves(tunings / TUNINGS, 12)]
        ratios, loud = self.ratios.cpu(), self.amplitudes.cpu().sqrt()
        place = (
            ((ratios.clamp_min(0.25).log2() + 1) * 6).round().long().clamp(0, 35)
        )  # whole tones from an octave below
        sets = torch.zeros(len(ratios), 36).scatter_reduce(1, place, loud * (ratios > 0), "amax")
        signs = _signs(len(ratios), 24)
        described = torch.cat([sets, signs], dim=1).repeat_interleave(len(FLOORS), dim=0)
        floors = one_hot(torch.arange(len(described)) % len(FLOORS), len(FLOORS)).float()
        atoms = torch.cat([torch.zeros(len(described), 1), floors, described], dim=1)
        none = one_hot(torch.tensor([0]), atoms.shape[1]) * 3.0
        tables = [torch.cat(parts, dim=1), torch.cat(tuning, dim=1), torch.cat([none, atoms])]
        return [
            nn.functional.pad(
                table / table.square().mean().sqrt() * (table.shape[1] / VECTOR) ** -0.5, (0, VECTOR - table.shape[1])
            )
            for table in tables
        ]

    def pattern(self, codes: Tensor, coarse: bool = False) -> Tensor:
        """Pattern `[B, F, features]` that a frame's comb leaves in its log-mel features, 0 where there is no tone.

        `coarse` gives that of one log-mel frame alone, `[B, F, M]`.
        """
        config, patterns = self.config, []
        for bank, n_fft, times in (
            (self.bank, config.n_fft, config.stack),
            (self.fine_bank, config.n_fft // 4, 2 * config.stack),
        )[: 1 if coarse else 2]:
            response, floor, mean = self._comb(codes, bank, n_fft)
            pattern = ((response + floor + SMALLEST) / (mean + floor + SMALLEST)).log10()
            patterns.append(pattern if coarse else pattern.repeat(1, 1, times))
        if coarse:
            return patterns[0]
        rest = config.features - sum(part.shape[-1] for part in patterns)
        return torch.cat([*patterns, patterns[0].new_zeros(*codes.shape[:2], rest)], dim=-1)

    def share(self, codes: Tensor) -> Tensor:
        """Share `[B, F, M]` of each band's amplitude that is tonal, as the atom says."""
        response, floor, _ = self._comb(codes, self.bank, self.config.n_fft)
        return response / (response + floor + SMALLEST)

    def _comb(self, codes: Tensor, bank: Tensor, n_fft: int) -> tuple[Tensor, Tensor, Tensor]:
        """Response of the bands to the partials, all of amplitude 1, the noise beside them, and the local mean."""
        found = self.comb(codes)
        response = lobes(found, (found > 0).float(), n_fft, self.config.sample_rate) @ bank
        mean = local_mean(response)
        centres = band_centres(self.config.sample_rate, bank.shape[1]).to(bank)
        return response, self.floors(codes, centres) * mean, mean


def local_mean(response: Tensor) -> Tensor:
    """Local means `[..., M]` over bands of responses `[..., M]`, which are mirrored beyond the ends."""
    reach = min(SMOOTHING, response.shape[-1] - 1)
    window = torch.hann_window(2 * reach + 3)[1:-1].to(response)
    flat = nn.functional.pad(response.flatten(0, -2)[:, None], (reach, reach), mode="reflect")
    return nn.functional.conv1d(flat, (window / window.sum())[None, None]).reshape(response.shape)


def _waves(place: Tensor, count: int) -> Tensor:
    """Cosines and sines `[n, 2 * count]` of places `[n]` from 0 to 1: near ones are alike."""
    angles = math.pi * (torch.arange(count) + 0.5) * place[:, None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _signs(rows: int, columns: int) -> Tensor:
    """Signs `[rows, columns]`, unlike in each row, the same everywhere."""
    words = mix(np.arange(1, rows * columns + 1, dtype=np.uint64) * np.uint64(STEP))
    return torch.from_numpy((words >> np.uint64(63)).astype(np.float32) * 2 - 1).reshape(rows, columns)


def atoms_of(sets: int) -> int:
    """Number of atoms of so many sets of partials, no tone among them."""
    return 1 + len(FLOORS) * sets


def frequency(pitch: Tensor) -> Tensor:
    """Frequencies in Hz of pitches in semitones (MIDI: 69 is 440 Hz)."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def band_centres(sample_rate: int, bands: int) -> Tensor:
    """Centres `[bands]` in Hz of mel filters."""
    top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    return 700.0 * (10.0 ** (torch.arange(1, bands + 1) / (bands + 1) * top / 2595.0) - 1.0)


def mel_place(frequencies: Tensor, config: SpectrogramConfig) -> Tensor:
    """Positions of frequencies in Hz among the centres of mel bands, 0 to less than `n_mels - 1`."""
    top = 2595.0 * math.log10(1.0 + config.sample_rate / 2 / 700.0)
    place = 2595.0 * (1 + frequencies / 700.0).log10() / top * (config.n_mels + 1) - 1
    return place.clamp(0, config.n_mels - 1.001)


def hann_transform(offset: Tensor) -> Tensor:
    """Transform of a Hann window at `offset` bins: 1 at 0, a half at 1."""
    x = torch.where(offset.abs() < 1e-4, 1e-4, offset)
    below = 1 - x * x
    return torch.where(below.abs() < 1e-4, 0.5, (math.pi * x).sin() / (math.pi * x * below))


def lobes(frequencies: Tensor, amplitudes: Tensor, n_fft: int, sample_rate: int) -> Tensor:
    """Magnitudes `[..., bins]` of partials `[..., K]` of an amplitude in a Hann window of `n_fft` samples."""
    place = frequencies * (n_fft / sample_rate)
    bins = place.floor()[..., None] + torch.arange(-1, 3, device=place.device)
    size = hann_transform(bins - place[..., None]).abs() * (amplitudes * (n_fft / 4))[..., None]
    found = frequencies.new_zeros(*frequencies.shape[:-1], n_fft // 2 + 1)
    index = bins.long().clamp(0, n_fft // 2)
    return found.scatter_add(-1, index.flatten(-2), size.flatten(-2))


def separated(
    frequencies: Tensor,
    relative: Tensor,
    bands: Tensor,
    share: Tensor,
    bank: Tensor,
    noise: Tensor,
    config: SpectrogramConfig,
) -> tuple[Tensor, Tensor]:
    """Amplitudes `[B, T, K]` of partials and what they leave of mel amplitudes `bands` `[B, T, M]`, `[B, T, M]`.

    Non-negative matrix factorisation (Lee and Seung 1999) with a column for each partial and broad bumps `noise` `[n, M]`
    for what is no partial, from the `relative` amplitudes and the `share` of each band that is tonal: where bands tell
    partials apart bands decide, elsewhere proportions stay.
    """
    n_fft = config.n_fft
    place = frequencies * (n_fft / config.sample_rate)
    bins = place.floor()[..., None] + torch.arange(-1, 3, device=place.device)
    size = hann_transform(bins - place[..., None]).abs() * (n_fft / 4) * (frequencies > 0)[..., None]
    index = bins.long().clamp(0, n_fft // 2).flatten(-2)
    shape = (*frequencies.shape[:-1], n_fft // 2 + 1)
    norm = (size * bank.sum(dim=1)[index].unflatten(-1, size.shape[-2:])).sum(dim=-1).clamp_min(SMALLEST)

    def response(found: Tensor) -> Tensor:
        spectrum = frequencies.new_zeros(shape).scatter_add(-1, index, (size * found[..., None]).flatten(-2))
        return torch.matmul(spectrum, bank)

    def update(found: Tensor, ratio: Tensor) -> Tensor:
        back = (ratio @ bank.T).gather(-1, index).unflatten(-1, size.shape[-2:])
        changed: Tensor = found * ((size * back).sum(dim=-1) / norm)
        return changed

    tonal = bands * share
    found = relative
    for _ in range(2):
        found = update(found, tonal / response(found).clamp_min(SMALLEST))
    hiss = ((bands - tonal) @ noise.T) / noise.square().sum(dim=1)
    weight = noise.sum(dim=1)
    tones = response(found)
    for _ in range(AMPLITUDE_ROUNDS):
        ratio = bands / (tones + hiss @ noise).clamp_min(SMALLEST)
        found, hiss = update(found, ratio), hiss * (ratio @ noise.T) / weight
        tones = response(found)
    rest = hiss @ noise
    return found, bands * rest / (tones + rest).clamp_min(SMALLEST)


def steadied(log_mel: Tensor, inside: Tensor | None = None) -> Tensor:
    """Log-mel frames `[B, T, M]` averaged over time where they are alike: a bilateral filter keeps attacks.

    Codes waver from frame to frame, and so would partials. `inside` `[T]` is 0 in gaps between sounds, which have no
    part in it, as what is beyond the ends.
    """
    reach = (STEADY_HOPS, STEADY_HOPS)
    padded = nn.functional.pad(log_mel.transpose(1, 2), reach)
    windows = padded.unfold(2, 2 * STEADY_HOPS + 1, 1).transpose(1, 2) - log_mel[..., None]  # [B, T, M, hops]
    place = torch.arange(-STEADY_HOPS, STEADY_HOPS + 1, device=log_mel.device) / (STEADY_HOPS + 1)
    is_sound = log_mel.new_ones(log_mel.shape[1]) if inside is None else inside
    kernel = (1 - place.square()) * nn.functional.pad(is_sound, reach).unfold(0, 2 * STEADY_HOPS + 1, 1)  # [T, hops]
    weights = kernel[:, None] * (-0.5 * (windows / STEADY_SPREAD).square()).exp()
    return log_mel + (weights * windows).sum(dim=-1) / weights.sum(dim=-1).clamp_min(SMALLEST)


def bumps(bands: int, step: int = 5) -> Tensor:
    """Triangles `[n, bands]`, each twice `step` bands wide, whose sum is 1."""
    count = -(-(bands - 1) // step) + 1
    return (1 - (torch.arange(bands) - torch.arange(count)[:, None] * step).abs() / step).clamp_min(0)


def spectrum_of(frequencies: Tensor, amplitudes: Tensor, phases: Tensor, config: SpectrogramConfig) -> Tensor:
    """Complex spectrum `[B, T, bins]` of partials in windows whose middles they have the phases at, in cycles."""
    n_fft = config.n_fft
    place = frequencies * (n_fft / config.sample_rate)
    bins = place.floor()[..., None] + torch.arange(1 - LOBE, LOBE + 1, device=place.device)
    index = bins.long()
    size = hann_transform(bins - place[..., None]) * (1 - 2 * (index % 2)) * (amplitudes * (n_fft / 4))[..., None]
    size = size * ((index >= 0) & (index <= n_fft // 2))
    turn = (2 * math.pi * phases)[..., None]
    index = index.clamp(0, n_fft // 2).flatten(-2)
    empty = frequencies.new_zeros(*frequencies.shape[:-1], n_fft // 2 + 1)
    return torch.complex(
        *(empty.scatter_add(-1, index, (size * wave).flatten(-2)) for wave in (turn.cos(), turn.sin()))
    )
