"""Motion transfer: sampled sounds move as recordings do, so treble dies first, pitches bend and loops keep time.

A prior predicts the next frame and does not model slow drift, so its sounds stand still. Each sound follows the
loudness contour of a recording (`prior/courses.py`). After sampling, its spectrum and pitch change from their beginning
as in another recording with a similar beginning and contour, and it is re-encoded. The first frames, and half of the
fine detail, stay as sampled. Two limits hold: below its lowest partial a sound has no more noise than the recording,
and no band is louder, relative to the loudest band, than in any recording.

A sound that follows a recording with a beat is not changed afterwards. Its codewords are steered to the recording's
spectra while it is sampled, so that each beat stays in place.

Shapes: F frames, D latent size, V codebook size, K recordings, M spectrum size (bands of each hop of a frame, in dB,
minus their mean).
"""

import math
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.audio.motion import LEAST_SECONDS, tempo
from distill.codec.layout import ATOM, NOTE, SHAPE
from distill.codec.model import VQVAE
from distill.codec.search import REACH
from distill.codec.spectral import SpectrogramConfig
from distill.codec.streaming import decode_each
from distill.codes.store import Codes
from distill.generate.sampling.processors import NEAR_DB, LogitsProcessor, near_to
from distill.generate.selection.faults import MOST_FRAMES, SMOOTHED_FRAMES
from distill.prior.courses import Course, between, steps_at

BANDS = 10  # bands of the spectra that are transferred
FINE_SHARE = 0.5  # weight of the recording's fine detail, which bands do not describe
BELOW = 0.85  # times the frequency of the lowest partial: bands up to there hold no energy of it
BEGINNING = 2  # frames that count as a sound's beginning
# Recordings: nearest, compared at most; contour points that are compared
NEAREST, CANDIDATES, POINTS = 3, 256, 32
BEAT_BANDS = 4  # bands of the spectra of beats
HEARD_SECONDS = 8.0  # beginning of a recording that is analysed for a tempo
OCTAVE = 12  # semitones
# Semitones a frame that make a jump; maximum proportion of jumps in a pitch that bends
JUMP, MOST_JUMPS = 1.0, 0.1
LEAST_TONAL = 0.7  # minimum proportion of frames with a tone in a recording that bends


