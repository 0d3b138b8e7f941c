"""Faults of sounds: behaviour that sounds broken because no recording of the corpus shows it.

A sound is measured on the features that its codes dequantise to, before the decoder's network. Only its bands are
measured on samples, because the network may add energy that is not coded. Bands of recordings are computed from codes:
decoding would take up to half a minute.

Limits come from the training recordings, so that sounds of a corpus of pads may stand still and loops may restart.
Held-out recordings, which do not set limits, show how often a sound without a fault exceeds them. Limits, and faults of
held-out recordings, are measured once, when a model file is made.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from itertools import compress
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.envelope import LOG_FLOOR
from distill.codec.model import VQVAE
from distill.codec.scales import mel_centres
from distill.novelty.reference import LIMITS, Doubles, Reference, evenly
from distill.novelty.reference import MAX_FRAMES as HELD_OUT_FRAMES
from distill.novelty.spectra import band_levels
from distill.text import several

COMMON = 0.99  # proportion of the training recordings within each limit
STILL_DB = 2.0  # maximum root mean square change over bands of a spectrum that stands still
FLOOR_DB = 60.0  # below the loudest band or frame; softer levels are masked
RETURN_DB = 20.0  # fall and rise that count as a restart
NEAR_MELS = 800.0  # an octave of treble: allowed distance from bands of recordings, for other notes
SOFTER_DB = 12.0  # below the loudest frame of the softest recording; a sound has not started there
SLACK_DB = 6.0  # added to limits on levels
MOST_RECORDINGS = 256  # evenly spaced recordings that set the limits, at most
MOST_FRAMES = 2048  # frames of a sound or recording that are measured, at most: about 45 s
SMOOTHED_FRAMES = 5  # a tenth of a second, which smooths noise to its mean spectrum
Fault = Literal["drone", "stutter", "attack", "loud", "band", "ending", "length"]
Codes = NDArray[np.integer]  # [F, Q]
Samples = NDArray[np.float32]  # [N], in [-1, 1]
Levels = NDArray[np.float64]  # [F] or [bands], dB
MEANINGS: dict[Fault, str] = {
    "drone": "it stands still for longer than recordings do",
    "stutter": "it falls silent and starts again",
    "attack": "it starts later, or stays softer, than recordings",
    "loud": "it is louder than any recording",
    "band": "it sounds in a band of the spectrum in which no recording does",
    "ending": "it is cut off while it is loud",
    "length": "it is shorter than any recording",
}
FAULTS = tuple(MEANINGS)
WITH_LENGTH: tuple[Fault, ...] = (
    "drone",
    "stutter",
    "attack",
    "loud",
    "band",
)  # for sounds of a requested length
AT_NOTES: tuple[Fault, ...] = (
    "drone",
    "stutter",
    "attack",
    "loud",
    "ending",
    "length",
)  # for sounds at notes
FOLLOWING: tuple[Fault, ...] = ("loud", "band")  # for sounds that follow a recording
WITH_PROMPT: tuple[Fault, ...] = (
    "drone",
    "stutter",
    "ending",
)  # for sounds that begin with a prompt


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of a sound: `levels` of frames in dB; `still_frames` is the longest stretch that stands still."""

    levels: Levels
    frames: int
    still_frames: int
    returns_per_second: float  # restarts: falls of RETURN_DB with a rise afterwards
    falls_per_second: (
        float  # restarts with falls and rises that are SLACK_DB smaller; limits come from these
    )
    end_level: float  # last frame, in dB relative to the loudest frame
    # [bands], in dB relative to the loudest: measured for a sound, coded for a recording, allowed bands for limits
    bands: Levels = field(default_factory=lambda: np.empty(0))

    def onset(self, level: float) -> int:
        """First frame that reaches `level`; MOST_FRAMES if no frame does."""
        reached = self.levels >= level
        return int(reached.argmax()) if reached.any() else MOST_FRAMES


