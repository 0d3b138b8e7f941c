"""Onsets of low tones, such as drums: pitch codes that reproduce the phases of a recording.

A period of a low tone is as long as its attack, so phases decide how an attack looks and sounds. Codes hold no phases
of steady tones, where they are inaudible. But the fine-pitch code of a tone's first frame sets the phase in the middle
of that frame (`ToneLayer.phases`), and phases continue from there with the pitch. This module fits that phase and the
pitches of the first frames: a pitch contour is fitted to unwrapped phases by least squares (Gauss-Newton). The codes of
later frames then correct the rounding errors of earlier frames (Babai's nearest plane).

Shapes: B batch, F code frames, S onsets, J frames of an onset, H hops of these frames, T points in time.
"""

import math

import torch
from torch import Tensor, nn

from distill.codec.layout import NOTES, TUNINGS
from distill.codec.scales import hertz, octaves, semitones
from distill.codec.spectral import SpectrogramConfig
from distill.codec.tones.codes import note_and_tuning
from distill.codec.tones.contour import FALL, FALL_FRAMES, GLIDE, LOW, SINE, by_hop, glides
from distill.codec.tones.layer import ToneLayer

FRAMES = FALL_FRAMES + 1  # of an onset, over which pitches are fitted
LOWEST, HIGHEST = 20.0, 400.0  # Hz: range of the filter that isolates a partial
POINTS, FITTED_POINTS = 16, 4  # per hop: measured phases, and their means, which are fitted


