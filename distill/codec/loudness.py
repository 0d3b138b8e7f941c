"""Codes of loudness: the first level of codecs that keep the loudness of a frame apart from its spectrum."""

LOUDNESS_RANGE = (-5.0, 2.0)  # log10 of an amplitude, from silence to full scale
LOUDNESS_STEP = 0.1  # 2 dB: smaller steps cost the prior bits


def loudness_step(codebook_size: int) -> float:
    """Step between neighbouring codes of loudness, as log10 of an amplitude."""
    low, high = LOUDNESS_RANGE
    return max(LOUDNESS_STEP, (high - low) / max(1, codebook_size - 1))