@dataclass(frozen=True)
class Limits:
    """Limits of the measures that a proportion COMMON of the recordings keeps, with some slack."""

    bands: tuple[float, ...]
    onset_level: float
    loudest_level: float
    onset_frames: float
    still_frames: float
    returns_per_second: float
    end_level: float
    frames: float

    @classmethod
    def of(cls, recordings: Sequence[Measures]) -> Self:
        """Limits from measures of one or more recordings."""
        slack_frames = 5  # added to limits on frames
        slack = 1.5  # factor on limits of times and rates
        # Below the loudest frame; a sound has ended there, however soft recordings end
        ended_db = 40.0

        def most(values: Iterable[float]) -> float:
            return float(
                np.quantile(np.array([*values], dtype=np.float64), COMMON, method="higher")
            )

        onset_level = -most(-one.levels.max() for one in recordings) - SOFTER_DB
        loudest = np.quantile([one.bands for one in recordings], COMMON, axis=0, method="higher")
        return cls(
            bands=tuple((loudest + SLACK_DB).tolist()),
            onset_level=onset_level,
            loudest_level=most(one.levels.max() for one in recordings) + SLACK_DB,
            onset_frames=slack * most(one.onset(onset_level) for one in recordings) + slack_frames,
            still_frames=slack * most(one.still_frames for one in recordings) + slack_frames,
            returns_per_second=slack * most(one.falls_per_second for one in recordings),
            end_level=max(-ended_db, most(one.end_level for one in recordings)) + SLACK_DB,
            frames=-most(-one.frames for one in recordings) / slack,
        )

    @classmethod
    def read(cls, row: Doubles) -> Self:
        """Read limits from a `row`."""
        values = row.tolist()
        return cls(tuple(values[LIMITS:]), *values[:LIMITS])

    @property
    def row(self) -> Doubles:
        """Limits as a row of numbers, with bands at the end."""
        bands, *others = astuple(self)
        return np.array([*others, *bands])

    def faults(self, measures: Measures, kinds: Collection[Fault] = FAULTS) -> tuple[Fault, ...]:
        """Faults of a sound among these kinds."""
        exceeded = {
            "drone": measures.still_frames > self.still_frames,
            "stutter": measures.returns_per_second > self.returns_per_second,
            "attack": measures.onset(self.onset_level) > self.onset_frames,
            "loud": measures.levels.max() > self.loudest_level,
            "band": (measures.bands > self.bands).any(),
            "ending": measures.end_level > self.end_level,
            "length": measures.frames < self.frames,
        }
        return tuple(kind for kind in FAULTS if kind in kinds and exceeded[kind])


def with_limits(reference: Reference, codec: VQVAE) -> Reference:
    """Add limits from training recordings, and faults of held-out recordings, to a reference."""
    training = [as_coded(codec, codes) for codes in evenly(reference.codes, MOST_RECORDINGS)]
    limits = Limits.of([replace(one, bands=allowed_bands(codec, one.bands)) for one in training])
    held_out = [
        limits.faults(as_coded(codec, codes), _kinds_of(codes)) for codes in reference.held_out
    ]
    faults = [[kind in own for kind in FAULTS] for own in held_out]
    return replace(reference, limits=limits.row, faults=np.array(faults, np.uint8))


def _kinds_of(held_out: Codes) -> Collection[Fault]:
    """Kinds of faults to check in a held-out recording; a reference cuts long recordings, so their end is skipped."""
    return FAULTS if len(held_out) < HELD_OUT_FRAMES else {*FAULTS} - {"ending"}


class FaultFinder:
    """Finds faults of sounds, by the limits of a reference."""

    def __init__(self, reference: Reference, codec: VQVAE) -> None:
        self._codec, self._limits = codec, Limits.read(reference.limits)
        self._held_out = [set(compress(FAULTS, row)) for row in reference.faults]

    def __call__(
        self, sounds: Iterable[Codes], samples: Iterable[Samples], kinds: Collection[Fault] = FAULTS
    ) -> list[tuple[Fault, ...]]:
        """Faults of each sound among these kinds, given its codes `[F, Q]` and samples `[N]`."""
        heard = map(partial(as_heard, self._codec), sounds, samples)
        return [self._limits.faults(one, kinds) for one in heard]

    def is_silent(self, codes: Codes) -> bool:
        """Whether the sound of codes `[F, Q]` never comes within SOFTER_DB of the softest recording's loudest frame."""
        return bool(measured(self._codec, codes).levels.max() < self._limits.onset_level)

    def held_out(self, kinds: Collection[Fault] = FAULTS) -> list[tuple[Fault, ...]]:
        """Faults of each held-out recording among these kinds."""
        return [
            tuple(kind for kind in FAULTS if kind in own and kind in kinds)
            for own in self._held_out
        ]


