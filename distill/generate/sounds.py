"""Generation of sounds and of variations: sample codes, judge them, draw again what is refused, decode, fade.

A variation, or take, keeps a part of a recording's codes, and the prior draws the rest given these. The coarser levels of
a frame are kept first, and tones with the coarsest. With strength finer levels go before coarser ones, in runs of
frames, and of equal seeds the codes that a greater strength keeps are among those that a smaller one keeps.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.codec.model import VQVAE
from distill.codec.streaming import decode_each
from distill.codes.store import Codes, tone_levels
from distill.errors import ArtifactError
from distill.generate.faults import FAULTS, WITH_LENGTH, WITH_PROMPT, Fault, FaultFinder
from distill.generate.sampling import FixedCodes, Sampling, sample_codes
from distill.generate.tuner import Tuner
from distill.novelty.verdict import Judge, Novelty
from distill.prior.base import Prior
from distill.progress import Progress
from distill.seeds import Stream, derive_seed

BATCH = 64
MOST_DRAWS = 20  # attempts at a sound that is refused
FADE_IN_SECONDS, FADE_OUT_SECONDS = 0.0005, 0.005  # at the ends of a sound: a longer start softens attacks
PEAK = 0.98  # largest amplitude
MOST_CUT = 2.0  # of a peak, 6 dB: sounds with higher ones are made softer
IN_TUNE = 0.2  # semitones from the note, at most
MISTUNED = "mistuned"  # why a sound at a note is drawn again
RUN_FRAMES = 8  # frames over which the choice of what a take keeps is smoothed
COARSE_FROM = 0.5  # strength from which tones and the coarsest level are drawn again; the finest is in all frames
PULL = 3.0  # exponent of the pull to the recording's code at strength 0 and the mean distance of two codewords

Samples = NDArray[np.float32]  # [N], in [-1, 1]
DEFAULT = Sampling()
NO_SAMPLES: Samples = np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: codes `[F, Q]`, novelty and faults, None where they are not judged, and samples, empty
    until decoded, with their length; the note asked for and the pitch measured, in semitones (MIDI), None without.

    The codes begin with those of a prompt; the novelty is that of the rest.
    """

    codes: Codes
    novelty: Novelty | None
    faults: tuple[Fault, ...] | None
    samples: Samples
    seconds: float = 0.0
    note: float | None = None
    pitch: float | None = None

    @property
    def is_at_note(self) -> bool:
        """Whether it has no note that it should be at, or is at it."""
        return self.note is None or (self.pitch is not None and abs(self.pitch - self.note) <= IN_TUNE)


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """A request for `count` sounds that end at EOS within `max_seconds`, or last exactly as long.

    They continue the codes `prompt` `[P, Q]`, if any, or are takes of the codes `recording` `[F, Q]`, `max_seconds` long;
    `strength`, in [0, 1], says how much of it is drawn again. `label` counts from 1, 0 is none. With `notes`, in
    semitones (MIDI), sounds are at these in turn; what is measured elsewhere is drawn again. With `follow_tones` what is
    drawn of a take has the tones of its recording, else any.
    """

    count: int
    max_seconds: float
    natural_ending: bool = True
    sampling: Sampling = DEFAULT
    label: int = 0
    prompt: Codes | None = None
    recording: Codes | None = None
    strength: float = 1.0
    notes: Sequence[float] = ()
    follow_tones: bool = False

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """The faults that such sounds can have: whoever asks for a length or a beginning gets it."""
        by_length = FAULTS if self.natural_ending else WITH_LENGTH
        return tuple(kind for kind in by_length if self.prompt is None or kind in WITH_PROMPT)

    def note_of(self, number: int) -> float | None:
        """The note that a sound of this number should be at, if any."""
        return self.notes[number % len(self.notes)] if self.notes else None

    @property
    def prompt_frames(self) -> int:
        """Number of frames of the prompt."""
        return 0 if self.prompt is None else len(self.prompt)


