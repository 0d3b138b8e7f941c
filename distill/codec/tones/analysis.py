"""Analysis of tones: find the note, fine pitch and partial set that explain most of a frame's partials.

A frame's partials are peaks of a spectrum with a long window. A partial set at a pitch scores the weights of the peaks
that it explains, minus a penalty for each missing peak. For pitches that glide too fast for this window, or are too
low, harmonic candidates come from periods. Sets and pitches of neighbouring frames are chosen together.

Scores of partials are held in a grid over log2 of frequency; the score of a set at a pitch is a sum of its cells.

Shapes: B batch, F frames, P peaks, S partial sets, K partials, C candidates.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.audio.measure import peak_offset
from distill.codec.layout import NOTES, TUNINGS
from distill.codec.scales import (
    FOUND_STEPS,
    PEAK_CENTS,
    TUNED_CENTS,
    TUNING_CENTS,
    octaves,
    semitones,
)
from distill.codec.spectral import SpectrogramConfig, band_position, windowed
from distill.codec.tones.codes import FLOORS, note_and_tuning
from distill.codec.tones.combs import Combs, noise_share
from distill.codec.tones.layer import HIGHEST, LOWEST, ToneLayer
from distill.codec.tones.periods import BASSES, VOICES, PeriodAnalysis
from distill.codec.tones.phase import FRAMES, PhaseFit

RANGE_DB = 45.0  # below the loudest peak; softer peaks are ignored
GRID_PER_OCTAVE = 12 * TUNINGS
GRID_LOW = math.log2(LOWEST)
BELOW = 5 * GRID_PER_OCTAVE  # cells below the grid
# Cells of the lowest and the highest note.
LOWEST_BASE = round((math.log2(8.4) - GRID_LOW) * GRID_PER_OCTAVE) + BELOW
HIGHEST_BASE = round((math.log2(12_600.0) - GRID_LOW) * GRID_PER_OCTAVE) + BELOW
SPECTRAL = 8  # candidates from spectra
CANDIDATES = SPECTRAL + VOICES.most + BASSES.most  # in each frame, for the choice along time
EXPLAINING = 64  # the loudest partials of a set; with more, a low pitch would explain the partials of a higher pitch
VOICED = 0.6  # a period is a candidate if more than this proportion of the frame repeats after it
REACH = 8  # frames to each side that decide a frame's tone
# Costs of a jump, a semitone, another set, and the start or end of a tone.
JUMP, SLOPE, CHANGE, ONSET = 0.3, 0.15, 0.2, 0.15
AVERAGE = 2  # frames to each side over which the cost of a noise floor is averaged
BLOCK = 32  # bins


class Peaks(NamedTuple):
    """Peaks of frames, `[F, P]`: log2 of Hz, weights 0 to 1 (0: no peak), proportions of the frame's energy."""

    octaves: Tensor
    weights: Tensor
    energies: Tensor


class Noise(NamedTuple):
    """Noise in blocks of bins, `[F, blocks]`: log10 of the ratio of noise to tone, and weights 0 to 1."""

    shares: Tensor
    weights: Tensor


class Evidence(NamedTuple):
    """Score of a partial in each cell of the grid, and the proportion of energy that it explains, `[F, cells]`.

    `total` `[F, 1]` is the sum of the weights of all peaks.
    """

    worth: Tensor
    energy: Tensor
    total: Tensor


class Candidates(NamedTuple):
    """Pitches in semitones (MIDI), partial sets and scores of each frame's candidates, `[F, C]`.

    Candidates from spectra come first, in descending order of score.
    """

    pitches: Tensor
    sets: Tensor
    scores: Tensor