class PhaseFit(nn.Module):
    """Fits codes of note and tuning to phases where low tones begin."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.config = config
        step = config.hop_length // POINTS
        self.stride = max(1, step // 4)  # of a first filter, so that the second needs few taps
        first = torch.hann_window(2 * self.stride + 2, periodic=False)[1:-1]
        # [1, 1, 2 * stride]
        self.first = nn.Buffer((first / first.sum())[None, None], persistent=False)
        rate = config.sample_rate / self.stride
        self.reach = round(0.012 * rate)  # half the length of the filter that isolates a partial
        time = torch.arange(-self.reach, self.reach + 1).double() / rate
        window = torch.hann_window(len(time) + 2, periodic=False, dtype=torch.float64)[1:-1]
        low = torch.sinc((HIGHEST - LOWEST) * time) * window
        turn = math.pi * (HIGHEST + LOWEST) * time
        kernel = torch.stack([turn.cos(), -turn.sin()]) * (low / low.sum())
        # [2, 1, taps], real and imaginary
        self.kernel = nn.Buffer(kernel.float()[:, None], persistent=False)
        hops, points = FRAMES * config.stack, FRAMES * config.stack * FITTED_POINTS
        one = torch.eye(FRAMES, dtype=torch.float64)
        all_glide = torch.ones(FRAMES, FRAMES - 1, dtype=torch.bool)
        # [H, J]
        self.hop_pitches = nn.Buffer(by_hop(one, all_glide, config.stack).T, persistent=False)
        places = (torch.arange(points).double() + 0.5) / FITTED_POINTS
        # The last is the middle of the first frame.
        places = torch.cat([places, torch.tensor([config.stack / 2]).double()])
        shares = (places[:, None] - torch.arange(hops)).clamp(0, 1)
        seconds = (shares[:-1] - shares[-1]) * (config.hop_length / config.sample_rate)
        # [T, H] spent in each hop since the first frame's middle
        self.seconds = nn.Buffer(seconds, persistent=False)
        bends = torch.eye(FRAMES, dtype=torch.float64).diff(dim=0).diff(dim=0)
        # [J, J] penalty for bends, in squared cycles per squared semitone
        self.stiffness = nn.Buffer(1e-5 * bends.T @ bends, persistent=False)

    def forward(
        self,
        layer: ToneLayer,
        audio: Tensor,
        margin: int,
        codes: Tensor,
        inside: Tensor | None = None,
    ) -> Tensor:
        """Refit the tone codes `[B, F, 3]` at onsets of low tones: fitted notes and fine pitches, one set per onset.

        `audio` is `[B, margin + F * samples_per_frame + margin]`; `inside` `[F]` is 0 in gaps.
        """
        pitch = layer.pitches(codes)  # [B, F]
        pitch = pitch if inside is None else pitch.where(inside > 0, math.nan)
        gliding, begins = glides(pitch)
        # A low tone that lasts at least two frames.
        begins &= (pitch < LOW) & nn.functional.pad(gliding, (0, 1))
        if not begins.any():
            return codes
        rows, firsts = begins.nonzero().unbind(1)
        frames = firsts[:, None] + torch.arange(FRAMES, device=firsts.device)
        goes_on = nn.functional.pad(gliding, (1, FRAMES))[rows[:, None], frames]
        goes_on[:, 0] = True
        there = goes_on.long().cumprod(dim=1).bool()  # [S, J]
        phases, power = self._followed(audio, rows, margin + firsts * self.config.samples_per_frame)
        power = power * there.repeat_interleave(self.config.stack * POINTS, dim=1)
        shares, measured = self._measured(phases, power)
        tones = nn.functional.pad(codes, (0, 0, 0, FRAMES))[rows[:, None], frames]  # [S, J, 3]
        sets = layer.sets(tones)
        votes = ((sets[:, None] == sets[..., None]) * (there * (1 + shares))[:, None]).sum(
            dim=2
        ) * there
        chosen = votes.argmax(dim=1, keepdim=True)  # a frame with the most common set
        coded, its = layer.pitches(tones), sets == sets.gather(1, chosen)
        ratios = _nearest_ratio(
            layer.ratios[sets.gather(1, chosen)[:, 0]], coded, measured, shares * its
        )
        steps = coded.diff(dim=1).abs() <= GLIDE
        after = nn.functional.pad(steps[:, 1:] | ~there[:, 2:], (0, 1), value=True)
        steady = its & there & nn.functional.pad(steps & after, (1, 0))
        known = coded.where(steady, math.nan)
        fitted, is_good = self._fit(phases, power, there & (shares > 1e-6), measured, ratios, known)
        notes, tunings = note_and_tuning(fitted)
        is_good &= ((notes > 0) & (notes < NOTES) | ~there).all(dim=1)
        changed = there & ~steady & is_good[:, None]
        new = torch.stack([notes, tunings, tones[..., 2].gather(1, chosen).expand_as(notes)], dim=2)
        codes = codes.clone()
        codes[rows[:, None].expand_as(frames)[changed], frames[changed]] = new[changed]
        return codes

    def _followed(self, audio: Tensor, rows: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Unwrapped phases in cycles, and power, `[S, T]` each, of the band from `LOWEST` to `HIGHEST` after `starts`.

        `rows` and `starts` `[S]` are the batch index and the first sample of each onset.
        """
        step = self.config.hop_length // POINTS // self.stride
        count = FRAMES * self.config.stack * POINTS
        before = (self.reach + 1 - step // 2) * self.stride  # samples before `starts`
        length = ((count - 1) * step + 2 * self.reach + 2) * self.stride
        padded = nn.functional.pad(audio, (max(0, before), length))
        first = starts - before + max(0, before)
        pieces = padded[rows[:, None], first[:, None] + torch.arange(length, device=audio.device)]
        slow = nn.functional.conv1d(pieces[:, None], self.first, stride=self.stride)
        real, imaginary = nn.functional.conv1d(slow, self.kernel, stride=step).unbind(1)
        angles = torch.atan2(imaginary, real).double() / (2 * math.pi)
        steps = angles.diff(dim=1)
        return nn.functional.pad((steps - steps.round()).cumsum(dim=1), (1, 0)) + angles[
            :, :1
        ], real**2 + imaginary**2

    def _measured(self, phases: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
        """Proportions of the power in each frame, and mean frequencies in Hz, `[S, J]` each."""
        points = self.config.stack * POINTS
        seconds = self.config.hop_length / self.config.sample_rate / POINTS
        by_frame = power.double().unflatten(1, (-1, points)).sum(dim=2)
        cycles = nn.functional.pad(phases.diff(dim=1), (1, 0)) * power
        cycles = cycles.unflatten(1, (-1, points)).sum(dim=2)
        shares = by_frame / by_frame.sum(dim=1, keepdim=True).clamp_min(1e-20)
        return shares, cycles / by_frame.clamp_min(1e-20) / seconds

    def _fit(
        self,
        phases: Tensor,
        power: Tensor,
        there: Tensor,
        frequencies: Tensor,
        ratios: Tensor,
        known: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Pitches `[S, J]` in steps of fine pitch, and whether they fit the `phases` of a partial, `[S]`.

        `ratios` `[S]` are partial to pitch (0: reject). `frequencies` `[S, J]` in Hz are measured in frames that are
        `there`. Pitches stay near `known` `[S, J]` where it is not NaN.
        """
        each = POINTS // FITTED_POINTS
        phases = phases.unflatten(1, (-1, each)).mean(dim=2)
        power = power.double().unflatten(1, (-1, each)).sum(dim=2)
        weights = power / power.sum(dim=1, keepdim=True).clamp_min(1e-20)
        usable = (ratios > 0) & (power.sum(dim=1) > 0)
        ratio = torch.where(usable, ratios, 1.0)[:, None]
        measured = semitones((frequencies / ratio).clamp(LOWEST / 2, 2 * HIGHEST).log2())
        last = (there * torch.arange(FRAMES, device=there.device)).amax(dim=1, keepdim=True)
        # Frames after the tone repeat its last.
        measured = torch.where(there, measured, measured.gather(1, last.expand_as(there)))
        measured = torch.where(known.isnan(), measured, known)
        # Penalty for distance from measured pitches; spectral peaks measure steady pitches better.
        trust = torch.where(known.isnan(), 2e-6, 1e-2)
        # [S, 1 + J, 1 + J]
        prior = nn.functional.pad(self.stiffness + trust.diag_embed(), (1, 0, 1, 0))
        prior[:, 0, 0] = 1e-9  # for the phase, against a singular matrix in silence
        pitches = measured
        for _ in range(6):
            speeds = hertz(pitches @ self.hop_pitches.T)  # [S, H]
            error = phases - ratio * (speeds @ self.seconds.T)
            slopes = self._slopes(speeds, ratio)
            normal = slopes.transpose(1, 2) @ (weights[..., None] * slopes)
            normal += prior
            pull = trust * (measured - pitches) - pitches @ self.stiffness
            wanted = (slopes.transpose(1, 2) @ (weights * error)[..., None])[..., 0]
            change = torch.linalg.solve(normal, wanted + nn.functional.pad(pull, (1, 0)))
            pitches = _within_glides(pitches + change[:, 1:].clamp(-3.0, 3.0))
        error = phases - ratio * (hertz(pitches @ self.hop_pitches.T) @ self.seconds.T)
        phase = (weights * error).sum(dim=1)
        error = error - phase[:, None]
        usable &= (weights * error.square()).sum(dim=1).sqrt() < 0.15  # cycles, root mean square
        return self._rounded(normal, phase, pitches, ratio[:, 0]), usable

    def _slopes(self, speeds: Tensor, ratio: Tensor) -> Tensor:
        """Derivatives `[S, T, 1 + J]` of the phases by the phase in the middle of the first frame, and by pitches.

        `speeds` `[S, H]` are frequencies of the pitch in Hz; `ratio` `[S, 1]` is partial to pitch.
        """
        slopes = (self.seconds * speeds[:, None] * (math.log(2) / 12)) @ self.hop_pitches
        first = torch.zeros_like(slopes[..., :1])
        slopes = ratio[..., None] * torch.cat([first, slopes], dim=2)
        slopes[..., 0] = 1.0
        return slopes

    def _rounded(self, normal: Tensor, phase: Tensor, pitches: Tensor, ratio: Tensor) -> Tensor:
        """Round `pitches` `[S, J]` to steps of fine pitch, with the `phase` `[S]` in the first frame's fine pitch.

        `normal` `[S, 1 + J, 1 + J]` is the normal matrix of the fit, phase first; `ratio` `[S]` is partial to pitch.
        """
        # With the order flipped, the phase and the first pitches are rounded first; later pitches correct their errors.
        triangle = torch.linalg.cholesky(normal.flip(1, 2), upper=True)
        steps = pitches * TUNINGS

        def wanted(frame: int, errors: list[Tensor]) -> Tensor:
            row = triangle[:, FRAMES - 1 - frame]
            known = row[:, FRAMES - frame :] * torch.stack(errors[::-1], dim=1)
            found: Tensor = (
                steps[:, frame] - known.sum(dim=1) / row[:, FRAMES - 1 - frame] * TUNINGS
            )
            return found

        choices = []
        for half in range(4):  # half cycles of the partial, since its sign is inaudible
            turn = ((phase - SINE) % 0.5 + half / 2) / ratio * TUNINGS
            tuning = turn.round().clamp_max(TUNINGS - 1)
            errors = [(tuning - turn) / TUNINGS * ratio]
            pitch = wanted(0, errors)
            # The code `TUNINGS // 2` is exactly on the note.
            first = ((pitch - tuning) / TUNINGS + 0.5).round() * TUNINGS + tuning - TUNINGS // 2
            miss = (first - pitch).abs() + torch.where(turn > TUNINGS - 0.5, 1e6 + turn, 0.0)
            choices.append(torch.stack([errors[0], first, miss]))
        best = torch.stack(choices)  # [halves, 3, S]
        error, first, _ = best.gather(0, best[:, 2].argmin(dim=0).expand(1, 3, -1))[0]
        errors, rounded = [error, (first - steps[:, 0]) / TUNINGS], [first]
        for frame in range(1, FRAMES):
            rounded.append(_within(wanted(frame, errors).round(), rounded[-1], TUNINGS))
            errors.append((rounded[-1] - steps[:, frame]) / TUNINGS)
        return torch.stack(rounded, dim=1).long()


def _nearest_ratio(ratios: Tensor, pitches: Tensor, frequencies: Tensor, weights: Tensor) -> Tensor:
    """Ratio `[S]`, from `ratios` `[S, K]` to `pitches` `[S, J]`, of the partial nearest `frequencies` `[S, J]` in Hz.

    0 if that partial is not within an octave, or above a ratio of 3: phases of higher partials are coded too coarsely.
    """
    measured = frequencies.clamp_min(1.0).log2() - octaves(pitches.nan_to_num())
    octaves_up = torch.where(ratios > 0, ratios.double(), math.inf).log2()
    apart = (octaves_up[:, None] - measured[..., None]).abs()  # [S, J, K]
    shares = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-20)
    distance, nearest = (
        (shares[..., None] * apart).nan_to_num(math.inf).sum(dim=1).min(dim=1, keepdim=True)
    )
    found = ratios.double().gather(1, nearest)
    return torch.where((distance < 1.0) & (found <= 3.0), found, 0.0)[:, 0]


def _within_glides(pitches: Tensor) -> Tensor:
    """Limit the steps between successive pitches `[S, J]`, in semitones, to `FALL`."""
    kept = [pitches[:, 0]]
    for pitch in pitches.unbind(1)[1:]:
        kept.append(_within(pitch, kept[-1]))
    return torch.stack(kept, dim=1)


def _within(pitch: Tensor, before: Tensor, steps: int = 1) -> Tensor:
    """Limit a pitch `[S]` to within `FALL` semitones of the pitch `before`; both count `steps` per semitone."""
    return torch.minimum(torch.maximum(pitch, before - FALL * steps), before + FALL * steps)
