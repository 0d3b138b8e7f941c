"""Opus: as long as the sound and in step with it, with the bits of its packets."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import opus
from benchmarks.opus import OpusSound, bits_per_second, opus_is_installed, through_opus
from distill.errors import AudioError

needs_opus = pytest.mark.skipif(not opus_is_installed(), reason="needs opusenc and opusdec: apt-get install opus-tools")


@needs_opus
@pytest.mark.parametrize(("rate", "samples"), [(24_000, 12_345), (44_100, 30_001), (48_000, 100), (16_000, 8_000)])
def test_a_decoded_sound_is_as_long_and_in_step(rate: int, samples: int) -> None:
    sound = np.zeros(samples, dtype=np.float32)
    middle = samples // 2
    sound[middle:] = 0.3 * np.sin(2 * np.pi * 500 * np.arange(samples - middle) / rate)
    made = through_opus(sound, rate, 64)
    assert made.samples.shape == sound.shape
    assert made.samples.dtype == np.float32
    if samples > rate // 10:
        assert np.corrcoef(sound, made.samples)[0, 1] > 0.98
        assert 10 * np.log10(np.square(made.samples).sum() / np.square(sound).sum()) == pytest.approx(0, abs=0.5)


@needs_opus
def test_bits_are_those_of_the_packets() -> None:
    generator = np.random.default_rng(0)
    sound = (0.1 * generator.standard_normal(3 * 24_000)).astype(np.float32)
    rates = [bits_per_second([through_opus(sound, 24_000, kilobits)]) for kilobits in (12, 24)]
    assert rates == pytest.approx([12_000, 24_000], rel=0.25)


def test_the_bitrate_of_sounds_is_weighted_by_their_length() -> None:
    empty = np.zeros(1, dtype=np.float32)
    assert bits_per_second([OpusSound(empty, 1000, 1.0), OpusSound(empty, 9000, 3.0)]) == 2500


def test_without_its_programs_opus_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not opus_is_installed()


def test_a_program_that_fails_is_named_with_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "opusenc"
    program.write_text(f"#!{shutil.which('sh')}\necho no room left >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match=r"opusenc: expected exit status 0, found 3 \(no room left\)"):
        through_opus(np.zeros(10, dtype=np.float32), 24_000, 6)


def test_pages_of_an_ogg_file_without_their_headers() -> None:
    def page(*lengths: int) -> bytes:
        return b"OggS" + bytes(22) + bytes([len(lengths), *lengths]) + bytes(sum(lengths))

    assert opus._packet_bytes(page(19) + page(255, 10) + page(30, 40) + page(5)) == 75