@dataclass(frozen=True)
class Checks:
    """What sounds are judged by, and which are drawn again: those that `is_new` refuses, with `reject_faults` faulty ones."""

    judge: Judge | None = None
    is_new: Callable[[Novelty], bool] = lambda _: True
    finder: FaultFinder | None = None
    reject_faults: bool = False
    tuner: Tuner | None = None  # of sounds at notes; made where there is none

    def judged(self, request: GenerationRequest, drawn: Sequence[Codes]) -> list[Sound]:
        """Sounds with novelty and faults, given the codes `[F, Q]` that were drawn after the prompt."""
        whole = drawn if request.prompt is None else [np.concatenate([request.prompt, codes]) for codes in drawn]
        novelty = [None] * len(drawn) if self.judge is None else self.judge(drawn)
        faults = [None] * len(drawn) if self.finder is None else self.finder(whole, request.kinds)
        return [Sound(*judged, NO_SAMPLES) for judged in zip(whole, novelty, faults, strict=True)]

    def refusal(self, sound: Sound) -> str:
        """Why a sound is drawn again; "" where it is not."""
        if self.reject_faults and sound.faults:
            return "faulty"
        if not sound.is_at_note:
            return MISTUNED
        return "" if sound.novelty is None or self.is_new(sound.novelty) else "old"


@dataclass(frozen=True)
class Draws:
    """What was drawn, by number, what was drawn again last; why others were drawn again, and why some are still refused."""

    drawn: dict[int, Sound]
    redrawn: Counter[str]
    left: dict[int, str]


def draw_again(
    numbers: Sequence[int], draw: Callable[[Sequence[int], int], Sequence[Sound]], refusal: Callable[[Sound], str]
) -> Draws:
    """Draw, and draw again that for which `refusal` gives a reason, at most MOST_DRAWS times in all.

    `draw` is called with the numbers of what is missing and that of the attempt.
    """
    drawn: dict[int, Sound] = {}
    redrawn: Counter[str] = Counter()
    left: dict[int, str] = {}
    for attempt in range(MOST_DRAWS):
        redrawn.update(left.values())
        for number, sound in zip(numbers, draw(numbers, attempt), strict=True):
            drawn.pop(number, None)  # so that it goes to the end
            drawn[number] = sound
        left = {number: reason for number in numbers if (reason := refusal(drawn[number]))}
        if not left:
            break
        numbers = list(left)
    return Draws(drawn, redrawn, left)


def generate_sounds(
    codec: VQVAE,
    prior: Prior | None,
    request: GenerationRequest,
    seed: int,
    checks: Checks | None = None,
    progress: Progress | None = None,
    take: Callable[[int, Samples], None] | None = None,
) -> Draws:
    """Generate sounds in batches of at most BATCH, each from its own seed; what `checks` refuse is drawn again.

    At strength 0 all takes are the recording, at strength 1 they are as without it; in between those that equal the
    recording or another take are drawn again. `take` is called with the index and samples of every sound as soon as its
    batch is ready; then no samples are kept. Raises ArtifactError when there is no prior, or when a network gives NaN or
    infinite values, or when no sound is at its note.
    """
    if prior is None:
        raise ArtifactError(
            "the model holds a codec and no prior: expected one with a prior; train one with `dvc repro`"
        )
    drawing = _Drawing(codec, prior, request, seed, checks or Checks(), progress)
    made = drawing.made
    for first in range(0, request.count, BATCH):
        numbers = range(first, min(first + BATCH, request.count))
        batch = draw_again(numbers, drawing.draw, drawing.refusal)
        if not first and request.recording is None and list(batch.left.values()) == [MISTUNED] * len(numbers):
            other = "choose another label" if request.prompt is None else "give a length: what goes on may be short"
            raise ArtifactError(
                f"note: expected a sound at its note within {100 * IN_TUNE:.0f} cents, found none among "
                f"{MOST_DRAWS * len(numbers)} that were drawn; leave the note out, or {other}"
            )
        for number, samples in zip(numbers, drawing.samples([batch.drawn[number] for number in numbers]), strict=True):
            if take is not None:
                take(number, samples)
            seconds = len(samples) / codec.spectrogram.sample_rate
            made.drawn[number] = replace(batch.drawn[number], samples=NO_SAMPLES if take else samples, seconds=seconds)
        made.redrawn.update(batch.redrawn)
        made.left.update(batch.left)
    return made