class Motions:
    """Motion of recordings with codes `[F, Q]`. Recordings are compared only with others that have the same label."""

    def __init__(
        self,
        codec: VQVAE,
        recordings: Sequence[NDArray[np.integer]],
        labels: Sequence[int] | None = None,
    ) -> None:
        self._codec, self._labels = codec, torch.tensor(labels or [0] * len(recordings))
        self._recordings = [torch.from_numpy(codes.astype(np.int64)) for codes in recordings]
        self._candidates = range(0, len(recordings), -(-len(recordings) // CANDIDATES))
        self.tempo_of, self.bend_of = cache(self._tempo_of), cache(self._bend_of)
        self._latents_of, self._to_bands = cache(self._new_latents), cache(self._new_table)
        self._words = cache(self._new_words)

    @torch.inference_mode()
    def moved(self, codes: Codes, course: Course, bends: bool = True) -> tuple[Codes, int]:
        """Transfer a recording's motion to codes `[F, Q]` sampled along a loudness contour.

        Returns the new codes and the recording's index. With `course.in_time` the codes stay unchanged; without `bends`
        the pitch does.
        """
        if course.in_time:
            return codes, course.recording
        drawn = torch.from_numpy(codes.astype(np.int64))
        latents = self._latents(drawn)
        own = self._spectra(latents, BANDS)
        begun = own[:BEGINNING].mean(dim=0)
        recording = self.like(course, begun)
        known, spectra = self._recordings[recording], self._spectra_of(recording, BANDS)
        places = torch.linspace(0, len(known) - 1, len(course.loudness))[: len(drawn)]
        nearest = places.round().long()
        other = begun - spectra[:BEGINNING].mean(
            dim=0
        )  # constant difference from the recording's spectrum
        change = other + between(spectra, places) - own
        tones = self._with_floors(drawn[:, NOTE:SHAPE], known[nearest, NOTE:SHAPE])
        if bends:
            tones = self._bent(tones, self.bend_of(recording)[nearest])
        wanted = latents + change @ self._from_bands
        followed = self._latents_of(recording)[nearest]
        as_recorded = followed + other @ self._from_bands
        wanted[:, 1:] = wanted[:, 1:].lerp(as_recorded[:, 1:], FINE_SHARE)  # the loudness stays
        wanted += self._quiet_below(wanted, tones, followed, known[nearest, NOTE:SHAPE])
        wanted += self._within_ceilings(wanted)
        moved: Codes = (
            self._codec.search(
                wanted[None].to(self._codec.device), tones[None].to(self._codec.device)
            )[0]
            .cpu()
            .numpy()
        )
        return moved, recording

    def beats(
        self, courses: Sequence[Course], bands: int = BEAT_BANDS, deviation: float = NEAR_DB
    ) -> LogitsProcessor:
        """Logits processor that steers codewords of sounds with a beat to the spectra of their recordings.

        Spectra have `bands` bands a hop and are read at the nearest hop, because interpolation would blur beats.
        """
        frames, hops = (
            max(len(course.loudness) for course in courses),
            self._codec.spectrogram.stack,
        )
        spectra = torch.full((len(courses), frames, hops * bands), math.nan)
        for sound, course in enumerate(courses):
            if course.in_time:
                own = (
                    self._spectra_of(course.recording, bands)
                    .unflatten(1, (hops, bands))
                    .flatten(0, 1)
                )
                known = course.places < len(own) / hops  # the recording's end may be held out
                nearest = steps_at(course.places, hops)[known].round().long().clamp(0, len(own) - 1)
                spectra[sound, known.nonzero()[:, 0]] = _centred(own[nearest].flatten(1))
        return near_to(self._words(bands), spectra, deviation)

    def _new_words(self, bands: int) -> list[Tensor]:
        """Contribution `[V, M]` of each spectral level's codewords to the spectrum of a frame.

        A codeword counts as if it were held over several frames, so that what its kernel spreads over them adds up.
        """
        return [
            self._spectra(words.cpu(), bands) for words, _ in self._codec.quantizer.levels()[1:]
        ]

    def like(self, course: Course, begun: Tensor) -> int:
        """Index of a recording that is near to a loudness contour, and to the spectrum `[M]` of a sound's beginning.

        It has the label of the contour's recording, and is another recording if there is another with the label: a
        sound with both loudness and motion of one recording would be a copy.
        """
        own, candidates = course.recording, torch.tensor(self._candidates)
        others = (candidates != own) & (self._labels[candidates] == self._labels[own])
        if not others.any():
            return own
        beginnings, swells, lengths = (each[others] for each in self._beginnings)
        places = torch.linspace(0, len(course.loudness) - 1, POINTS)
        apart = swells - _centred(between(course.loudness, places))
        by_hop = (beginnings - begun).unflatten(1, (-1, BANDS))
        distances = by_hop.mean(dim=1).square().mean(dim=1) + 4 * apart.square().mean(dim=1)
        distances += (lengths / len(self._recordings[own])).log2().square() * 20
        nearest = distances.topk(min(NEAREST, len(distances)), largest=False).indices
        return int(candidates[others][nearest[int(course.chance * len(nearest))]])

    @cached_property
    def _beginnings(self) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates' spectra of the beginning `[K, M]`, loudness `[K, POINTS]` minus its mean, and frames `[K]`."""
        chosen = [self._recordings[number] for number in self._candidates]
        # Codewords of later frames do not overlap the beginning.
        firsts = [self._latents(codes[: BEGINNING + REACH])[:BEGINNING] for codes in chosen]
        begun = torch.stack([self._spectra(first, BANDS).mean(dim=0) for first in firsts])
        swells = [
            between(codes[:, 0].float(), torch.linspace(0, len(codes) - 1, POINTS))
            for codes in chosen
        ]
        return (
            begun,
            _centred(torch.stack(swells)),
            torch.tensor([float(len(codes)) for codes in chosen]),
        )

    def _with_floors(self, tones: Tensor, followed: Tensor) -> Tensor:
        """Tones `[F, 3]` with the noise floors of the `followed` tones, in frames where both have a tone."""
        layer = self._codec.tone
        both = layer.pitches(tones).isfinite() & layer.pitches(followed).isfinite()
        other = layer.floors(followed) - layer.floors(tones)
        return tones + nn.functional.pad((both * other)[:, None], (ATOM - NOTE, 0))

    def _quiet_below(
        self, latents: Tensor, tones: Tensor, followed: Tensor, their_tones: Tensor
    ) -> Tensor:
        """Change of latents `[F, D]` that limits bands below the lowest partial to the `followed` latents' level there.

        Bands with the same ratio to the lowest partial are compared. The change is 0 where either has no tone `[F, 3]`.
        """
        codec, layer = self._codec, self._codec.tone
        own, their = (
            _lowest(layer.comb(each[None].to(codec.device))[0].cpu())
            for each in (tones, their_tones)
        )
        up_to = torch.where(own.isfinite() & their.isfinite(), BELOW * own, 0.0)[:, None]
        features, others = (codec.unproject(each.to(codec.device)) for each in (latents, followed))
        others = (
            others + codec.frame_features.loudness(features) - codec.frame_features.loudness(others)
        ).cpu()
        change = torch.zeros_like(others)
        sizes = codec.spectrogram.feature_sizes
        parts = (each.split(sizes, dim=1) for each in (features.cpu(), others, change))
        for centres, band, other, less in zip(
            (layer.comb_bands.centres.cpu(), layer.comb_bands.fine_centres.cpu()),
            *parts,
            strict=False,
        ):
            places = (
                torch.bucketize(centres * (their / own)[:, None], centres, right=True) - 1
            )  # [F, M]
            by_hop, allowed = (each.unflatten(1, (-1, len(centres))) for each in (band, other))
            allowed = allowed.gather(2, places.clamp_min(0)[:, None].expand_as(allowed))
            less += ((allowed - by_hop).clamp_max(0.0) * (centres < up_to)[:, None]).flatten(1)
        result: Tensor = (change * codec.weights.cpu()) @ codec.components.cpu()
        return nn.functional.pad(result[:, 1:], (1, 0))  # the loudness stays

    def _within_ceilings(self, latents: Tensor) -> Tensor:
        """Change of latents `[F, D]` so that no band, relative to the loudest, is louder than in any recording.

        It softens noise that was sampled as loud as a tone with the spectrum of a recording's faded end.
        """
        codec, spectrogram = self._codec, self._codec.spectrogram
        features = codec.unproject(latents.to(codec.device))
        bands = self._smoothed(features)
        over = (bands - bands.max() - self._ceilings[:, None]).clamp_min(0.0)  # [bands, windows]
        window = len(latents) - over.shape[1] + 1
        by_frame = nn.functional.max_pool1d(
            nn.functional.pad(over, (window - 1, window - 1)), window, 1
        ).T
        fine = nn.functional.adaptive_max_pool1d(by_frame, spectrogram.n_fine_mels)
        less = _in_features(
            spectrogram,
            *(each[:, None].expand(-1, spectrogram.stack, -1) for each in (by_frame, fine)),
        )
        return (codec.project(features - less) - codec.project(features)).cpu()

    @cached_property
    def _ceilings(self) -> Tensor:
        """Maximum `[bands]` of each band over the candidates, relative to a candidate's loudest band."""
        codec, most = self._codec, []
        for number in self._candidates:
            latents = self._latents(self._recordings[number][:MOST_FRAMES])
            loudest = self._smoothed(codec.unproject(latents.to(codec.device))).amax(dim=1)
            most.append(loudest - loudest.max())
        return torch.stack(most).amax(dim=0)

    def _smoothed(self, features: Tensor) -> Tensor:
        """Moving averages `[bands, windows]` over SMOOTHED_FRAMES of the bands of features `[F, features]`."""
        means = self._codec.spectrogram.mean_log_mel(features).T
        return nn.functional.avg_pool1d(means, min(SMOOTHED_FRAMES, len(features)), stride=1)

    def _bent(self, tones: Tensor, bend: Tensor) -> Tensor:
        """Tones `[F, 3]` with the pitch contour `bend` `[F]` in semitones, unchanged where NaN or not codable."""
        turn = (bend - _bend(self._codec.tone.pitches(tones))).nan_to_num()
        moved = self._codec.tone.transposed(tones, turn)
        return torch.where(moved[:, :1] > 0, moved, tones)

    def _bend_of(self, recording: int) -> Tensor:
        """Pitch contour `[F]` of a recording in semitones; NaN without a tone, all NaN for few tones or many jumps."""
        pitches = self._codec.pitches(self._recordings[recording])
        there = pitches.isfinite()
        jumps = _within_octaves(pitches[there].diff()).abs() > JUMP
        if (
            not len(jumps)
            or there.double().mean() < LEAST_TONAL
            or jumps.double().mean() > MOST_JUMPS
        ):
            return torch.full_like(pitches, math.nan)
        return _bend(pitches)

    def _spectra_of(self, recording: int, bands: int) -> Tensor:
        """Spectra `[F, M]` of a recording."""
        return self._spectra(self._latents_of(recording), bands)

    def _new_latents(self, recording: int) -> Tensor:
        """Latents `[F, D]` of a recording."""
        return self._latents(self._recordings[recording])

    def _latents(self, codes: Tensor) -> Tensor:
        """Latents `[F, D]` of codes `[F, Q]`."""
        return self._codec.dequantise(codes[None].to(self._codec.device))[0].cpu()

    def _spectra(self, latents: Tensor, bands: int) -> Tensor:
        """Spectra `[F, M]` of latents `[F, D]`, or `[V, M]` of codewords."""
        return _centred(latents @ self._to_bands(bands))

    def _new_table(self, bands: int) -> Tensor:
        """Contribution `[D, M]` in dB of each latent component, except loudness, to the bands of each hop."""
        spectrogram = self._codec.spectrogram
        features = (self._codec.components.T / self._codec.weights).cpu()
        by_hop = features[:, : spectrogram.coarse_features].unflatten(1, (spectrogram.stack, -1))
        to_bands = 20 * nn.functional.adaptive_avg_pool1d(by_hop, bands).flatten(1)
        to_bands[0] = 0.0
        return to_bands

    @cached_property
    def _from_bands(self) -> Tensor:
        """Contribution `[M, D]` of 1 dB in each hop's bands to the latent components, except loudness.

        Between the centres of bands the change is interpolated linearly, in log-mel frames and in fine frames.
        """
        spectrogram = self._codec.spectrogram
        one = torch.eye(spectrogram.stack * BANDS).unflatten(1, (-1, BANDS)) / 20
        coarse, fine = (
            nn.functional.interpolate(one, size=size, mode="linear")
            for size in (spectrogram.n_mels, spectrogram.n_fine_mels)
        )
        features = _in_features(spectrogram, coarse, fine)
        from_bands = (features * self._codec.weights.cpu()) @ self._codec.components.cpu()
        from_bands[:, 0] = 0.0
        return from_bands

    def envelopes_along(self, course: Course) -> tuple[Tensor, Tensor]:
        """Envelopes `[F, E]` and loudness `[F]` of the contour's recording at its positions, as log10 of amplitudes."""
        features = self._codec.unproject(self._latents_of(course.recording).to(self._codec.device))
        steps, loudness = (
            self._codec.spectrogram.feature_sizes[-1],
            self._codec.frame_features.loudness(features)[:, 0],
        )
        own = features[:, -steps:].flatten().cpu()
        at = steps_at(course.places, steps).clamp(0, len(own) - 1)
        return between(own, at.flatten()).view_as(at), between(
            loudness.cpu(), course.places.clamp_max(len(features) - 1)
        )

    def repeats(self, recording: int) -> bool:
        """Whether the onsets of the decoded recording repeat."""
        return not math.isnan(self.tempo_of(recording))

    def _tempo_of(self, recording: int) -> float:
        """Tempo of the decoded recording's first HEARD_SECONDS, in beats a minute; NaN if nothing repeats."""
        codes, rate = self._recordings[recording], self._codec.spectrogram.frame_rate
        if len(codes) < LEAST_SECONDS * rate:
            return math.nan
        (sound,) = decode_each(self._codec, [codes[: round(HEARD_SECONDS * rate)]])
        return tempo(sound.cpu().numpy(), self._codec.spectrogram.sample_rate)


def _in_features(spectrogram: SpectrogramConfig, coarse: Tensor, fine: Tensor) -> Tensor:
    """Features `[F, features]` from coarse and fine log-mel frames `[F, hops, bands]`; the envelope is 0."""
    features = torch.cat([coarse.flatten(1), fine.repeat_interleave(2, dim=1).flatten(1)], dim=1)
    return nn.functional.pad(features, (0, spectrogram.features - features.shape[1]))


def _lowest(partials: Tensor) -> Tensor:
    """Lowest `[F]` of partials `[F, K]` in Hz; infinite without partials."""
    return torch.where(partials > 0, partials, math.inf).amin(dim=1)


def _bend(pitches: Tensor) -> Tensor:
    """Pitch contour: pitches `[F]` relative to the first, with jumps left out; NaN without a tone."""
    there, bend = pitches.isfinite(), torch.full_like(pitches, math.nan)
    if there.any():
        steps = _within_octaves(pitches[there].diff())
        bend[there] = nn.functional.pad(
            steps.masked_fill(steps.abs() > JUMP, 0.0).cumsum(dim=0), (1, 0)
        )
    return bend


def _within_octaves(steps: Tensor) -> Tensor:
    """Pitch steps without whole octaves: codes of the same partials can differ by octaves."""
    return steps - OCTAVE * (steps / OCTAVE).round()


def _centred(values: Tensor) -> Tensor:
    """Values `[..., n]` minus their mean."""
    return values - values.mean(dim=-1, keepdim=True)
