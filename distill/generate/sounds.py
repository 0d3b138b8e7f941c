"""Generation of sounds: sample codes, judge their novelty, decode, fade, limit the peak."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.constants import FADE_SECONDS, MOST_DRAWS, PEAK
from distill.generate.faults import FAULTS, WITH_LENGTH, WITH_PROMPT, Fault, FaultFinder
from distill.generate.sampling import Sampling, sample_codes
from distill.novelty.report import Comparison
from distill.novelty.verdict import Novelty
from distill.prior.base import Prior
from distill.seeds import Stream, derive_seed
from distill.status import Progress

BATCH = 64
DEFAULT = Sampling()

IsNew = Callable[[Novelty], bool]


@dataclass(frozen=True)
class Sound:
    """A generated sound: codes `[F, Q]`, samples `[N]` in [-1, 1], novelty and faults, None where they are not judged.

    The first `prompt_frames` codes are the prompt; the novelty is that of the rest.
    """

    codes: Codes
    samples: NDArray[np.float32]
    prompt_frames: int
    novelty: Novelty | None = None
    faults: tuple[Fault, ...] | None = None

    @property
    def drawn(self) -> Codes:
        """The codes after the prompt."""
        return self.codes[self.prompt_frames :]


@dataclass(frozen=True)
class Wanted:
    """A request for `count` sounds that end at EOS within `max_seconds`, or last exactly as long.

    They continue the codes `prompt` `[P, Q]`, if any. `label` counts from 1, 0 is none.
    """

    count: int
    max_seconds: float
    natural_ending: bool = True
    sampling: Sampling = DEFAULT
    label: int = 0
    prompt: Codes | None = None

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """The faults that such sounds can have: whoever asks for a length or a beginning gets it."""
        by_length = FAULTS if self.natural_ending else WITH_LENGTH
        return tuple(kind for kind in by_length if self.prompt is None or kind in WITH_PROMPT)

    def whole(self, drawn: Codes) -> Codes:
        """Codes `[F, Q]` of the prompt and what was drawn after it."""
        return drawn if self.prompt is None else np.concatenate([self.prompt, drawn])


@dataclass(frozen=True)
class Drawn:
    """A batch of sounds, with what was drawn again.

    `redrawn` counts redraws for lack of novelty alone, `not_new` sounds that are still not new enough, `rejected`
    redraws for faults.
    """

    sounds: list[Sound]
    redrawn: int = 0
    not_new: int = 0
    rejected: int = 0


@dataclass(frozen=True, eq=False)
class Judged:
    """Codes `[F, Q]` that were drawn, with novelty and faults, None where they are not judged."""

    codes: Codes
    novelty: Novelty | None
    faults: tuple[Fault, ...] | None


@dataclass(frozen=True)
class Checks:
    """What sounds are judged by, and which are drawn again: those that `is_new` refuses, with `reject_faults` faulty ones."""

    comparison: Comparison | None = None
    is_new: IsNew | None = None
    finder: FaultFinder | None = None
    reject_faults: bool = False

    def judge(self, wanted: Wanted, drawn: Sequence[Codes]) -> list[Judged]:
        """Novelty and faults of sounds, given the codes `[F, Q]` that were drawn."""
        novelty: Sequence[Novelty | None] = [None] * len(drawn)
        faults: Sequence[tuple[Fault, ...] | None] = [None] * len(drawn)
        if self.comparison is not None:
            novelty = self.comparison.novelty(drawn)
        if self.finder is not None:
            faults = self.finder(map(wanted.whole, drawn), wanted.kinds)
        return [Judged(*parts) for parts in zip(drawn, novelty, faults, strict=True)]

    def is_old(self, judged: Judged) -> bool:
        """Whether a sound is not new enough."""
        return self.is_new is not None and judged.novelty is not None and not self.is_new(judged.novelty)

    def is_rejected(self, judged: Judged) -> bool:
        """Whether a sound is drawn again for its faults."""
        return self.reject_faults and bool(judged.faults)


NO_CHECKS = Checks()


def frames_for_seconds(codec: VQVAE, seconds: float) -> int:
    """Number of frames that cover `seconds`, at least one."""
    return max(1, math.ceil(seconds * codec.spectrogram.frame_rate))


def generate_batches(
    codec: VQVAE,
    prior: Prior | None,
    wanted: Wanted,
    seed: int,
    checks: Checks = NO_CHECKS,
    progress: Progress | None = None,
) -> Iterator[Drawn]:
    """Generate sounds in batches of at most BATCH, each from its own seed, and judge them.

    Sounds that `checks` refuse are drawn again, at most MOST_DRAWS times. Raises ArtifactError when there is no prior,
    or when a network gives NaN or infinite values.
    """
    if prior is None:
        raise ArtifactError(
            "the model holds a codec and no prior: expected one with a prior; train one with `dvc repro`"
        )
    frames = frames_for_seconds(codec, wanted.max_seconds)
    for first in range(0, wanted.count, BATCH):
        count = min(BATCH, wanted.count - first)
        reporting = _batch_progress(progress, first, count, wanted.count)
        judged = checks.judge(wanted, _draw(prior, frames, wanted, count, derive_seed(seed, first), reporting))
        redrawn = rejected = 0
        for attempt in range(1, MOST_DRAWS):
            faulty = [checks.is_rejected(one) for one in judged]
            refused = [index for index, one in enumerate(judged) if faulty[index] or checks.is_old(one)]
            if not refused:
                break
            seed_again = derive_seed(seed, Stream.REDRAWN_SOUNDS, first, attempt)
            again = _draw(prior, frames, wanted, len(refused), seed_again, reporting)
            for index, one in zip(refused, checks.judge(wanted, again), strict=True):
                judged[index] = one
            rejected += sum(faulty)
            redrawn += len(refused) - sum(faulty)
        yield Drawn(_finish(codec, wanted, judged), redrawn, sum(map(checks.is_old, judged)), rejected)


def generate_sounds(codec: VQVAE, prior: Prior | None, wanted: Wanted, seed: int) -> list[Sound]:
    """Generate all sounds without judging them. Raises as `generate_batches`."""
    return [sound for batch in generate_batches(codec, prior, wanted, seed) for sound in batch.sounds]


def _draw(prior: Prior, frames: int, wanted: Wanted, count: int, seed: int, progress: Progress | None) -> list[Codes]:
    return sample_codes(
        prior, count, frames, seed, wanted.sampling, wanted.natural_ending, progress, wanted.label, wanted.prompt
    )


def _batch_progress(progress: Progress | None, first: int, count: int, total: int) -> Progress | None:
    """Progress that names the batch, where there are several."""
    if progress is None or count == total:
        return progress
    return lambda done, of, text: progress(done, of, f"sounds {first + 1} to {first + count} of {total}: {text}")


def _finish(codec: VQVAE, wanted: Wanted, judged: Sequence[Judged]) -> list[Sound]:
    given = 0 if wanted.prompt is None else len(wanted.prompt)
    spectrogram = codec.spectrogram
    length = None
    if not wanted.natural_ending:
        length = given * spectrogram.samples_per_frame + max(1, round(wanted.max_seconds * spectrogram.sample_rate))
    whole = [wanted.whole(one.codes) for one in judged]
    samples = decode_sounds(codec, whole, length)
    return [
        Sound(codes, audio, given, one.novelty, one.faults)
        for codes, audio, one in zip(whole, samples, judged, strict=True)
    ]


def decode_sounds(codec: VQVAE, sounds: Iterable[Codes], length: int | None = None) -> list[NDArray[np.float32]]:
    """Decode codes `[F, Q]` of each sound to samples `[N]`, faded at both ends and limited to PEAK.

    With `length` only the first samples are kept. Raises ArtifactError when the codec gives NaN or infinite values.
    """
    fade = int(FADE_SECONDS * codec.spectrogram.sample_rate)
    decoded = decode_each(codec, (torch.from_numpy(codes) for codes in sounds))
    return [_finished(audio[:length], fade) for audio in decoded]


def _finished(audio: Tensor, fade: int) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = audio.cpu().numpy().copy()
    if not np.isfinite(samples).all():
        raise ArtifactError("expected finite samples of the codec, found NaN or infinite values; train it again")
    fade = min(fade, len(samples) // 2)
    ramp = np.linspace(0.0, 1.0, fade, endpoint=False, dtype=np.float32)
    samples[:fade] *= ramp
    samples[len(samples) - fade :] *= ramp[::-1]
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(PEAK / peak) if peak > PEAK else samples