def first_frames(codec: VQVAE, codes: Codes) -> Tensor:
    """First MOST_FRAMES frames of codes `[F, Q]` and the last frame, `[1, F, Q]`, on the codec's device."""
    kept = codes if len(codes) <= MOST_FRAMES else np.concatenate([codes[:MOST_FRAMES], codes[-1:]])
    return torch.from_numpy(kept.astype(np.int64))[None].to(codec.device)


@torch.no_grad()
def measured(codec: VQVAE, codes: Codes) -> Measures:
    """Measure the sound of codes `[F, Q]`, except its bands."""
    features = codec.unproject(codec.dequantise(first_frames(codec, codes)))
    return of_features(codec, features[0], len(codes))


@torch.no_grad()
def as_coded(codec: VQVAE, codes: Codes) -> Measures:
    """Measure the sound of codes `[F, Q]`, with bands from the codes.

    Codes do not describe frequencies above the last band, so these get the last band's level.
    """
    kept = first_frames(codec, codes)
    features, tones = codec.unproject(codec.dequantise(kept)), codec.layout.split(kept)[1]
    combed = codec.with_combs(features, tones, codec.tone.combs(tones))[0]
    bands = loudest_bands(20 * codec.spectrogram.mean_log_mel(combed[:MOST_FRAMES]))
    return replace(of_features(codec, features[0], len(codes)), bands=np.append(bands, bands[-1]))


def as_heard(codec: VQVAE, codes: Codes, samples: Samples) -> Measures:
    """Measure the sound of codes `[F, Q]` with the bands of its samples `[N]`.

    The level above the last band counts only if it exceeds the coded level by SLACK_DB: else it belongs to that band.
    """
    coded, bands = as_coded(codec, codes), heard_bands(codec, samples)
    if bands[-1] <= coded.bands[-1] + SLACK_DB:
        bands[-1] = -FLOOR_DB
    return replace(coded, bands=bands)


def of_features(codec: VQVAE, features: Tensor, frames: int) -> Measures:
    """Measures, except bands, of the features `[F, features]` of a sound's `first_frames`; the sound has `frames`."""
    levels = cast(
        Levels, (20 * codec.frame_features.loudness(features)[:, 0]).double().cpu().numpy()
    )
    bands = band_levels(codec, features).cpu().numpy()  # [F, BANDS]
    kept, seconds = (
        levels[:MOST_FRAMES],
        max(1.0, min(frames, MOST_FRAMES) / codec.spectrogram.frame_rate),
    )
    return Measures(
        levels=kept,
        frames=frames,
        still_frames=longest_still(bands[:MOST_FRAMES]),
        returns_per_second=count_returns(kept) / seconds,
        falls_per_second=count_returns(kept, RETURN_DB - SLACK_DB) / seconds,
        end_level=float(levels[-1] - levels.max()),
    )


def allowed_bands(codec: VQVAE, bands: Levels) -> Levels:
    """Bands that a recording with these `bands` allows: the loudest within NEAR_MELS; unchanged above the last band."""
    mels = mel_centres(codec.spectrogram.sample_rate, codec.spectrogram.n_mels)
    is_near = np.abs(mels[:, None] - mels) <= NEAR_MELS
    return np.append(np.where(is_near, bands[:-1], -FLOOR_DB).max(axis=1), bands[-1])


@torch.no_grad()
def heard_bands(codec: VQVAE, samples: Samples) -> Levels:
    """Levels `[n_mels + 1]` of samples `[N]` in the mel bands, and in frequencies above them that no band covers."""
    config, bank = codec.spectrogram, codec.frame_features.log_mel.bank
    kept = torch.from_numpy(samples[: MOST_FRAMES * config.samples_per_frame]).to(codec.device)
    spectrum = codec.inverse_stft.transform(codec.amplified(config.padded(kept, 0)))[
        0
    ].abs()  # [T, bins]
    _, above = (spectrum * (1 - bank.sum(dim=1))).tensor_split(2, dim=1)
    bands = (
        20
        * torch.cat([spectrum @ bank, above.sum(dim=1, keepdim=True)], dim=1)
        .clamp_min(LOG_FLOOR)
        .log10()
    )
    return loudest_bands(bands.unflatten(0, (-1, config.stack)).mean(dim=1))


