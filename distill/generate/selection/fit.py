"""Fitting a critic to a model: to what its training recordings decode to, and to drafts that it draws."""

from collections.abc import Iterator

import numpy as np

from distill.audio.side_info import UNKNOWN
from distill.generate.faults import Samples
from distill.generate.requests import LONGEST_SECONDS
from distill.generate.selection.critic import Critic
from distill.generate.selection.traits import SECONDS, TraitMeter
from distill.generate.sounds import (
    GenerationRequest,
    Seeds,
    by_label,
    decoded_sounds,
    frames_for_seconds,
    generate_sounds,
)
from distill.generate.source import Source
from distill.novelty.reference import Reference, evenly
from distill.seeds import Stream, derive_seed

MOST_RECORDINGS, DRAFTS = 256, 192
FEWEST = 10  # recordings that a critic is fitted to: of fewer no tenth can be told
SEED = derive_seed(0, Stream.CRITIC)  # of drafts, the same for all models


def fit_critic(source: Source, reference: Reference) -> Critic | None:
    """A critic of a model, None where it learnt fewer than FEWEST recordings. Held-out recordings are not used.

    Views of recordings, which are coded twice, would teach it that noise is like recordings.
    """
    if len(reference.codes) < FEWEST:
        return None
    meter = TraitMeter(source.codec.spectrogram.sample_rate)
    sides = [np.stack([meter(samples) for samples in side]) for side in (_decoded(source, reference), _drafts(source))]
    return Critic.fit(*sides)


def _decoded(source: Source, reference: Reference) -> Iterator[Samples]:
    """Samples `[N]` of training recordings as the codec brings them back."""
    codec, most = source.codec, frames_for_seconds(source.codec, SECONDS)
    codes = [own[:most].astype(np.int64) for own in evenly(reference.codes, MOST_RECORDINGS)]
    seconds = [len(own) / codec.spectrogram.frame_rate for own in codes]
    known = reference.side_info or [UNKNOWN] * len(reference.codes)
    every = zip(evenly(known, MOST_RECORDINGS), seconds, strict=True)
    side_info = [about.cut(0.0, length).in_mono for about, length in every]
    return (in_mono for _, in_mono in decoded_sounds(codec, codes, side_info=side_info))


def _drafts(source: Source) -> Iterator[Samples]:
    """Samples `[N]` of sounds that the model draws, equally many of each label."""
    for label, count in by_label(DRAFTS, len(source.labels)):
        request = GenerationRequest(count, LONGEST_SECONDS, label=label, width=0.0)
        yield from (sound.samples for sound in generate_sounds(source, request, Seeds(derive_seed(SEED, label))).sounds)
