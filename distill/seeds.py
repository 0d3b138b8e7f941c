"""Derive seeds from seeds: random numbers depend on their purpose and position, never on earlier random numbers."""

from enum import IntEnum, unique
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 0x9E3779B97F4A7C15  # increment of SplitMix64
WORD = 0xFFFFFFFFFFFFFFFF  # mask of 64 bits

Words = TypeVar("Words", int, "NDArray[Any]")  # arrays are uint64


@unique
class Stream(IntEnum):
    """Purposes of random numbers. Each has its own number, the second part of its seeds.

    Numbers decide results, so a purpose keeps its number, and a new purpose takes a new number.
    """

    TRAINING_STEP = 1  # dropout and other noise in training, by step and rank
    CROPS = 2  # of the codec's training, by epoch and step; replacements of silent crops also by number and attempt
    CODEC_WEIGHTS = 3
    CODEC_FIT = 4  # fit of projection and codebooks to the corpus
    PRIOR_WEIGHTS = 5
    WINDOWS = 6  # windows for training the prior, by pass through the recordings
    PROBE_WINDOWS = 7  # windows and crops for the spike detector
    VIEWS = 8  # shifts and gains of augmentations, by recording
    AUDITION_LABELS = 10  # by label
    PRETRAINING_BATCHES = 11  # by epoch and step
    PRETRAINING_CODECS = 12  # codecs fitted to random sounds, by number
    MOTIF_SEQUENCES = 13  # that train a memory, by step
    MEMORY_PROBES = 14
    MEMORY_PROBE_SEEDS = 15  # for several probes, by number
    PRETRAINING_SOUNDS = 16  # by number
    VARIED_FRAMES = 17  # frames of a recording that a take keeps, by take
    KIT_SOUNDS = 19  # seeds of the sounds of a kit, by label
    PRETRAINING_COLLECTIONS = 20  # of recordings, by number
    COUNT_FOLDS = 21  # cross-validation folds of the counts
    VIEW_KEYS = 23  # keys of augmentations, by recording
    VIEW_EQUALISERS = 24  # equalisers of augmentations, by recording
    SOUNDS = 25  # codes of sounds and of takes, by number and attempt
    FOLLOWED_NOTES = 26  # codes of notes that follow a recording, by note and candidate
    SCORE_SOUNDS = 27  # seeds of the sounds of a score, by label
    GAPS = 28  # generated parts of a recording, by part
    CONTINUATIONS = 29  # codes for a part, by candidate
    CHOICES = 30  # choice among drafts, by number
    CRITIC = 31  # drafts for fitting a critic, by label


def derive_seed(*parts: int) -> int:
    """Derive a well-mixed 63-bit seed from integers: a seed, a `Stream`, and further numbers."""
    mixed = 0
    for part in parts:
        mixed = mix((mixed + part + STEP) & WORD)
    return mixed >> 1


def mix(words: Words) -> Words:
    """Mix 64-bit words with the finaliser of SplitMix64 (Steele et al. 2014)."""
    words = ((words ^ (words >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    words = ((words ^ (words >> 27)) * 0x94D049BB133111EB) & WORD
    mixed: Words = words ^ (words >> 31)
    return mixed
