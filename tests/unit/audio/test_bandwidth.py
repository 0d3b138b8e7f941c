"""Bandwidth of synthetic recordings, and the corpus sample rate that follows from it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from numpy.typing import NDArray

from distill.audio.bandwidth import (
    UNREADABLE,
    Bandwidth,
    ChannelsChoice,
    RateChoice,
    choose_channels,
    choose_rate,
    measure_bandwidth,
)
from distill.audio.ingest import ingest
from distill.params import Channels

F64 = NDArray[np.float64]
LSB = 1 / 32768
SECONDS = 1.5


def noise(low: float, high: float, rate: int, level_db: float, seconds: float = SECONDS, seed: int = 0) -> F64:
    """Noise between two frequencies in Hz, with a sharp edge at both, of a level in dBFS (RMS)."""
    count = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / rate)
    sound = np.fft.irfft(np.where((hertz >= low) & (hertz < high), spectrum, 0), n=count)
    return np.asarray(sound * 10 ** (level_db / 20) / np.sqrt(np.mean(sound**2)))


def tone(rate: int, level_db: float, seconds: float = SECONDS) -> F64:
    time = np.arange(round(seconds * rate)) / rate
    return np.asarray(10 ** (level_db / 20) * math.sqrt(2) * np.sin(2 * np.pi * 220 * time))


def dithered(sound: F64, shaped: bool = False) -> F64:
    """Quantise to 16 bits with triangular dither; `shaped` moves its noise to high frequencies, 18 dB louder there."""
    random = np.random.default_rng(1)
    dither = (random.random(len(sound)) - random.random(len(sound))) * LSB
    errors = np.convolve(dither, [1, -3, 3, -1])[: len(sound)] if shaped else dither
    return np.asarray(np.round((sound + errors) / LSB) * LSB)


def write(path: Path, sound: F64, rate: int, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, sound, rate, subtype=subtype)
    return path


def drum(rate: int, click_db: float) -> F64:
    """A decaying low tone with a click of 1 ms in front."""
    time = np.arange(round(0.5 * rate)) / rate
    sound = 0.5 * np.sin(2 * np.pi * 60 * time) * np.exp(-8 * time)
    click = noise(20, rate / 2, rate, click_db, 0.001)
    sound[: len(click)] += click
    return np.asarray(sound)


WITH_TREBLE = {
    "white noise": (noise(20, 22_000, 44_100, -20), 44_100),
    "cut at 16 kHz, as MP3 is": (noise(20, 16_000, 44_100, -20), 44_100),
    "a bass and a quiet hat": (tone(44_100, -12) + noise(8_000, 18_000, 44_100, -50), 44_100),
    "quiet, all of it": (noise(20, 20_000, 44_100, -50), 44_100),
    "a drum that begins with a click": (drum(44_100, -6), 44_100),
    "30 s with treble in every other second": (
        np.concatenate([noise(20, 20_000 if k % 2 else 4_000, 44_100, -20, 1, k) for k in range(30)]),
        44_100,
    ),
}
WITHOUT = {
    "cut at 4 kHz": (noise(20, 4_000, 44_100, -12), 44_100),
    "telephone at 44.1 kHz": (soxr.resample(noise(20, 3_400, 8_000, -12), 8_000, 44_100, "LQ"), 44_100),
    "white noise at 24 kHz": (noise(20, 12_000, 24_000, -12), 24_000),
    "dither beside a tone": (dithered(tone(44_100, -20)), 44_100),
    "dither beside a quiet tone": (dithered(tone(44_100, -60)), 44_100),
    "shaped dither": (dithered(tone(44_100, -40), shaped=True), 44_100),
    "treble far below the rest": (tone(44_100, -6) + noise(10_000, 20_000, 44_100, -62), 44_100),
    "ultrasound alone": (noise(20, 4_000, 96_000, -20) + noise(25_000, 45_000, 96_000, -30), 96_000),
    "an offset": (noise(20, 4_000, 44_100, -30) + 0.3, 44_100),
}


@pytest.mark.parametrize("name", WITH_TREBLE | WITHOUT)
def test_recordings_with_treble_and_without(name: str, tmp_path: Path) -> None:
    sound, rate = (WITH_TREBLE | WITHOUT)[name]
    found = measure_bandwidth(write(tmp_path / "a.wav", sound, rate))
    assert found == Bandwidth(rate, len(sound) / rate, name in WITH_TREBLE)


def test_soft_treble_counts_where_it_cannot_be_dither(tmp_path: Path) -> None:
    hat = noise(20, 20_000, 44_100, -90)
    assert measure_bandwidth(write(tmp_path / "a.wav", hat, 44_100, "PCM_24")).has_treble
    assert not measure_bandwidth(write(tmp_path / "b.wav", dithered(tone(44_100, -60)), 44_100, "PCM_24")).has_treble


@pytest.mark.parametrize("other", [-0.95, 0.0])
def test_channels_are_those_of_the_mix(tmp_path: Path, other: float) -> None:
    hat = 2.5 * noise(20, 20_000, 44_100, -70)
    path = write(tmp_path / "a.wav", np.stack([hat, other * hat], axis=1), 44_100)
    assert measure_bandwidth(path) == Bandwidth(44_100, SECONDS, True, True)


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize(
    ("gains", "is_stereo"),
    [
        ([1], False),
        ([1, 1], False),
        ([1, -1], True),
        ([1, 0], True),
        ([0.5, 0.45], True),
        ([1, 0.5, 0, 0, 0, 0], False),
    ],
)
def test_a_recording_is_stereo_with_two_channels_that_differ(
    tmp_path: Path, rate: int, gains: list[float], is_stereo: bool
) -> None:
    sound = np.stack([gain * tone(rate, -20) for gain in gains], axis=1)
    assert measure_bandwidth(write(tmp_path / "a.wav", sound, rate)).is_stereo == is_stereo


@pytest.mark.parametrize(
    ("stereo", "wanted", "expected"),
    [
        (2, "auto", ChannelsChoice(True, 2, "stereo: 2 of 10 recordings have two channels that differ")),
        (1, "auto", ChannelsChoice(False, 1, "mono: 1 of 10 recordings have two channels that differ, less than 20 %")),
        (0, "auto", ChannelsChoice(False, 0, "mono: 0 of 10 recordings have two channels that differ, less than 20 %")),
        (9, "mono", ChannelsChoice(False, 9, "mono, as set: 9 of 10 recordings have two channels that differ")),
    ],
)
def test_a_corpus_is_stereo_where_a_fifth_of_it_is(stereo: int, wanted: Channels, expected: ChannelsChoice) -> None:
    recordings = [Bandwidth(44_100, 1.0, True, number < stereo) for number in range(10)]
    assert choose_channels([*recordings, UNREADABLE], wanted) == expected


def test_a_sound_between_the_excerpts_counts(tmp_path: Path) -> None:
    silence = np.zeros(5 * 44_100)
    hat = noise(20, 20_000, 44_100, -20, 0.3)
    for sparse in ((silence, hat, silence, silence), (silence, silence, silence, hat)):
        sound = np.concatenate(sparse)
        assert measure_bandwidth(write(tmp_path / "a.wav", sound, 44_100)) == Bandwidth(44_100, 15.3, True)


def test_what_cannot_be_read_and_what_is_no_sound_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    assert measure_bandwidth(path) == UNREADABLE
    for content in (b"", b"no sound", b"RIFF", b"\x00" * 5000):
        path.write_bytes(content)
        assert measure_bandwidth(path) == UNREADABLE
    half = noise(20, 20_000, 44_100, -20, 10.0)
    half[len(half) // 2 :] = np.nan
    for sound in (np.zeros(0), np.zeros(44_100), np.full(44_100, np.inf), half):
        assert measure_bandwidth(write(path, sound, 44_100, "FLOAT")) == UNREADABLE


def test_a_damaged_file_counts_by_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, noise(20, 20_000, 44_100, -20, 20.0), 44_100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert measure_bandwidth(path).has_treble


@pytest.mark.parametrize(
    ("recordings", "rate", "share", "reason"),
    [
        ([Bandwidth(44_100, 61, True), Bandwidth(44_100, 39, False)], 44_100, 0.61, "61 % of the sound has energy above 10 kHz"),
        ([Bandwidth(8_000, 9, False)], 24_000, 0, "0 % of the sound has energy above 10 kHz, less than 5 %"),
        ([], 24_000, 0, "0 % of the sound has energy above 10 kHz, less than 5 %"),
        ([Bandwidth(44_100, 4.99, True), Bandwidth(44_100, 95.01, False)], 24_000, 0.0499,
         "4.9 % of the sound has energy above 10 kHz, less than 5 %"),
        ([Bandwidth(44_100, 5, True), Bandwidth(44_100, 95, False)], 44_100, 0.05, "5 % of the sound has energy above 10 kHz"),
        ([Bandwidth(96_000, 51, True), Bandwidth(44_100, 49, True)], 48_000, 1,
         "100 % of the sound has energy above 10 kHz, most of it in files of 48 kHz and more"),
        ([Bandwidth(48_000, 50, True), Bandwidth(44_100, 50, True)], 44_100, 1, "100 % of the sound has energy above 10 kHz"),
        ([Bandwidth(48_000, 90, False), Bandwidth(44_100, 10, True)], 44_100, 0.1, "10 % of the sound has energy above 10 kHz"),
        ([Bandwidth(32_000, 9, True), UNREADABLE], 44_100, 1, "100 % of the sound has energy above 10 kHz"),
    ],
)  # fmt: skip
def test_the_rate_and_its_reason(recordings: list[Bandwidth], rate: int, share: float, reason: str) -> None:
    assert choose_rate(recordings, "auto") == RateChoice(rate, pytest.approx(share), f"{rate} Hz: {reason}")


def test_ingest_decides_and_says_why(tmp_path: Path) -> None:
    """Six seconds: a third with treble, one file of 48 kHz among those of 44.1 kHz, and one that cannot be read."""
    folder = tmp_path / "in"
    write(folder / "hat.wav", noise(20, 18_000, 44_100, -20, seed=1), 44_100)
    write(folder / "bell.flac", noise(20, 16_000, 48_000, -20, 0.5, seed=2), 48_000)
    for number in range(4):
        write(folder / f"bass_{number}.wav", noise(20, 800 * (1 + number), 44_100, -20, 1.0, number), 44_100)
    (folder / "broken.wav").write_text("no sound")
    report = ingest(folder, tmp_path / "out", "auto", 0.5)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    sentence = "44100 Hz: 33.3 % of the sound has energy above 10 kHz"
    assert (report["seconds"], report["treble_share"]) == (pytest.approx(6.0), pytest.approx(1 / 3))
    assert report == written
    assert (written["sample_rate"], written["sample_rate_reason"]) == (44_100, sentence)
