"""What pretrained weights are worth: budgets of steps, parts of a corpus, and what the report says."""

from itertools import pairwise

import numpy as np
from unit.training.coded import FABRIC, config, data, recordings

from benchmarks.pretrained import STEPS, PretrainedReport, Trained, _bits, _part, _practice
from benchmarks.prior_report import pretrained_section
from distill.codec.build import build_vqvae
from distill.params import VQVAEParams

DATA = data(recordings(0, 12), recordings(1, 5))


def test_bits_fall_within_more_steps_and_0_steps_are_the_start() -> None:
    settings = config(patience=0)
    bits = [_bits(DATA, settings, 0, FABRIC, steps) for steps in (0, 3, 60)]
    assert bits == sorted(bits, reverse=True)
    assert bits[2] < 0.8 * bits[0]
    assert _bits(DATA, settings, 0, FABRIC, 3) == bits[1]


def test_a_part_has_some_recordings_and_the_same_held_out_ones() -> None:
    part = _part(DATA, [1, 4])
    assert [views[0] is DATA.train[index][0] for views, index in zip(part.train, (1, 4), strict=True)] == [True, True]
    assert part.train_groups == ["t1", "t4"]
    assert part.held_out is DATA.held_out


def test_practice_recordings_are_coded_by_the_codec_and_differ_between_collections() -> None:
    small = {"codebook_size": 8, "num_quantizers": 2, "hidden_size": 8, "num_layers": 1, "dropout": 0.0}
    codec = build_vqvae(44_100, VQVAEParams.model_validate(small).resolve(1), 0, warm=False).eval()
    found = _practice(codec, range(4))
    assert all(codes.shape[1] == 2 and codes.max() < 8 for codes in found)
    assert found
    assert not any(np.array_equal(one, other) for one, other in pairwise(found))
    assert all(np.array_equal(*pair) for pair in zip(found, _practice(codec, range(4)), strict=True))


def test_the_section_shows_what_was_found() -> None:
    bits = tuple(1000.0 - index for index in range(len(STEPS)))
    trained = Trained(2, 1948.4, bits, tuple(one - 500 for one in bits))
    section = pretrained_section(PretrainedReport("demo", 11, (trained,), 24, (60, 3, 1), (7, 1, 0)), "python -m x")
    assert "60 are new, 3 close and 1 copies of 24 of the synthetic recordings" in section.text
    assert "alike 7, 1 and 0" in section.text
    (row,) = section.tables[0].rows
    assert row == ("2", "1948", "1000", "999", "998", "997", "500", "499", "498", "497")
    assert len(row) == len(section.tables[0].columns)