class _Drawing:
    """Draws the sounds of a request for `draw_again`; `made` has those of the batches before."""

    def __init__(
        self,
        codec: VQVAE,
        prior: Prior,
        request: GenerationRequest,
        seed: int,
        checks: Checks,
        progress: Progress | None,
    ) -> None:
        self.codec, self.prior, self.request, self.seed = codec, prior, request, seed
        self.checks, self.progress, self.made = checks, progress, Draws({}, Counter(), {})
        recording = request.recording
        self.frames = frames_for_seconds(codec, request.max_seconds) if recording is None else len(recording)
        self.prompt_samples = request.prompt_frames * codec.spectrogram.samples_per_frame
        self.length: int | None = None  # of each sound, where it is given
        if not request.natural_ending:
            self.length = self.prompt_samples + max(1, round(request.max_seconds * codec.spectrogram.sample_rate))
        self.tuner = (checks.tuner or Tuner(codec, prior)) if request.notes or request.follow_tones else None
        self.known = set() if recording is None else {recording.tobytes()}

    def draw(self, numbers: Sequence[int], attempt: int) -> list[Sound]:
        """Draw the sounds of these numbers and judge them; those at notes are decoded, and their pitch is measured."""
        sounds = self.checks.judged(self.request, self._codes(numbers, attempt))
        if self.tuner is None:
            return sounds
        decoded = decode_sounds(self.codec, [sound.codes for sound in sounds], self.length)
        pitches = [self.tuner.measure(samples[self.prompt_samples :]) for samples in decoded]
        return [
            replace(sound, samples=samples, note=self.request.note_of(number), pitch=pitch)
            for number, sound, samples, pitch in zip(numbers, sounds, decoded, pitches, strict=True)
        ]

    def _codes(self, numbers: Sequence[int], attempt: int) -> list[Codes]:
        """Codes `[F, Q]` of the sounds of these numbers, without those of the prompt."""
        request, recording, strength = self.request, self.request.recording, self.request.strength
        if recording is not None and not strength:
            return [recording.copy() for _ in numbers]
        again = Stream.REDRAWN_SOUNDS if recording is None else Stream.REDRAWN_TAKES
        first, kept, weights = len(self.made.drawn), None, None  # the number of the batch's first sound
        seed = derive_seed(self.seed, again, first, attempt) if attempt else derive_seed(self.seed, first)
        if recording is not None and strength < 1:
            seeds = [derive_seed(self.seed, Stream.VARIED_FRAMES, number, attempt) for number in numbers]
            sizes = self.codec.architecture.codebook_sizes
            fixed = torch.from_numpy(np.stack([kept_codes(recording, sizes, strength, one) for one in seeds]))
            kept = FixedCodes(fixed, pull_to(self.codec.code_vectors(), recording, strength))
        if self.tuner is not None and recording is not None:
            weights = self.tuner.following(recording, len(numbers))
        elif self.tuner is not None:
            weights = self.tuner.weights(list(map(request.note_of, numbers)))
        settings = (
            request.sampling,
            request.natural_ending,
            self._report,
            request.label,
            request.prompt,
            kept,
            weights,
        )
        return sample_codes(self.prior, len(numbers), self.frames, seed, *settings)

    def _report(self, done: int, of: int, text: str) -> None:
        if self.progress is not None:
            first, count = len(self.made.drawn), self.request.count
            name = f"sounds {first + 1} to {min(first + BATCH, count)} of {count}: " if count > BATCH else ""
            self.progress(done, of, name + text)

    def refusal(self, sound: Sound) -> str:
        """Why a sound is drawn again; "" where it is not."""
        codes, recording, strength = sound.codes.tobytes(), self.request.recording, self.request.strength
        is_equal = recording is not None and strength > 0 and codes in self.known
        self.known.add(codes)
        reason = "equal" if is_equal else self.checks.refusal(sound)
        keeps_tones = recording is not None and strength <= COARSE_FROM  # so that drawing again changes no pitch
        return "" if reason == MISTUNED and keeps_tones else reason

    def samples(self, sounds: Sequence[Sound]) -> list[Samples]:
        """Samples `[N]` of sounds, decoded unless they were for their pitch."""
        if self.tuner is not None:
            return [sound.samples for sound in sounds]
        return decode_sounds(self.codec, [sound.codes for sound in sounds], self.length)