class PitchAnalysis(nn.Module):
    """Analysis of audio into codes of note, fine pitch and partial set."""

    def __init__(self, config: SpectrogramConfig, least_worth: float = 0.01) -> None:
        """`least_worth` bounds the penalty of missing partials from below: the smallest of equally good sets wins."""
        super().__init__()
        self.config, self.least_worth = config, least_worth
        self.n_fft = 2 * config.n_fft
        self.grid = int(GRID_PER_OCTAVE * (math.log2(HIGHEST * config.sample_rate) - GRID_LOW))
        # Cells from any pitch to beyond the grid, where scores are 0.
        self.none = BELOW + self.grid - LOWEST_BASE
        self.window = nn.Buffer(torch.hann_window(self.n_fft), persistent=False)
        middles = (torch.arange(self.n_fft // 2 // BLOCK) + 0.5) * (
            BLOCK * config.sample_rate / self.n_fft
        )
        self.block_hertz = nn.Buffer(middles, persistent=False)  # [blocks]
        # Interpolation weights of the bands at each cell, for the level that a partial there would have.
        hertz = 2.0 ** (GRID_LOW + torch.arange(self.grid) / GRID_PER_OCTAVE)
        position = band_position(hertz, config)
        distance = (position - torch.arange(config.n_mels)[:, None]).abs()
        self.between = nn.Buffer((1 - distance).clamp_min(0), persistent=False)  # [n_mels, grid]
        cells = torch.arange(-FOUND_STEPS, FOUND_STEPS + 1)
        kernel = (-0.5 * (cells * TUNING_CENTS / PEAK_CENTS).square()).exp()
        self.kernel = nn.Buffer(kernel, persistent=False)  # [2 * FOUND_STEPS + 1]
        self.voices, self.basses = PeriodAnalysis(config, VOICES), PeriodAnalysis(config, BASSES)
        # Partials that are closer than 5 bins merge into each other.
        self.bass_limit = semitones(math.log2(5 * config.sample_rate / self.n_fft))
        self.phases = PhaseFit(config)

    @property
    def margin(self) -> int:
        """Samples that windows reach beyond each end of their frame."""
        return max(self.spare, self.basses.spare)

    @property
    def spare(self) -> int:
        """Samples that windows of spectra reach beyond each end of their frame."""
        return (self.n_fft - self.config.samples_per_frame) // 2

    @property
    def context(self) -> int:
        """Number of frames before and after a frame that influence its tone, not counting windows."""
        return REACH + AVERAGE + FRAMES

    def power(self, audio: Tensor) -> Tensor:
        """Power spectra `[B * F, bins]` of `audio` `[B, margin + F * samples_per_frame + margin]`.

        A full-scale sine has power 1.
        """
        edge = self.margin - self.spare
        inner = audio[:, edge : audio.shape[1] - edge]
        window = self.window * (4 / self.n_fft)
        windows = windowed(inner, window, self.config.samples_per_frame)
        spectrum = torch.fft.rfft(windows.flatten(0, 1))
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power

    def noise(self, power: Tensor) -> Noise:
        """Noise of power spectra `[F, bins]`, estimated from the softest bins, which lie between partials."""
        blocks = (
            power[:, : len(self.block_hertz) * BLOCK]
            .clamp_min(1e-14)
            .sqrt()
            .unflatten(1, (-1, BLOCK))
        )
        softest = 6  # bins of a block: the loudest of these is noise; the mean of the noise is a multiple of it
        rayleigh = math.sqrt(math.pi / 2) / math.sqrt(-2 * math.log(1 - softest / BLOCK))
        noise, mean = rayleigh * _nth_smallest(blocks, softest), blocks.mean(dim=2)
        shares = (noise / (mean - noise).clamp_min(1e-3 * mean)).clamp(1e-3, 3.0).log10()
        return Noise(shares, _worth(-20 * (mean / mean.amax(dim=1, keepdim=True)).log10()))

    def peaks(self, power: Tensor) -> Peaks:
        """Up to 32 of the loudest peaks of power spectra `[F, bins]`.

        A peak is 9 dB above the mean of 41 bins, and louder than a sine of -85 dB.
        """
        db, bins = 10 * (power + 1e-14).log10(), 41
        sums = nn.functional.pad(db[:, None], (bins // 2, bins // 2), mode="replicate")[
            :, 0
        ].cumsum(dim=1)
        middle, mean = db[:, 2:-2], (sums[:, bins + 1 : -2] - sums[:, 1 : -bins - 2]) / bins
        loudest = db.amax(dim=1, keepdim=True)
        is_peak = (
            (middle >= db[:, 1:-3])
            & (middle > db[:, 3:-1])
            & (middle >= db[:, :-4])
            & (middle > db[:, 4:])
        )
        is_peak &= (middle > (loudest - RANGE_DB).clamp_min(-85.0)) & (middle - mean > 9.0)
        value, index = torch.where(is_peak, middle, -torch.inf).topk(32, dim=1)
        there = value > -torch.inf
        index = index + 2
        left, centre, right = (db.gather(1, index + offset) for offset in (-1, 0, 1))
        shift = peak_offset(left, centre, right)
        hertz = (index + shift.clamp(-0.5, 0.5)) * (self.config.sample_rate / self.n_fft)
        own = sum(
            power.gather(1, (index + offset).clamp(0, power.shape[1] - 1))
            for offset in (-2, -1, 0, 1, 2)
        )
        energies = own / power.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return Peaks(
            hertz.clamp_min(1.0).log2(), _worth(loudest - centre) * there, energies * there
        )

    def evidence(self, peaks: Peaks, log_mel: Tensor) -> Evidence:
        """Evidence for partials from peaks and log-mel frames `[F, n_mels]`.

        A partial near a peak scores the weight of that peak. Without a peak, its penalty is a proportion of the weight
        that a partial at the level of its band would have.
        """
        cells = self._cell(peaks.octaves)
        near = cells[..., None] + torch.arange(-FOUND_STEPS, FOUND_STEPS + 1, device=cells.device)
        index = near.clamp(0, self.grid - 1).flatten(1) + BELOW
        # Partials below or above the grid score 0.
        worth, energy = log_mel.new_zeros(2, len(cells), HIGHEST_BASE + self.none + 1)
        worth.scatter_reduce_(1, index, (peaks.weights[..., None] * self.kernel).flatten(1), "amax")
        energy.scatter_reduce_(
            1, index, peaks.energies[..., None].expand_as(near).flatten(1), "amax"
        )
        level = log_mel @ self.between
        # Relative to the loudest peak, whose mel amplitude is close to the largest band.
        expected = _worth(20 * (log_mel.amax(dim=1, keepdim=True) - level)).clamp_min(
            self.least_worth
        )
        on_grid = worth[:, BELOW : BELOW + self.grid]
        on_grid -= 0.3 * torch.where(on_grid > 0.05, 0.0, expected)
        return Evidence(worth, energy, peaks.weights.sum(dim=1, keepdim=True))

    @torch.no_grad()
    def forward(
        self, layer: ToneLayer, audio: Tensor, features: Tensor, inside: Tensor | None = None
    ) -> tuple[Tensor, Combs]:
        """Codes `[B, F, 3]` of note, fine pitch and partial set, and their combs.

        `audio` is `[B, margin + F * samples_per_frame + margin]`, with `features` `[B, F, features]`; `inside` `[F]` is
        0 in gaps.
        """
        batch, frames, _ = features.shape
        log_mel = self.config.mean_log_mel(features).flatten(0, 1)
        power = self.power(audio)
        peaks, noise = self.peaks(power), self.noise(power)
        candidates = self.candidates(layer, peaks, self.evidence(peaks, log_mel))
        candidates = with_voices(candidates, *self.voices(audio, self.margin, power))
        candidates = with_basses(
            candidates, self.bass_limit, *self.basses(audio, self.margin, power)
        )
        chains = Candidates(*(part.unflatten(0, (batch, frames)) for part in candidates))
        chosen = best_path(chains, inside).flatten()
        is_tone, rows = chosen < CANDIDATES, torch.arange(len(chosen), device=chosen.device)
        pitch, sets = (
            part[rows, chosen.clamp_max(CANDIDATES - 1)]
            for part in (candidates.pitches, candidates.sets)
        )
        pitch = torch.where(chosen < SPECTRAL, self.tuned(layer, peaks, pitch, sets), pitch)
        note, tuning = note_and_tuning((pitch * TUNINGS).round().long())
        is_tone &= (note > 0) & (note < NOTES)
        codes = torch.stack([note, tuning, sets * len(FLOORS) + 1], dim=1) * is_tone[:, None]
        codes, log_mel = (part.unflatten(0, (batch, frames)) for part in (codes, log_mel))
        codes = self.phases(layer, audio, self.margin, codes, inside)
        combs = layer.combs(codes)
        noise = Noise(*(part.unflatten(0, (batch, frames)) for part in noise))
        return self.with_floors(
            codes, log_mel - layer.comb_bands.coarse_patterns(combs), noise, inside
        ), combs

    def candidates(self, layer: ToneLayer, peaks: Peaks, evidence: Evidence) -> Candidates:
        """Best candidates of each frame by its spectrum.

        The score is the proportion of the peaks' total weight that a candidate explains, minus penalties. Candidates
        match one of the loudest peaks with one of a set's loudest partials. They are ranked by their 12 loudest
        partials; the best are scored with all partials, and must explain a quarter of the frame's energy.
        """
        peak_choices, partial_choices = 5, 6
        cells, loud = self._cells(layer)
        strongest = peaks.weights.topk(peak_choices, dim=1).indices
        tops = self._cell(peaks.octaves.gather(1, strongest)) + BELOW
        there = peaks.weights.gather(1, strongest) > 0
        # [F, S * c]
        base = (tops[:, None, :, None] - cells[None, :, None, :partial_choices]).flatten(1)
        valid = (there[:, None, :, None] & loud[None, :, None, :partial_choices]).flatten(1)
        valid &= (base >= LOWEST_BASE) & (base <= HIGHEST_BASE)
        base = torch.where(valid, base, LOWEST_BASE)
        per_set = peak_choices * partial_choices
        first = torch.zeros_like(base, dtype=evidence.worth.dtype)
        for partial in cells[:, :12].T.repeat_interleave(per_set, dim=1):
            first += evidence.worth.gather(1, base + partial)
        kept = torch.where(valid, first, -torch.inf).topk(min(24, first.shape[1]), dim=1).indices
        base, sets = base.gather(1, kept), kept // per_set
        index = (base[..., None] + cells[sets]).flatten(1)
        score, explained = (
            table.gather(1, index).unflatten(1, (-1, cells.shape[1])).sum(dim=-1)
            for table in (evidence.worth, evidence.energy)
        )
        score = score / evidence.total.clamp_min(1e-6)
        score = torch.where(valid.gather(1, kept) & (explained >= 0.25), score, -torch.inf)
        best = score.topk(SPECTRAL, dim=1)
        pitches = semitones((base.gather(1, best.indices) - BELOW) / GRID_PER_OCTAVE + GRID_LOW)
        return Candidates(pitches, sets.gather(1, best.indices), best.values)

    def _cell(self, octaves: Tensor) -> Tensor:
        """Cells of the grid for log2 of frequencies in Hz."""
        return ((octaves - GRID_LOW) * GRID_PER_OCTAVE).round().long()

    def _cells(self, layer: ToneLayer) -> tuple[Tensor, Tensor]:
        """Cells `[S, k]` from the pitch to a set's partials, loudest first, and a mask of real partials `[S, k]`."""
        order = layer.amplitudes.argsort(dim=1, descending=True, stable=True)[:, :EXPLAINING]
        ratios = layer.ratios.gather(1, order)
        cells = (ratios.clamp_min(1e-9).log2() * GRID_PER_OCTAVE).round().long()
        cells = cells.clamp(-LOWEST_BASE, self.none)  # a file may hold any ratios
        return torch.where(ratios > 0, cells, self.none), ratios > 0

    def tuned(self, layer: ToneLayer, peaks: Peaks, pitch: Tensor, sets: Tensor) -> Tensor:
        """Refine pitches `[F]` by the weighted median deviation of the peaks that they explain."""
        lowest = layer.ratios[:, :EXPLAINING]
        ratios = torch.where(lowest > 0, lowest.log2(), torch.inf)[sets]
        partials = octaves(pitch[:, None]) + ratios
        deviation = peaks.octaves[..., None] - partials[:, None]  # [F, P, K]
        nearest = deviation.abs().argmin(dim=-1, keepdim=True)
        deviation = deviation.gather(-1, nearest)[..., 0]
        weights = peaks.weights * (deviation.abs() < TUNED_CENTS / 1200)
        order = deviation.argsort(dim=1)
        sums = weights.gather(1, order).cumsum(dim=1)
        middle = (sums < sums[:, -1:] / 2).sum(dim=1, keepdim=True).clamp_max(order.shape[1] - 1)
        shift = deviation.gather(1, order).gather(1, middle)[:, 0]
        return pitch + torch.where(sums[:, -1] > 0, 12 * shift, 0.0)

    def with_floors(
        self, codes: Tensor, flat: Tensor, noise: Noise, inside: Tensor | None = None
    ) -> Tensor:
        """Add to codes `[B, F, 3]` the noise floors with the smoothest bands and the ratios nearest to `noise`.

        `flat` `[floors, B, F, M]` are the bands without the comb of each noise floor. Both criteria are needed: bands
        hide noise between close partials, and spectra hide noise between gliding partials.
        """
        rough = flat.diff(dim=-1, n=2).abs().clamp_max(1.0).sum(dim=-1)  # [floors, B, F]
        shares = noise_share(
            torch.arange(len(FLOORS), device=rough.device), self.block_hertz
        ).log10()[:, None, None]
        unlike = ((shares - noise.shares).abs() * noise.weights).sum(dim=-1)
        cost = (rough + unlike).transpose(0, 1)  # [B, floors, F]
        cost = cost if inside is None else cost * inside
        cost = nn.functional.avg_pool1d(cost, 2 * AVERAGE + 1, 1, padding=AVERAGE)
        best = cost.argmin(dim=1) * (codes[..., 2] > 0)
        return torch.cat([codes[..., :2], codes[..., 2:] + best[..., None]], dim=-1)


def _nth_smallest(values: Tensor, n: int) -> Tensor:
    """The `n`-th smallest `[...]` of values `[..., m]`, by insertion: a few times as fast as `topk` for small n."""
    found = [torch.full_like(values[..., 0], math.inf)] * n
    for one in values.movedim(-1, 0).contiguous():
        inserted = one
        for place in range(n):
            found[place], inserted = (
                torch.minimum(found[place], inserted),
                torch.maximum(found[place], inserted),
            )
    return found[-1]


def _worth(below: Tensor) -> Tensor:
    """Weight of a level `below` the loudest, in dB: falls linearly from 1 at 0 dB to 0 at `RANGE_DB`."""
    return (1 - below / RANGE_DB).clamp(0, 1)


def with_voices(candidates: Candidates, pitches: Tensor, repeats: Tensor) -> Candidates:
    """Add harmonic candidates at the `pitches` of periods, if a large enough proportion of the frame `repeats`."""
    return _with_harmonic(
        candidates, pitches, torch.where(repeats > VOICED, repeats - VOICED, -torch.inf)
    )


def with_basses(
    candidates: Candidates, limit: float, pitches: Tensor, repeats: Tensor
) -> Candidates:
    """Add harmonic candidates at the `pitches` `[F, 1]` of periods, if these are below the `limit`.

    Candidates within 10 cents of these pitches gain. Candidates below the limit and over a semitone off lose, since
    spectra do not resolve pitches this low.
    """
    # The power is about 0.6 for a clean bass. Chords, which are left to spectra, score lower.
    worth = torch.where((repeats > VOICED) & (pitches < limit), repeats**6, 0.0)
    apart = (candidates.pitches - pitches).abs()
    agrees, differs = apart < 0.1, (apart > 1.0) & (candidates.pitches < limit)
    scores = candidates.scores + 0.12 * (worth > 0) * agrees - 0.4 * worth * differs
    return _with_harmonic(
        candidates._replace(scores=scores), pitches, torch.where(worth > 0, worth, -torch.inf)
    )


def _with_harmonic(candidates: Candidates, pitches: Tensor, scores: Tensor) -> Candidates:
    """Add candidates with the first set, which is harmonic, at `pitches` with `scores` `[F, n]`."""
    further = Candidates(pitches, torch.zeros_like(candidates.sets[:, : pitches.shape[1]]), scores)
    return Candidates(*(torch.cat(parts, dim=1) for parts in zip(candidates, further, strict=True)))


def best_path(candidates: Candidates, inside: Tensor | None = None) -> Tensor:
    """Index `[B, F]` of the best candidate, of `[B, F, C]`, in each frame; index `CANDIDATES` is no tone.

    Computes min-marginals of a chain, from messages of `REACH` frames to each side. `inside` `[F]` is 0 in gaps;
    frames across a gap do not influence each other.
    """
    pitches, sets, scores = candidates
    cost = nn.functional.pad(-scores, (0, 1), value=0.0).clamp_max(9.0)  # [B, F, C + 1]
    step = (pitches[:, 1:, :, None] - pitches[:, :-1, None, :]).abs()
    between = (SLOPE * step).clamp_max(JUMP) + CHANGE * (
        sets[:, 1:, :, None] != sets[:, :-1, None, :]
    )
    between = nn.functional.pad(between, (0, 1, 0, 1), value=ONSET)  # [B, F - 1, after, before]
    between[..., -1, -1] = 0.0
    if inside is not None:
        between = between * (inside[1:] * inside[:-1])[:, None, None]
        cost = cost * inside[:, None]
    ahead, back = torch.zeros_like(cost), torch.zeros_like(cost)
    for _ in range(REACH):
        forward = ((cost + ahead)[:, :-1, None, :] + between).amin(dim=3)
        backward = ((cost + back)[:, 1:, :, None] + between).amin(dim=2)
        ahead = nn.functional.pad(forward, (0, 0, 1, 0))
        back = nn.functional.pad(backward, (0, 0, 0, 1))
    return (cost + ahead + back).argmin(dim=2)
