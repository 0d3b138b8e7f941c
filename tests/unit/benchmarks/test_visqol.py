import math

import numpy as np
import pytest

from benchmarks.visqol import FIRST_FRAME, HOP, LEAD, PATCH_FRAMES, SAMPLE_RATE, WINDOW, padded, visqol_scores


@pytest.mark.parametrize("samples", [1, 9_000, 28_801, 100_000])
def test_patches_cover_the_whole_sound_and_hardly_more(samples: int) -> None:
    sound = padded(np.ones(samples, dtype=np.float32), SAMPLE_RATE)
    frames = (len(sound) - WINDOW) // HOP + 1
    # Where ViSQOL's ImagePatchCreator puts its patches.
    starts = range(PATCH_FRAMES // 2 - 1, frames - PATCH_FRAMES - 1, PATCH_FRAMES)
    end = (starts[-1] + PATCH_FRAMES) * HOP
    assert starts[0] == FIRST_FRAME
    assert LEAD + samples <= end < LEAD + samples + PATCH_FRAMES * HOP
    assert sound[:LEAD].max() == 0
    assert sound[LEAD : LEAD + samples].min() == 1


def test_scores_fall_with_noise_and_silence_has_none() -> None:
    pytest.importorskip("visqol", reason="visqol-python is installed by make bench")
    sound = np.sin(np.arange(12_000) * 0.05 * (1 + np.arange(12_000) / 24_000)).astype(np.float32)
    noise = np.random.default_rng(0).normal(size=12_000).astype(np.float32)
    pairs = [(sound, sound), (sound, sound + 0.02 * noise), (sound, sound + 0.5 * noise), (0 * sound, sound)]
    same, near, far, none = visqol_scores(pairs, 24_000, workers=1)
    assert 4.74 > same > near > far >= 1
    assert math.isnan(none)
