"""Seeds from seeds: every draw is a function of where it is made, never of what was drawn before."""

from enum import IntEnum, unique
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 0x9E3779B97F4A7C15  # of SplitMix64, from word to word
WORD = 0xFFFFFFFFFFFFFFFF  # its words have 64 bits

Words = TypeVar("Words", int, "NDArray[Any]")  # an array is of uint64


@unique
class Stream(IntEnum):
    """What random numbers are for. Each purpose has a number of its own, the second part of its seeds.

    The numbers decide bytes: a purpose keeps its number, and a new one takes a new number.
    """

    TRAINING_STEP = 1  # dropout and the like, by step and rank
    CROPS = 2  # of the codec's training, by epoch and step; in place of silent ones also by number and attempt
    CODEC_WEIGHTS = 3
    CODEC_FIT = 4  # of projection and codebooks to the corpus
    PRIOR_WEIGHTS = 5
    WINDOWS = 6  # of the prior's training, by pass through the recordings
    PROBE_WINDOWS = 7  # and crops, that the spike detector looks at
    VIEWS = 8  # shifts and gains of a recording, by recording
    AUDITION_LABELS = 10  # by label
    PRETRAINING_BATCHES = 11  # by epoch and step
    PRETRAINING_CODECS = 12  # codecs fitted to random sounds, by number
    MOTIF_SEQUENCES = 13  # that teach a memory, by step
    MEMORY_PROBES = 14
    MEMORY_PROBE_SEEDS = 15  # of several probes, by number
    PRETRAINING_SOUNDS = 16  # by number
    VARIED_FRAMES = 17  # frames of a recording that a take keeps, by take
    KIT_SOUNDS = 19  # seeds of the sounds of a kit, by label
    PRETRAINING_COLLECTIONS = 20  # of recordings, by number
    COUNT_FOLDS = 21  # which recordings are left out of counts together
    VIEW_KEYS = 23  # keys of the views of a recording, by recording
    VIEW_EQUALISERS = 24  # equalisers of the views of a recording, by recording
    SOUNDS = 25  # codes of sounds and of takes, by number and attempt
    FOLLOWED_NOTES = 26  # codes of the notes of a sound that follows a recording, by note and candidate
    SCORE_SOUNDS = 27  # seeds of the sounds of a score, by label
    GAPS = 28  # parts of a recording that are drawn, by part
    CONTINUATIONS = 29  # codes for a part, by candidate
    CHOICES = 30  # one of several drafts, by number
    CRITIC = 31  # drafts that a critic is fitted to, by label


def derive_seed(*parts: int) -> int:
    """A 63-bit seed from integers, well mixed: a seed, a `Stream`, and more."""
    mixed = 0
    for part in parts:
        mixed = mix((mixed + part + STEP) & WORD)
    return mixed >> 1


def mix(words: Words) -> Words:
    """Words of 64 bits, well mixed: the finaliser of SplitMix64 (Steele et al. 2014)."""
    words = ((words ^ (words >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    words = ((words ^ (words >> 27)) * 0x94D049BB133111EB) & WORD
    mixed: Words = words ^ (words >> 31)
    return mixed
