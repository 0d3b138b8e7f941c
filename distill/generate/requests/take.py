"""Takes keep part of a recording's codes, and the prior samples the rest.

As strength rises, fine levels are sampled before coarse levels, in runs of frames; tones stay as long as the coarsest
level. With the same seed, codes kept at a higher strength are a subset of those kept at a lower strength.
"""

from dataclasses import dataclass

import numpy as np
import torch

from distill.codec.layout import NOTE, SHAPE
from distill.codes.store import Codes
from distill.generate.context import GenerationContext
from distill.generate.requests.generation import Attempt, GenerationRequest
from distill.generate.sampling.processors import LogitsProcessor, keep, pull_to
from distill.generate.sampling.sampler import SampledCodes

COARSE_FROM = 0.5  # strength at which tones and the coarsest level begin to be sampled; the finest is in all frames


@dataclass(frozen=True, eq=False, kw_only=True)
class TakeRequest(GenerationRequest):
    """Request for takes of the codes `recording` `[F, Q]`, `max_seconds` long.

    `strength`, in [0, 1], is how much is sampled anew. With `follow_tones` new codes keep the recording's pitch.
    """

    recording: Codes
    strength: float
    natural_ending: bool = False
    follow_tones: bool = False

    @property
    def is_tuned(self) -> bool:
        """Whether the pitch of each take is measured."""
        return bool(self.notes) or self.follow_tones

    def draw(self, context: GenerationContext, attempt: Attempt) -> list[SampledCodes]:
        """Sample codes of some takes."""
        recording, strength, codec, count = (
            self.recording,
            self.strength,
            context.codec,
            len(attempt.numbers),
        )
        if not strength:
            return [SampledCodes(recording.copy()) for _ in attempt.numbers]
        processors: list[LogitsProcessor] = (
            [context.tuner.following(recording, count)] if self.is_tuned else []
        )
        if strength < 1:
            kept = [kept_codes(recording, strength, own) for own in attempt.take_seeds]
            processors += [
                pull_to(codec.code_vectors(), torch.from_numpy(recording), strength),
                keep(torch.from_numpy(np.stack(kept))),
            ]
        return self._sampled(
            context, attempt, len(recording), processors, has_courses=strength == 1
        )


def kept_codes(codes: Codes, strength: float, seed: int) -> Codes:
    """Codes that a take keeps of codes `[F, Q]`, with -1 where to sample: fewer as strength rises, fine levels first.

    Tone levels are kept as long as the loudness. All codes are kept at strength 0, none at strength 1. Above strength 0
    at least one code is sampled.
    """
    run_frames = 8  # frames over which the random choice of kept codes is smoothed
    frames, levels = codes.shape
    noise = np.random.default_rng(seed).standard_normal(frames + run_frames - 1)
    ranks = (
        np.convolve(noise, np.ones(run_frames), mode="valid").argsort().argsort() / frames
    )  # [F], in [0, 1)
    # Proportion of sampled frames for each level; a finer level begins at a lower strength.
    steps = (np.arange(levels) - (SHAPE - NOTE)).clip(0)  # counted from the coarsest level
    drawn = ((strength - COARSE_FROM * (1 - steps / steps[-1])) / (1 - COARSE_FROM)).clip(0.0, 1.0)
    kept = (ranks[:, None] >= drawn).sum(axis=1)  # [F], number of levels
    return np.where(np.arange(levels) < kept[:, None], codes, -1)
