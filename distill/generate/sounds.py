"""Generation of sounds: sample codes, judge their novelty, decode, fade, limit the peak."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.errors import ArtifactError
from distill.generate.sampling import Sampling, sample_codes
from distill.novelty.report import Comparison
from distill.novelty.verdict import Novelty
from distill.prior.base import Prior
from distill.seeds import Stream, derive_seed

BATCH = 64
FADE_SECONDS = 0.005
PEAK = 0.98
DEFAULT = Sampling()
MOST_DRAWS = 20  # attempts at a sound that is not new enough

Progress = Callable[[int, int, str], None]
IsNew = Callable[[Novelty], bool]


@dataclass(frozen=True)
class Sound:
    """A generated sound: codes `[F, Q]`, samples `[N]` in [-1, 1], and novelty, None where there is no reference.

    The first `prompt_frames` codes are the prompt; the novelty is that of the rest.
    """

    codes: Codes
    samples: NDArray[np.float32]
    prompt_frames: int
    novelty: Novelty | None

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


@dataclass(frozen=True)
class Drawn:
    """A batch of sounds, with the number of redraws for lack of novelty and of sounds that are still not new enough."""

    sounds: list[Sound]
    redrawn: int = 0
    not_new: int = 0


def frames_for_seconds(codec: VQVAE, seconds: float) -> int:
    """Number of frames that cover `seconds`, at least one."""
    return max(1, math.ceil(seconds * codec.spectrogram.frame_rate))


def generate_batches(
    codec: VQVAE,
    prior: Prior | None,
    wanted: Wanted,
    seed: int,
    comparison: Comparison | None = None,
    is_new: IsNew | None = None,
    progress: Progress | None = None,
) -> Iterator[Drawn]:
    """Generate sounds in batches of at most BATCH, each from its own seed; with a comparison, judge their novelty.

    Sounds that `is_new` rejects are drawn again, at most MOST_DRAWS times. Raises ArtifactError when there is no prior,
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
        drawn = _draw(prior, frames, wanted, count, derive_seed(seed, first), reporting)
        novelty = comparison.novelty(drawn) if comparison is not None else []
        redrawn, rejected = 0, _rejected(novelty, is_new)
        for attempt in range(1, MOST_DRAWS):
            if comparison is None or not rejected:
                break
            redrawn_codes = _draw(
                prior,
                frames,
                wanted,
                len(rejected),
                derive_seed(seed, Stream.REDRAWN_SOUNDS, first, attempt),
                reporting,
            )
            for index, codes, one in zip(rejected, redrawn_codes, comparison.novelty(redrawn_codes), strict=True):
                drawn[index], novelty[index] = codes, one
            redrawn += len(rejected)
            rejected = _rejected(novelty, is_new)
        yield Drawn(_finish(codec, wanted, drawn, novelty or [None] * count), redrawn, len(rejected))


def generate_sounds(codec: VQVAE, prior: Prior | None, wanted: Wanted, seed: int) -> list[Sound]:
    """Generate all sounds without judging their novelty. Raises as `generate_batches`."""
    return [sound for batch in generate_batches(codec, prior, wanted, seed) for sound in batch.sounds]


def _rejected(novelty: Sequence[Novelty], is_new: IsNew | None) -> list[int]:
    """Indices of the sounds that are not new enough."""
    return [index for index, one in enumerate(novelty) if is_new is not None and not is_new(one)]


def _draw(prior: Prior, frames: int, wanted: Wanted, count: int, seed: int, progress: Progress | None) -> list[Codes]:
    return sample_codes(
        prior, count, frames, seed, wanted.sampling, wanted.natural_ending, progress, wanted.label, wanted.prompt
    )


def _batch_progress(progress: Progress | None, first: int, count: int, total: int) -> Progress | None:
    """Progress that names the batch, where there are several."""
    if progress is None or count == total:
        return progress
    return lambda done, of, text: progress(done, of, f"sounds {first + 1} to {first + count} of {total}: {text}")


def _finish(codec: VQVAE, wanted: Wanted, drawn: Sequence[Codes], novelty: Sequence[Novelty | None]) -> list[Sound]:
    given = np.empty((0, drawn[0].shape[1]), dtype=np.int64) if wanted.prompt is None else wanted.prompt
    spectrogram = codec.spectrogram
    length = None
    if not wanted.natural_ending:
        length = len(given) * spectrogram.samples_per_frame + max(
            1, round(wanted.max_seconds * spectrogram.sample_rate)
        )
    whole = [np.concatenate([given, codes]) for codes in drawn]
    samples = decode_sounds(codec, whole, length)
    parts = zip(whole, samples, novelty, strict=True)
    return [Sound(codes, audio, len(given), one) for codes, audio, one in parts]


def decode_sounds(codec: VQVAE, sounds: Iterable[Codes], length: int | None = None) -> list[NDArray[np.float32]]:
    """Decode codes `[F, Q]` of each sound to samples `[N]`, faded at both ends and limited to PEAK.

    With `length` only the first samples are kept. Raises ArtifactError when the codec gives NaN or infinite values.
    """
    fade = int(FADE_SECONDS * codec.spectrogram.sample_rate)
    decoded = codec.decode_each(torch.from_numpy(codes) for codes in sounds)
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
