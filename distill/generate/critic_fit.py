"""Fit a model's critic to its decoded training recordings and to drafts that it generates."""

from collections.abc import Iterator, Sequence

import numpy as np

from distill.audio.side_info import UNKNOWN, SideInfo
from distill.codec.model import VQVAE
from distill.codes.store import Codes
from distill.generate.context import GenerationContext
from distill.generate.decoding import decoded_sounds
from distill.generate.requests.generation import (
    BATCH,
    Attempt,
    GenerationRequest,
    Seeds,
    by_label,
    frames_for_seconds,
)
from distill.generate.selection.critic import Critic
from distill.generate.selection.faults import Samples
from distill.generate.selection.traits import SECONDS, TraitMeter
from distill.generate.settings import LONGEST_SECONDS
from distill.novelty.reference import Reference, evenly
from distill.progress import silent
from distill.seeds import Stream, derive_seed

MOST_RECORDINGS, DRAWN = 256, 96
FEWEST = 10  # minimum recordings for a critic: its proportions are stated in tenths
SEED = derive_seed(0, Stream.CRITIC)  # for drafts, the same for all models


def fit_critic(context: GenerationContext, reference: Reference) -> Critic | None:
    """Fit a critic of a model; None if it has fewer than FEWEST training recordings. Held-out recordings are not used.

    Augmentations of recordings are not used either: they are coded twice, and would teach the critic that noise is like
    recordings.
    """
    if len(reference.codes) < FEWEST:
        return None
    meter = TraitMeter(context.codec.spectrogram.sample_rate)
    sides = [
        np.stack([meter(samples) for samples in side])
        for side in (_decoded(context, reference), _drafts(context))
    ]
    return Critic.fit(*sides)


def _decoded(context: GenerationContext, reference: Reference) -> Iterator[Samples]:
    """Samples `[N]` of decoded training recordings."""
    most = frames_for_seconds(context.codec, SECONDS)
    codes = [own[:most].astype(np.int64) for own in evenly(reference.codes, MOST_RECORDINGS)]
    known = reference.side_info or [UNKNOWN] * len(reference.codes)
    return _in_mono(context.codec, codes, evenly(known, MOST_RECORDINGS))


def _in_mono(codec: VQVAE, codes: Sequence[Codes], known: Sequence[SideInfo]) -> Iterator[Samples]:
    """Mono samples `[N]` of codes `[F, Q]`, with the side information `known` cut to each sound's length."""
    seconds = [len(own) / codec.spectrogram.frame_rate for own in codes]
    side_info = [
        about.cut(0.0, length).in_mono for about, length in zip(known, seconds, strict=True)
    ]
    return (in_mono for _, in_mono in decoded_sounds(codec, codes, side_info=side_info))


def _drafts(context: GenerationContext) -> Iterator[Samples]:
    """Samples `[N]` of DRAWN sounds of the model, divided evenly among labels, without novelty scoring."""
    for label, count in by_label(DRAWN, len(context.labels)):
        request, seeds = (
            GenerationRequest(count, LONGEST_SECONDS, label=label),
            Seeds(derive_seed(SEED, label)),
        )
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            own = [seeds.of_sound(number, 0) for number in numbers]
            drawn = request.draw(context, Attempt(numbers, own, own, silent))
            codes = [sound.codes for sound in drawn]
            followed = [context.side_info_like(sound.followed, None) for sound in drawn]
            yield from _in_mono(context.codec, codes, followed)