def loudest_bands(bands: Tensor) -> Levels:
    """Highest level of each band of `[F, bands]` in dB, relative to the loudest; -FLOOR_DB or more, also in silence."""
    levels = smoothed(bands.double().cpu().numpy()).max(axis=0)
    loudest = max(levels.max(), 20 * np.log10(LOG_FLOOR) + FLOOR_DB)
    return cast(Levels, np.maximum(levels - loudest, -FLOOR_DB))


def smoothed(bands: Levels) -> Levels:
    """Moving average of bands `[F, bands]` over SMOOTHED_FRAMES, or over all frames if there are fewer."""
    window = min(SMOOTHED_FRAMES, len(bands))
    sums = np.concatenate([np.zeros((1, bands.shape[1])), np.cumsum(bands, axis=0)])
    return cast(Levels, (sums[window:] - sums[:-window]) / window)


def longest_still(bands: NDArray[np.floating]) -> int:
    """Frames of the longest stretch of spectra `[F, BANDS]` in dB that stays within STILL_DB of its first frame.

    Spectra are smoothed over SMOOTHED_FRAMES. Silence stands still, too.
    """
    smooth = smoothed(np.maximum(bands, bands.max() - FLOOR_DB).astype(np.float64))
    is_still, span = np.ones(len(smooth), dtype=bool), 0
    while is_still.any():  # is_still[i]: the stretch from i to i + span does not change
        span += 1
        apart = np.sqrt(np.square(smooth[span:] - smooth[: len(smooth) - span]).mean(axis=1))
        is_still = is_still[: len(apart)] & (apart <= STILL_DB)
    return span + len(bands) - len(smooth)


def count_returns(levels: Levels, change: float = RETURN_DB) -> int:
    """Number of times that levels `[F]` in dB fell by `change` and then rose by it."""
    heard = np.maximum(levels, levels.max() - FLOOR_DB)
    returns, is_falling = 0, False
    turn = heard[0]  # the highest level since the last rise, or the lowest since the fall
    for level in heard:
        turn = min(turn, level) if is_falling else max(turn, level)
        if abs(level - turn) >= change:
            returns += is_falling
            turn, is_falling = level, not is_falling
    return returns


@dataclass(frozen=True)
class FaultReport:
    """Faults of every sound and every held-out recording; `rejected` drafts were generated again because of faults."""

    sounds: Sequence[tuple[Fault, ...]]
    held_out: Sequence[tuple[Fault, ...]]
    rejected: int = 0

    @property
    def faulty(self) -> int:
        """Number of sounds with a fault."""
        return sum(map(bool, self.sounds))

    def metrics(self) -> dict[str, float]:
        """Proportions of sounds and held-out recordings (`_held_out`) with any fault and with each, by metric name."""
        kinds: dict[str, set[Fault]] = {"fault": {*FAULTS}, **{kind: {kind} for kind in FAULTS}}
        return {
            f"{name}_rate{side}": sum(not those.isdisjoint(found) for found in sounds)
            / max(1, len(sounds))
            for name, those in kinds.items()
            for side, sounds in (("", self.sounds), ("_held_out", self.held_out))
        }

    def json(self) -> dict[str, Any]:
        """Metrics, numbers of faulty and rejected sounds, and `lines`, for a JSON report."""
        return {
            **self.metrics(),
            "faulty": self.faulty,
            "rejected": self.rejected,
            "in_words": self.lines,
        }

    @property
    def lines(self) -> list[str]:
        """Summary line, and a line for each fault that occurs."""
        rates, lines = self.metrics(), []
        if self.rejected:
            lines.append(f"{self.rejected} faulty sound{'s' * (self.rejected != 1)} drawn again")
        held_out = f"of {several(len(self.held_out), 'held-out recording')} {rates['fault_rate_held_out']:.0%}"
        lines.append(
            f"faults: {self.faulty} of {len(self.sounds)} sounds, {rates['fault_rate']:.0%}; {held_out}"
        )
        for kind, meaning in MEANINGS.items():
            if share := rates[f"{kind}_rate"]:
                lines.append(
                    f"  {kind} {share:.0%}, held-out {rates[f'{kind}_rate_held_out']:.0%}: {meaning}"
                )
        return lines
