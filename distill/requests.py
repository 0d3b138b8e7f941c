"""Arguments of what a model makes: ranges, defaults, and what they mean."""

import secrets

from distill.errors import ParamsError
from distill.generate.sounds import IsNew
from distill.novelty.verdict import VERDICTS
from distill.params import (
    Guidance,
    SamplingSeed,
    Seconds,
    Settings,
    Sounds,
    Strength,
    Temperature,
    TopK,
    TopP,
    default_values,
)


def seed_or_any(seed: int | None) -> int:
    """The given seed, or a random one."""
    return secrets.randbelow(2**31) if seed is None else seed


def new_enough(least: str | float) -> IsNew:
    """Build the test of a sound's novelty from `least`: "close", "new" or a number from 0 to 1. Raises ParamsError."""
    if least in VERDICTS:
        return lambda novelty: VERDICTS.index(novelty.verdict) >= VERDICTS.index(least)
    try:
        share = float(least)
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise ParamsError(f"--min-novelty {least}: expected close, new or a number from 0 to 1, found neither")
    return lambda novelty: 1 - novelty.percentile >= share


def guidance_of(label: str | None, guidance: float | None) -> float:
    """The scale of guidance, by default 1 without a label. Raises ParamsError for one without a label."""
    if guidance is None:
        return 1.0 if label is None else float(default_values()["audition"]["guidance"])
    if guidance != 1 and label is None:
        raise ParamsError(
            f"guidance {guidance:g}: expected a label to guide towards, found none; name one with --label"
        )
    return guidance


class SoundRequest(Settings):
    """Arguments of `Model.generate` and `Model.vary`, with the ranges of `distill.params`."""

    n: Sounds
    seed: SamplingSeed | None
    temperature: Temperature
    guidance: Guidance | None
    seconds: Seconds | None = None
    top_k: TopK = 0
    top_p: TopP = 1.0
    strength: Strength = 0.0
