"""The table of fidelity, and the qualities it is made of, on codecs of which the answer is known."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from benchmarks.codec import CodecReport, Pooled, SystemResult
from benchmarks.fidelity_report import COLUMNS, fidelity_section
from benchmarks.opus import MISSING
from benchmarks.quality import HeldOut, Quality

RATE, PAD = 16_000, 200


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    """Six hits, one of them silent."""
    generator = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    sounds = []
    for number in range(6):
        attack = np.minimum(1.0, time / 0.01)
        noise = generator.standard_normal(len(time))
        sounds.append(torch.from_numpy(0.1 * attack * np.exp(-time / 0.05) * noise * (number > 0)).float())
    padded = tuple(torch.nn.functional.pad(sound, (0, PAD)) for sound in sounds)
    return HeldOut(tuple(sounds), padded, tuple("abcdef"), RATE, 0)


@pytest.fixture(scope="module")
def qualities(held_out: HeldOut) -> dict[str, Quality]:
    return {
        "same": held_out.judge(held_out.padded),
        "half": held_out.judge([sound / 2 for sound in held_out.padded]),
    }


def report(held_out: HeldOut, qualities: dict[str, Quality], **changed: object) -> CodecReport:
    made = CodecReport(
        corpus="hits",
        tier="small",
        training_recordings=9,
        training_seconds=9.0,
        held_out=tuple("abcdef"),
        held_out_seconds=3.0,
        timed_seconds=3.0,
        timed=6,
        speeds={},
        attacks=held_out.attacks(),
        systems=tuple(SystemResult(name, 1500.0, 1.0, "", one, ()) for name, one in qualities.items()),
        pooled=None,
        opus=True,
        seed=0,
        comparisons=(),
        profile=None,
        sounds=(),
    )
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def cell(row: tuple[str, ...], column: str) -> str:
    return row[COLUMNS.index(column)]


def test_a_perfect_codec_has_no_errors(held_out: HeldOut, qualities: dict[str, Quality]) -> None:
    originals, same, _ = fidelity_section(report(held_out, qualities), "command").tables[0].rows
    assert cell(same, "level, dB") == "+0.0 [+0.0, +0.0]"
    assert cell(same, "attack - original's") == "+0.0 [+0.0, +0.0]"
    assert cell(same, "envelope") == "1.00 [1.00, 1.00]"
    assert cell(same, "told apart") == "0.50 [0.50, 0.50]"
    assert cell(same, "attack, ms") == cell(originals, "attack, ms") != "–"
    assert set(originals) - {"originals", cell(originals, "attack, ms")} == {"–"}
    assert qualities["same"].mel == (0.0,) * 6


def test_half_the_amplitude_is_six_decibels(held_out: HeldOut, qualities: dict[str, Quality]) -> None:
    half = fidelity_section(report(held_out, qualities), "command").tables[0].rows[2]
    assert cell(half, "level, dB") == cell(half, "peak, dB") == "-6.0 [-6.0, -6.0]"
    assert cell(half, "level, absolute") == "6.0"
    assert cell(half, "kbit/s") == "1.50"


def test_silence_counts_nowhere(qualities: dict[str, Quality]) -> None:
    assert math.isnan(qualities["half"].fidelity[0].level_db)
    assert math.isnan(qualities["half"].told_apart[0])
    assert all(math.isfinite(one) for one in qualities["half"].told_apart[1:])


def test_splits_have_a_table_of_their_own(held_out: HeldOut, qualities: dict[str, Quality]) -> None:
    joined = qualities["same"].joined(qualities["half"])
    pooled = Pooled(2, held_out.attacks() * 2, {"same": joined})
    section = fidelity_section(report(held_out, qualities, pooled=pooled), "command")
    first, second = section.tables
    assert [row[0] for row in first.rows] == ["originals", "same", "half"]
    assert [row[0] for row in second.rows] == ["originals", "same"]
    assert cell(second.rows[1], "level, dB") == "-3.0 [-6.0, +0.0]"
    assert "Below, the 12 of 2 splits, with the bitrates of the first." in section.text
    assert len(joined.mel) == len(joined.visqol) == len(joined.fidelity) == len(joined.told_apart) == 12


def test_a_missing_opus_is_said(held_out: HeldOut, qualities: dict[str, Quality]) -> None:
    assert MISSING in fidelity_section(report(held_out, qualities, opus=False), "command").text
    assert MISSING not in fidelity_section(report(held_out, qualities), "command").text


def test_every_row_is_as_wide_as_the_header(held_out: HeldOut, qualities: dict[str, Quality]) -> None:
    assert {len(row) for row in fidelity_section(report(held_out, qualities), "x").tables[0].rows} == {len(COLUMNS)}