def frames_for_seconds(codec: VQVAE, seconds: float) -> int:
    """Number of frames that cover `seconds`, at least one."""
    return max(1, math.ceil(seconds * codec.spectrogram.frame_rate))


def kept_codes(codes: Codes, codebook_sizes: Sequence[int], strength: float, seed: int) -> Codes:
    """The codes that a take keeps of codes `[F, Q]`, -1 where to draw: fewer with strength, and coarser levels longer.

    Note, tuning and atom are kept as long as the level before them, the loudness. All are kept at strength 0, none at
    strength 1. Above strength 0 at least one code is drawn.
    """
    frames, levels = codes.shape
    noise = np.random.default_rng(seed).standard_normal(frames + RUN_FRAMES - 1)
    ranks = np.convolve(noise, np.ones(RUN_FRAMES), mode="valid").argsort().argsort() / frames  # [F], in [0, 1)
    # The proportion of frames in which each level is drawn: it rises from its strength on.
    steps = (np.arange(levels) - len(tone_levels(codebook_sizes))).clip(0)  # from the coarsest level
    rises_from = COARSE_FROM * (1 - steps / steps[-1]) if levels > 1 else np.zeros(1)
    drawn = ((strength - rises_from) / (1 - COARSE_FROM if levels > 1 else 1.0)).clip(0.0, 1.0)
    kept = (ranks[:, None] >= drawn).sum(axis=1)  # [F], levels
    return np.where(np.arange(levels) < kept[:, None], codes, -1)


def pull_to(codebooks: Sequence[Tensor], codes: Codes, strength: float) -> Callable[[int, int], Tensor] | None:
    """Weights `[V]` of a level's codewords at a frame, by their squared distance to that of `codes`; None at strength 1.

    `codebooks` are `[V, D]` of each level. The unit of distance is the mean squared distance of two codewords of the level.
    """
    if strength >= 1:
        return None
    exponent = PULL * (1 - strength)
    spreads = [2 * (book - book.mean(dim=0)).square().sum(dim=1).mean() for book in codebooks]

    def weights(level: int, frame: int) -> Tensor:
        book = codebooks[level]
        distances = (book - book[int(codes[frame, level])]).square().sum(dim=1)
        return (-exponent * distances / spreads[level].clamp_min(1e-12)).exp()

    return weights


def decode_sounds(codec: VQVAE, sounds: Iterable[Codes], length: int | None = None) -> list[Samples]:
    """Decode codes `[F, Q]` of each sound to samples `[N]`, faded at both ends and `limited`.

    With `length` only the first samples are kept. Raises ArtifactError when the codec gives NaN or infinite values.
    """
    finished = []
    for audio in decode_each(codec, map(torch.from_numpy, sounds)):
        samples: Samples = audio[:length].cpu().numpy().copy()
        if not np.isfinite(samples).all():
            raise ArtifactError("expected finite samples of the codec, found NaN or infinite values; train it again")
        for seconds, part in ((FADE_IN_SECONDS, samples), (FADE_OUT_SECONDS, samples[::-1])):
            fade = min(int(seconds * codec.spectrogram.sample_rate), len(samples) // 2)
            part[:fade] *= np.linspace(0.0, 1.0, fade, endpoint=False, dtype=np.float32)
        finished.append(limited(samples))
    return finished


def limited(samples: Samples) -> Samples:
    """Samples `[N]` whose peaks are cut to PEAK, and no softer for that.

    Codes have no phases: the partials of a clipped recording come to higher peaks.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if peak <= PEAK:
        return samples
    samples = samples * np.float32(min(1.0, MOST_CUT * PEAK / peak))
    level, rounds = np.linalg.norm(samples), 8
    for _ in range(rounds):
        cut = samples.clip(-PEAK, PEAK)
        samples = cut * (level / np.linalg.norm(cut))
    return samples.clip(-PEAK, PEAK)
