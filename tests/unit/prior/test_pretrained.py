"""Pretrained weights: one set for any number of levels and codewords, and a prior for a codec alone."""

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distill.codec.coordinates import codewords_of
from distill.codec.streaming import encode
from distill.codes.sequences import Batch, bos_token
from distill.codes.store import CodesConfig
from distill.params import PRETRAINED_SIZES, PriorConfig, get_adaptive_prior_config
from distill.prior.artifact import build_prior
from distill.prior.base import PriorShape
from distill.prior.data import PriorData
from distill.prior.frame import FramePrior
from distill.prior.pointer_mixture import NETWORK_ALONE
from distill.prior.pretrained import (
    LABEL_GAIN,
    LABELS,
    MAX_LEVELS,
    PATH,
    for_levels,
    label_summaries,
    label_vectors,
    load_pretrained_prior,
    pretrained_prior,
)
from distill.prior.training import prior_to_train, why_not_pretrained
from unit.codec.test_coordinates import fitted_codec
from unit.tiny import prior_shape
from unit.training.coded import coded


def shape(levels: int = 6, codebook_size: int = 32, **changes: Any) -> PriorShape:
    sizes = {"codebook_sizes": (codebook_size,) * levels, "context_frames": 20, "codeword_size": 64}
    return prior_shape(**{**sizes, "count_experts": True, **PRETRAINED_SIZES, **changes})


def settings(**changes: object) -> PriorConfig:
    return get_adaptive_prior_config(50, **changes)


def untrained(levels: int, codebook_size: int, **changes: object) -> FramePrior:
    torch.manual_seed(0)
    codewords = torch.randn(levels, codebook_size, 64, generator=torch.Generator().manual_seed(1))
    model = build_prior(shape(levels, codebook_size, **changes), codewords)
    assert isinstance(model, FramePrior)
    return model


@pytest.mark.parametrize(("levels", "codebook_size"), [(6, 64), (16, 32)])
def test_one_set_of_weights_fits_any_codec(levels: int, codebook_size: int) -> None:
    model = untrained(levels, codebook_size)
    load_pretrained_prior(model)
    stored = load_file(PATH)
    rows = [0, 13, 14, 15, *range(1, levels - 3)]  # tones have the last
    assert torch.equal(model.level, stored["level"][rows].float())
    assert torch.equal(model.stack.blocks[0].attend.weight, stored["stack.blocks.0.attend.weight"].float())
    assert not bool(model.bias.any())
    assert not bool(model.input_embedding.free.any())
    inputs = torch.randint(codebook_size, (2, 7, levels), generator=torch.Generator().manual_seed(2))
    assert bool(
        model.eval()(Batch(inputs, inputs, torch.zeros(2, dtype=torch.int64)))[..., :codebook_size].isfinite().all()
    )


def test_levels_take_their_own_parameters_and_tones_the_last() -> None:
    rows = [0, 13, 14, 15, 1, 2]
    square = torch.arange(MAX_LEVELS * 2 * MAX_LEVELS).reshape(MAX_LEVELS, -1)
    chosen = for_levels({"pointer_mixture.agreement": square, "level": square, "other": square}, 6)
    expected = torch.cat([square[rows][:, rows], square[rows][:, [MAX_LEVELS + row for row in rows]]], dim=1)
    assert torch.equal(chosen["pointer_mixture.agreement"], expected)
    assert torch.equal(chosen["level"], square[rows])
    assert torch.equal(chosen["other"], square)


def test_the_memory_starts_with_the_weights_that_it_shares() -> None:
    model = untrained(6, 32, architecture="memory", shard_length=160)
    before = model.stack.blocks[0].memory.up.weight.clone()
    load_pretrained_prior(model)
    assert torch.equal(model.stack.blocks[0].memory.up.weight, before)
    assert torch.equal(model.to_depth.weight, load_file(PATH)["to_depth.weight"].float())


def test_only_the_default_sizes_fit() -> None:
    assert settings().fits_pretrained
    assert settings(architecture="memory", label_dropout=0.3).fits_pretrained
    for change in ({"num_layers": 2}, {"num_heads": 2}, {"count_experts": False}):
        assert not settings(**change).fits_pretrained
    for change in ({"architecture": "flat"}, {"pretrained": False}):
        assert not settings(**change).fits_pretrained


def test_what_pretrained_weights_need_is_said_where_they_do_not_fit() -> None:
    said = "begins from nothing, as pretrained weights need hidden_size 128, num_layers 3"
    assert why_not_pretrained(settings()) == ""
    assert said in why_not_pretrained(settings(num_layers=2))
    assert why_not_pretrained(settings(pretrained=False, num_layers=2)) == ""
    assert why_not_pretrained(settings(architecture="flat", num_layers=2)) == ""


def test_labels_start_with_what_their_recordings_are() -> None:
    table = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    first, second = (np.array([[0, 1], [2, 3]]), np.array([[4, 4]]))
    summaries = label_summaries(table, coded([first, second, second], 1, [1, 2, 0]), 2)
    frames = torch.stack([table[0, 0] + table[1, 1], table[0, 2] + table[1, 3]])
    torch.testing.assert_close(summaries[0], torch.cat([frames.mean(0), frames.mean(0)]))
    torch.testing.assert_close(summaries[1, :3], table[0, 4] + table[1, 4])
    projection = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    vectors = label_vectors(projection, summaries)
    assert not bool(vectors[0].any())
    torch.testing.assert_close(vectors[1:], summaries @ projection.T)
    model = untrained(6, 32, labels=["a", "b"])
    codes = np.random.default_rng(0).integers(0, 32, (9, 6))
    labelled = coded([codes, codes[:3]], 1, [1, 2])
    load_pretrained_prior(model, labelled)
    assert model.label is not None
    expected = LABEL_GAIN * label_vectors(
        load_file(PATH)[LABELS].float(), label_summaries(model.tables().input, labelled, 2)
    )
    torch.testing.assert_close(model.label, expected)


@pytest.mark.parametrize("architecture", ["frame", "memory"])
def test_a_prior_of_frames_copies_no_loudness(architecture: str) -> None:
    """Where a memory gives what returns, it can be copied."""
    codes = np.random.default_rng(0).integers(8, size=(30, 5))
    about = CodesConfig(codebook_sizes=(8,) * 5, frame_rate=46.9, codec_sha256="")
    data = PriorData(coded([codes] * 3), coded([codes]), torch.randn(5, 8, 64), about)
    config = get_adaptive_prior_config(50, **{"architecture": architecture})
    model = prior_to_train(data, config, 0)
    assert isinstance(model, FramePrior)
    assert (model.pointer_mixture.threshold == NETWORK_ALONE).tolist() == [architecture == "frame", *[False] * 4]


def test_a_codec_alone_has_a_prior_that_is_no_guess() -> None:
    """Held tones go on: the prior expects a frame to be as the one before, whatever the codec."""
    for rate in (24_000, 44_100):
        codec = fitted_codec(rate, 0)
        prior = pretrained_prior(codewords_of(codec), codec.architecture.codebook_sizes, codec.spectrogram.frame_rate)
        tone = encode(codec, 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(rate) / rate)[None])
        inputs = torch.cat([torch.full_like(tone[:, :1], bos_token(prior.codebook_size)), tone[:, :-1]], dim=1)
        with torch.no_grad():
            logits = prior(Batch(inputs, tone, torch.zeros(1, dtype=torch.int64)))
        chosen = logits.log_softmax(dim=3).gather(3, tone[..., None])[0, 5:-5, :2, 0].exp()
        assert float(chosen.mean(dim=0).min()) > 0.5
