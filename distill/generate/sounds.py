"""Generation of sounds: sample codes, judge their novelty, decode, fade, limit the peak."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: codes `[F, Q]`, novelty and faults, None where they are not judged, and samples `[N]` in [-1, 1].

    The first `prompt_frames` codes are the prompt; the novelty is that of the rest. Samples are empty until decoded.
    """

    codes: Codes
    prompt_frames: int
    novelty: Novelty | None
    faults: tuple[Fault, ...] | None
    samples: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def drawn(self) -> Codes:
        """The codes after the prompt."""
        return self.codes[self.prompt_frames :]


@dataclass(frozen=True)
class GenerationRequest:
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

    @property
    def prompt_frames(self) -> int:
        """Number of frames of the prompt."""
        return 0 if self.prompt is None else len(self.prompt)


@dataclass(frozen=True)
class Batch:
    """A batch of sounds, with what was drawn again.

    `redrawn` counts redraws for lack of novelty alone, `not_new` sounds that are still not new enough, `rejected`
    redraws for faults.
    """

    sounds: list[Sound]
    redrawn: int = 0
    not_new: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class Checks:
    """What sounds are judged by, and which are drawn again: those that `is_new` refuses, with `reject_faults` faulty ones."""

    comparison: Comparison | None = None
    is_new: IsNew | None = None
    finder: FaultFinder | None = None
    reject_faults: bool = False

    def judge(self, request: GenerationRequest, drawn: Sequence[Codes]) -> list[Sound]:
        """Sounds with novelty and faults, but no samples, given the codes `[F, Q]` that were drawn after the prompt."""
        whole = drawn if request.prompt is None else [np.concatenate([request.prompt, codes]) for codes in drawn]
        novelty: Sequence[Novelty | None] = [None] * len(drawn)
        faults: Sequence[tuple[Fault, ...] | None] = [None] * len(drawn)
        if self.comparison is not None:
            novelty = self.comparison.novelty(drawn)
        if self.finder is not None:
            faults = self.finder(whole, request.kinds)
        judged = zip(whole, novelty, faults, strict=True)
        return [Sound(codes, request.prompt_frames, new, found) for codes, new, found in judged]

    def is_old(self, sound: Sound) -> bool:
        """Whether a sound is not new enough."""
        return self.is_new is not None and sound.novelty is not None and not self.is_new(sound.novelty)

    def is_rejected(self, sound: Sound) -> bool:
        """Whether a sound is drawn again for its faults."""
        return self.reject_faults and bool(sound.faults)


NO_CHECKS = Checks()


def frames_for_seconds(codec: VQVAE, seconds: float) -> int:
    """Number of frames that cover `seconds`, at least one."""
    return max(1, math.ceil(seconds * codec.spectrogram.frame_rate))


def generate_batches(
    codec: VQVAE,
    prior: Prior | None,
    request: GenerationRequest,
    seed: int,
    checks: Checks = NO_CHECKS,
    progress: Progress | None = None,
) -> Iterator[Batch]:
    """Generate sounds in batches of at most BATCH, each from its own seed, and judge them.

    Sounds that `checks` refuse are drawn again, at most MOST_DRAWS times. Raises ArtifactError when there is no prior,
    or when a network gives NaN or infinite values.
    """
    if prior is None:
        raise ArtifactError(
            "the model holds a codec and no prior: expected one with a prior; train one with `dvc repro`"
        )
    frames = frames_for_seconds(codec, request.max_seconds)
    for first in range(0, request.count, BATCH):
        count = min(BATCH, request.count - first)
        reporting = _batch_progress(progress, first, count, request.count)
        sounds = checks.judge(request, _draw(prior, frames, request, count, derive_seed(seed, first), reporting))
        redrawn = rejected = 0
        for attempt in range(1, MOST_DRAWS):
            faulty = [checks.is_rejected(sound) for sound in sounds]
            refused = [index for index, sound in enumerate(sounds) if faulty[index] or checks.is_old(sound)]
            if not refused:
                break
            seed_again = derive_seed(seed, Stream.REDRAWN_SOUNDS, first, attempt)
            again = _draw(prior, frames, request, len(refused), seed_again, reporting)
            for index, sound in zip(refused, checks.judge(request, again), strict=True):
                sounds[index] = sound
            rejected += sum(faulty)
            redrawn += len(refused) - sum(faulty)
        yield Batch(_decoded(codec, request, sounds), redrawn, sum(map(checks.is_old, sounds)), rejected)


def generate_sounds(codec: VQVAE, prior: Prior | None, request: GenerationRequest, seed: int) -> list[Sound]:
    """Generate all sounds without judging them. Raises as `generate_batches`."""
    return [sound for batch in generate_batches(codec, prior, request, seed) for sound in batch.sounds]


def _draw(
    prior: Prior, frames: int, request: GenerationRequest, count: int, seed: int, progress: Progress | None
) -> list[Codes]:
    return sample_codes(
        prior, count, frames, seed, request.sampling, request.natural_ending, progress, request.label, request.prompt
    )


def _batch_progress(progress: Progress | None, first: int, count: int, total: int) -> Progress | None:
    """Progress that names the batch, where there are several."""
    if progress is None or count == total:
        return progress
    return lambda done, of, text: progress(done, of, f"sounds {first + 1} to {first + count} of {total}: {text}")


def _decoded(codec: VQVAE, request: GenerationRequest, sounds: Sequence[Sound]) -> list[Sound]:
    """The sounds with their samples, of the requested length."""
    spectrogram, length = codec.spectrogram, None
    if not request.natural_ending:
        drawn_samples = max(1, round(request.max_seconds * spectrogram.sample_rate))
        length = request.prompt_frames * spectrogram.samples_per_frame + drawn_samples
    decoded = decode_sounds(codec, [sound.codes for sound in sounds], length)
    return [replace(sound, samples=samples) for sound, samples in zip(sounds, decoded, strict=True)]


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
