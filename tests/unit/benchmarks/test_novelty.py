"""The novelty benchmark: control sounds, near-copies, and the tests between two sets."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from unit.tiny import tiny_codec

from benchmarks.novelty import (
    CHANGED,
    SHUFFLED,
    SOUNDS,
    UNIGRAM,
    Apart,
    Kind,
    NoveltyReport,
    _apart,
    _control_sounds,
    _near_copies,
    durations_apart,
)
from benchmarks.sounds_report import novelty_section
from distill.novelty.distance import Diversity, KernelDistance
from distill.novelty.report import SetReport

KNOWN = [np.random.default_rng(number).integers(0, 8, (20 + number, 3)) for number in range(6)]


def test_control_sounds_have_frames_or_codes_of_recordings_and_not_their_order() -> None:
    made = _control_sounds(KNOWN, 22)
    frames = {tuple(frame) for codes in KNOWN for frame in codes}
    assert len(made[SHUFFLED]) == len(made[UNIGRAM]) == SOUNDS
    assert all(tuple(frame) in frames for codes in made[SHUFFLED] for frame in codes)
    assert not all(tuple(frame) in frames for codes in made[UNIGRAM] for frame in codes)
    assert {len(codes) for codes in made[UNIGRAM]} <= {20, 21, 22}


def test_near_copies_differ_in_at_most_the_given_share_of_codes() -> None:
    for codes, changed in zip(KNOWN, _near_copies(KNOWN, tiny_codec()), strict=True):
        assert 0 <= (codes != changed).mean() <= CHANGED


def test_sets_are_apart_or_not() -> None:
    def side(values: Any) -> Any:
        return [
            SimpleNamespace(codes=SimpleNamespace(likeness=value), spectra=SimpleNamespace(likeness=0.5))
            for value in values
        ]

    in_codes, in_spectra = _apart(side(np.arange(10.0)), side(np.arange(10.0) + 100))
    assert in_codes.share == 1
    assert in_codes.deviations == pytest.approx(0.5 / np.sqrt(21 / 1200))
    assert (in_spectra.share, in_spectra.deviations) == (0.5, 0)


def test_the_section_shows_what_was_found() -> None:
    found = SetReport(
        64,
        80.0,
        1.25,
        0.87,
        60,
        3,
        1,
        0.1,
        0.27,
        0.13,
        0.2,
        KernelDistance(23.1, 5.0, 3.3, 40.0, 15),
        Diversity(9.2, 9.4),
    )
    kinds = (Kind("ours", found, (0.1, 0.8, 4.0), 0.22),)
    report = NoveltyReport("demo", 46, 74, 1.0, 0.056, 0.35, kinds, (Apart("codes", 0.72, 4.4),), ("a.png",))
    section = novelty_section(report, "c")
    expected = ("ours", "23.1", "9.2", "1.25", "0.10, 0.80, 4.00", "0.22", "60, 3, 1", "27%, 13%")
    assert section.tables[0].rows == (expected,)
    assert [row[1] for row in section.tables[1].rows] == ["100.0%", "5.6%", "72%, z = 4.4"]
    assert "5.0 ± 3.3" in section.text
    assert "of training recordings it is 0.35" in section.text
    assert "(a.png)" in section.text


def test_durations_are_apart_by_the_greatest_difference() -> None:
    short, long = [np.zeros((frames, 2)) for frames in (1, 2, 3, 4)], [np.zeros((9, 2))] * 3
    assert durations_apart(short, short, 9) == 0
    assert durations_apart(short, long, 9) == 1
    assert durations_apart(short, long, 3) == 0.5
    assert durations_apart(short, [*short[:2], *long[:2]], 9) == 0.5
