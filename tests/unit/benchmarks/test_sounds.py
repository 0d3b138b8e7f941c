import math

import torch

from benchmarks.sounds import breaking_sounds, judge
from distill.codec.build import build_vqvae
from distill.params import get_adaptive_vqvae_config


def test_sounds_stay_in_range_and_chunks_are_judged() -> None:
    sounds = breaking_sounds(8000, seed=0)
    assert all(sound.abs().max() <= 1 for sound in sounds.values())
    config = get_adaptive_vqvae_config(5).model_copy(update={"hidden_size": 16, "num_layers": 1})
    model = build_vqvae(8000, config, seed=0).eval()
    result = judge(model, "30 Hz sine", sounds["30 Hz sine"])
    assert result.finite
    assert math.isfinite(result.jump_at_seams)
    assert result.chunking < 1e-4
    assert math.isnan(judge(model, "short", torch.zeros(100)).jump_at_seams)
