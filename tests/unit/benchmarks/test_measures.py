"""Measures that could be wrong without anybody seeing it, and tables that keep what was measured."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import visqol
from benchmarks.measures import HeldOut, padded
from benchmarks.opus import bits_per_second, opus_is_installed, through_opus
from benchmarks.report import PAGE, Table, keep, read, update_page
from benchmarks.training import OurCodec
from benchmarks.visqol import FIRST_FRAME, HOP, LEAD, PATCH_FRAMES, SAMPLE_RATE, WINDOW, visqol_scores
from distill.audio.noise_floor import noise_floor
from distill.codec.streaming import decode, noise_of
from distill.execution import Execution
from distill.training.distributed import make_fabric
from unit.tiny import RATE, SIZES, tiny_codec

needs_opus = pytest.mark.skipif(not opus_is_installed(), reason="needs opusenc and opusdec: apt-get install opus-tools")


def test_a_codec_is_judged_on_the_recordings_and_not_on_their_padding() -> None:
    sound = torch.randn(5000, generator=torch.Generator().manual_seed(0)) / 8
    whole = padded(sound, 512)
    assert len(whole) == 5120
    held_out = HeldOut(("a", "b"), ("a", "b"), (sound, sound), (whole, whole), 8000)
    quality = held_out.judge([whole, whole / 2])
    assert quality.mel[0] == 0
    assert quality.mel[1] == pytest.approx(7 * math.log10(2), rel=0.05)  # less where both are silent
    assert quality.fidelity[0].level_db == 0
    assert quality.fidelity[1].level_db == pytest.approx(-6.02, abs=0.01)
    assert quality.fidelity[1].envelope == pytest.approx(1)
    assert quality.told == (0.5, 0.5)
    assert [one.match for one in quality.tone] == [None, None]  # noise
    assert [one.medians() for one in quality.partial_noise] == [{}, {}]


def test_our_codec_is_judged_with_the_noise_floors_that_it_keeps_and_pays_for_them() -> None:
    model = tiny_codec()
    codec = OurCodec(model, make_fabric(Execution("cpu", "fp32")))
    generator = torch.Generator().manual_seed(0)
    sounds = [torch.randn(count * RATE // 5, generator=generator) / 8 for count in (2, 17)]  # of 0.4 and 3.4 s
    coded, together = [codec.encode(sound) for sound in sounds], codec.together()
    assert [len(one.side_info.noise) for one in coded] == [1, 3]
    for sound, one, other in zip(sounds, coded, together.encode(sounds), strict=True):
        assert torch.equal(one.codes, other.codes)
        assert np.array_equal(one.side_info.noise, noise_floor(sound.numpy(), RATE))
        assert np.array_equal(one.side_info.noise, other.side_info.noise)
    for one, decoded in zip(coded, together.decode(coded), strict=True):
        torch.testing.assert_close(decoded, codec.decode(one), rtol=0, atol=1e-5)
        noise = noise_of(model, one.side_info, len(one.codes))
        torch.testing.assert_close(decoded, decode(model, one.codes[None], noise)[0], rtol=0, atol=1e-5)
    codes = model.spectrogram.frame_rate * sum(math.log2(size) for size in SIZES)
    assert codec.bits_per_second(sounds) == pytest.approx(codes + 4 * 32 / 3.8)


@needs_opus
@pytest.mark.parametrize(("rate", "samples"), [(24_000, 12_345), (44_100, 30_001), (48_000, 100)])
def test_what_opus_decodes_is_as_long_and_in_step(rate: int, samples: int) -> None:
    sound = np.zeros(samples, dtype=np.float32)
    middle = samples // 2
    sound[middle:] = 0.3 * np.sin(2 * np.pi * 500 * np.arange(samples - middle) / rate)
    made = through_opus(sound, rate, 64)
    assert made.samples.shape == sound.shape
    if samples > rate // 10:
        assert np.corrcoef(sound, made.samples)[0, 1] > 0.98


@needs_opus
def test_the_bitrate_of_opus_is_about_that_asked_for() -> None:
    sound = (0.1 * np.random.default_rng(0).standard_normal(3 * 24_000)).astype(np.float32)
    rates = [bits_per_second([through_opus(sound, 24_000, kilobits)]) for kilobits in (12, 24)]
    assert rates == pytest.approx([12_000, 24_000], rel=0.25)


def test_a_new_measurement_replaces_its_rows_and_the_page_has_the_table(tmp_path: Path) -> None:
    keep(Table("codec", ("corpus", "mel"), (("a", "1"), ("b", "2"), ("b", "3"))), tmp_path)
    keep(Table("codec", ("corpus", "mel"), (("b", "4, 5"),)), tmp_path)
    assert read(tmp_path / "codec.csv").rows == (("a", "1"), ("b", "4, 5"))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- codec -->\nold\n<!-- end -->\nafter\n")
    update_page(page, tmp_path)
    rows = "| corpus | mel |\n| --- | --- |\n| a | 1 |\n| b | 4, 5 |\n"
    assert page.read_text() == f"before\n<!-- codec -->\n{rows}<!-- end -->\nafter\n"


def test_a_page_may_have_the_rows_of_some_kinds_alone(tmp_path: Path) -> None:
    keep(Table("codec", ("corpus", "codec"), (("a", "ours"), ("a", "theirs"), ("b", "Opus 6"))), tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- codec: ours; Opus 6 -->\nold\n<!-- end -->\n")
    update_page(page, tmp_path)
    rows = "| corpus | codec |\n| --- | --- |\n| a | ours |\n| b | Opus 6 |\n"
    assert page.read_text() == f"<!-- codec: ours; Opus 6 -->\n{rows}<!-- end -->\n"


def test_a_page_may_have_some_columns_alone(tmp_path: Path) -> None:
    keep(
        Table("peers", ("corpus", "who", "a, s", "b"), (("d", "U-Net 0.3", "1", "2"), ("d", "ours", "3", "4"))),
        tmp_path,
    )
    page = tmp_path / "page.md"
    page.write_text("<!-- peers: U-Net 0.3 | who; a, s -->\n<!-- end -->\n<!-- peers | b -->\n<!-- end -->\n")
    update_page(page, tmp_path)
    some, all_rows = "| who | a, s |\n| --- | --- |\n| U-Net 0.3 | 1 |\n", "| b |\n| --- |\n| 2 |\n| 4 |\n"
    parts = page.read_text().split("<!-- end -->\n")
    assert parts == [f"<!-- peers: U-Net 0.3 | who; a, s -->\n{some}", f"<!-- peers | b -->\n{all_rows}", ""]


def test_kinds_may_stand_beside_one_another(tmp_path: Path) -> None:
    rows = tuple((corpus, kind, corpus + kind, kind) for corpus in "ab" for kind in ("x", "y", "z"))
    keep(Table("codec", ("corpus", "codec", "mel", "name"), rows), tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- codec: z; x | mel; name | beside -->\n<!-- end -->\n")
    update_page(page, tmp_path)
    assert page.read_text().splitlines()[1:-1] == [
        "| corpus | z: mel | x: mel | z: name | x: name |",
        "| --- | --- | --- | --- | --- |",
        "| a | az | ax | z | x |",
        "| b | bz | bx | z | x |",
    ]


@pytest.mark.parametrize("name", ["benchmarks", "judges", "peers"])
def test_pages_have_the_tables_that_were_measured_last(tmp_path: Path, name: str) -> None:
    shown, page = PAGE.with_name(f"{name}.md"), tmp_path / "page.md"
    page.write_bytes(shown.read_bytes())
    update_page(page)
    assert page.read_bytes() == shown.read_bytes()


@pytest.mark.parametrize("samples", [1, 9_000, 28_801, 100_000])
def test_patches_cover_the_whole_sound_and_hardly_more(samples: int) -> None:
    sound = visqol.padded(np.ones(samples, dtype=np.float32), SAMPLE_RATE)
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
