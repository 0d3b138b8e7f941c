"""Decoding: samples of every format, and the message for every kind of broken file."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill.audio.bandwidth import measure_bandwidth
from distill.audio.image import dequantised, fold, image_of
from distill.audio.read import SAMPLE_RATES, Channels, read_original, read_recording
from distill.audio.sndfile import SUFFIXES
from distill.errors import AudioError

RATE = 24000
HOURS = 7
F32 = NDArray[np.float32]

FORMATS = {
    ".wav": [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "DOUBLE"), ("WAVEX", "PCM_32"), ("WAV", "IMA_ADPCM")],
    ".wave": [("WAV", "FLOAT")],
    ".aif": [("AIFF", "PCM_16")],
    ".aiff": [("AIFF", "PCM_24")],
    ".aifc": [("AIFF", "FLOAT")],
    ".flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    ".ogg": [("OGG", "VORBIS")],
    ".oga": [("OGG", "VORBIS")],
    ".opus": [("OGG", "OPUS")],
    ".mp3": [("MP3", "MPEG_LAYER_III")],
    ".au": [("AU", "PCM_16")],
    ".snd": [("AU", "ULAW")],
    ".caf": [("CAF", "PCM_16"), ("CAF", "ALAC_16")],
    ".w64": [("W64", "PCM_16")],
    ".rf64": [("RF64", "PCM_16")],
}  # fmt: skip


def sine(hz: float, seconds: float, rate: int, level: float = 0.5) -> F32:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: NDArray[np.generic], rate: int = RATE, subtype: str = "PCM_16") -> Path:
    sf.write(path, samples, rate, subtype=subtype)
    return path


def reason(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_recording(path, RATE)
    return str(caught.value)


def test_every_suffix_is_tried() -> None:
    assert set(FORMATS) == set(SUFFIXES)


@pytest.mark.parametrize(
    ("suffix", "kind", "subtype"), [(suffix, *pair) for suffix, pairs in FORMATS.items() for pair in pairs]
)
def test_every_format_gives_the_same_sound(tmp_path: Path, suffix: str, kind: str, subtype: str) -> None:
    path = tmp_path / f"a{suffix}"
    sf.write(path, sine(440, 1.0, 48000), 48000, format=kind, subtype=subtype)
    found = read_recording(path, RATE)
    assert found.reason == ""
    assert (found.sample_rate, found.channels) == (48000, 1)
    assert len(found.pcm) == pytest.approx(RATE, abs=600)  # ADPCM fills its last block
    middle = found.samples[4800:19200].astype(np.float64)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=0.03)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(440 * len(middle) / RATE, abs=1)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=300).filter(lambda values: max(map(abs, values)) > 9))
@settings(max_examples=40, deadline=None)
def test_16_bit_samples_at_the_corpus_rate_are_untouched(
    tmp_path_factory: pytest.TempPathFactory, values: list[int]
) -> None:
    pcm = np.array(values, dtype=np.int16)
    path = write(tmp_path_factory.mktemp("exact") / "a.wav", pcm)
    found = read_recording(path, RATE)
    np.testing.assert_array_equal(found.pcm, pcm)
    assert found.pcm.dtype == np.int16


def test_channels_are_averaged_and_those_that_cancel_out_are_told(tmp_path: Path) -> None:
    left, right = sine(300, 0.5, RATE, 0.6), sine(700, 0.5, RATE, 0.2)
    path = tmp_path / "a.wav"
    found = read_recording(write(path, np.stack([left, right], axis=1), subtype="FLOAT"), RATE)
    assert (found.channels, found.reason) == (2, "")
    np.testing.assert_allclose(found.samples, (left + right) / 2, atol=2e-5)
    for other, used in ((-0.9 * left, "1"), (-left, "1"), (-1.1 * left, "2")):
        found = read_recording(write(path, np.stack([left, other], axis=1), subtype="FLOAT"), RATE)
        warning = f"its channels nearly cancel out when mixed to mono; channel {used} was used alone"
        assert (found.reason, found.channels_used) == (warning, used)
        np.testing.assert_allclose(found.samples, (left, other)[int(used) - 1], atol=2e-5)


def wide(rate: int = RATE, seconds: float = 0.5) -> F32:
    hiss = 0.02 * np.random.default_rng(0).standard_normal(round(seconds * rate))
    return np.stack([sine(300, seconds, rate, 0.6), sine(700, seconds, rate, 0.2) + hiss], axis=1).astype(np.float32)


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_a_stereo_file_has_the_fold_of_both_channels_and_their_image(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", wide(rate), rate, "FLOAT")
    found = read_recording(path, RATE, channels="fold")
    assert (found.channels, found.channels_used, found.reason, found.sample_rate) == (2, "stereo", "", rate)
    both = soxr.resample(wide(rate), rate, RATE, "HQ")
    np.testing.assert_allclose(found.samples, fold(both, RATE), atol=1e-4)
    np.testing.assert_array_equal(found.image, image_of(both, RATE))
    assert len(read_recording(path, RATE).image) == 0


@pytest.mark.parametrize("channels", [[1.0], [1.0, 1.0], [1.0, 0.5, 0.2]])
def test_what_is_not_stereo_is_read_as_mono(tmp_path: Path, channels: list[float]) -> None:
    sound = np.stack([gain * sine(300, 0.5, 48000, 0.6) + 0.1 for gain in channels], axis=1)
    path = write(tmp_path / "a.wav", sound, 48000)
    mono, stereo = read_recording(path, RATE), read_recording(path, RATE, channels="fold")
    assert (stereo.reason, stereo.channels_used, len(stereo.image)) == (mono.reason, mono.channels_used, 0)
    np.testing.assert_array_equal(stereo.pcm, mono.pcm)


def test_channels_that_cancel_out_are_stereo_without_a_remark(tmp_path: Path) -> None:
    sound = sine(300, 0.5, RATE, 0.6)
    found = read_recording(write(tmp_path / "a.wav", np.stack([sound, -sound], axis=1), RATE), RATE, channels="fold")
    assert found.reason == ""
    np.testing.assert_allclose(found.samples, sound, atol=1e-4)
    _, coherence = dequantised(found.image)
    assert coherence[0, 8] == -1


def test_each_channel_loses_its_offset(tmp_path: Path) -> None:
    plain = read_recording(write(tmp_path / "a.wav", wide(), RATE, "FLOAT"), RATE, channels="fold")
    found = read_recording(
        write(tmp_path / "b.wav", wide() + np.array([0.2, 0.0]), RATE, "FLOAT"), RATE, channels="fold"
    )
    assert found.reason == "a constant offset of 0.2 was taken off"
    np.testing.assert_allclose(found.samples, plain.samples, atol=0.01)
    np.testing.assert_array_equal(found.image, plain.image)


def test_both_channels_are_trimmed_alike(tmp_path: Path) -> None:
    sound = wide(RATE, 3.0)
    late = np.concatenate([np.zeros((RATE, 2), np.float32), sound, np.zeros((2 * RATE, 2), np.float32)])
    late[RATE // 2 : RATE, 1] = 0.1 * sine(100, 0.5, RATE)  # sound in one channel alone
    found = read_recording(write(tmp_path / "a.wav", late, RATE), RATE, trim=True, channels="fold")
    assert found.trimmed_before == pytest.approx(0.49, abs=0.01)
    assert found.trimmed_after == pytest.approx(1.95, abs=0.03)
    assert len(found.image) == 4
    whole = read_recording(tmp_path / "a.wav", RATE, channels="fold")
    assert (len(whole.pcm), len(whole.image)) == (len(late), 6)


@pytest.mark.parametrize("level", [1e-3, 4.0, 1e20])
def test_a_stereo_file_of_any_level_is_read(tmp_path: Path, level: float) -> None:
    path = write(tmp_path / "a.wav", level * wide(), RATE, "FLOAT")
    found = read_recording(path, RATE, channels="fold")
    assert 0.5e-4 < np.abs(found.samples).max() <= 1
    assert ("above full scale" in found.reason) == (level > 1)
    np.testing.assert_array_equal(found.image, image_of(wide(), RATE))


def test_a_stereo_file_that_cannot_be_used_says_what_a_mono_one_says(tmp_path: Path) -> None:
    for number, sound in enumerate((np.full((900, 2), np.nan), np.zeros((900, 2)), 1e-5 * wide(), 1e35 * wide())):
        path = write(tmp_path / f"{number}.wav", sound.astype(np.float32), RATE, "FLOAT")
        message = reason(path)
        with pytest.raises(AudioError) as caught:
            read_recording(path, RATE, channels="fold")
        assert str(caught.value).split("peak")[0] == message.split("peak")[0]


def test_a_stereo_file_takes_little_more_than_twice_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.tile(wide(RATE, 10.0), (24, 1)), RATE)
    peaks = []
    for stereo in (False, True):
        tracemalloc.start()
        read_recording(path, RATE, trim=True, channels="fold" if stereo else "mono")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    chunk = 40 << 20  # of spectra, however long the file is
    assert peaks[1] - chunk < 2.2 * peaks[0]


def test_a_silent_channel_makes_the_sound_no_softer(tmp_path: Path) -> None:
    sound = sine(300, 0.5, 48000, 0.6)
    alone = read_recording(write(tmp_path / "a.wav", sound, 48000), RATE)
    for channels, used in ((2, 1), (8, 4)):
        block = np.zeros((len(sound), channels), dtype=np.float32)
        block[:, used - 1] = sound
        found = read_recording(write(tmp_path / "a.wav", block, 48000), RATE)
        assert (found.reason, found.channels, found.channels_used) == ("", channels, str(used))
        np.testing.assert_array_equal(found.samples, alone.samples)


def test_an_offset_is_taken_off_and_told_where_it_is_large(tmp_path: Path) -> None:
    sound = sine(300, 1.0, RATE, 0.3)
    for level, told in ((0.005, ""), (-0.12, "a constant offset of -0.12 was taken off")):
        found = read_recording(write(tmp_path / "a.wav", sound + level), RATE)
        assert found.reason == told
        np.testing.assert_allclose(found.samples, sound, atol=1e-3)
    assert reason(write(tmp_path / "a.wav", np.full(RATE, 0.5))) == "is silent (peak 0)"


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_a_soft_recording_keeps_its_resolution(tmp_path: Path, subtype: str) -> None:
    sound = sine(300, 0.5, RATE, 6e-4)  # -64 dBFS: 20 steps of 16 bits
    found = read_recording(write(tmp_path / "a.wav", sound, subtype=subtype), RATE)
    assert 20 * np.log10(sound.std() / (found.samples - sound).std()) > 70
    eight = read_recording(write(tmp_path / "b.wav", 0.5 * np.sign(sound), subtype="PCM_U8"), RATE)
    np.testing.assert_array_equal(eight.samples, 0.5 * np.sign(sound))


TRIMMED = [  # seconds of silence before and after, level of the sound and of the silence, seconds that are left of it
    (5.0, 2.0, 0.5, 0.0, (0.01, 0.05)),
    (5.0, 2.0, 0.5, 5e-5, (0.01, 0.05)),
    (5.0, 2.0, 0.5, 2e-4, (5.0, 2.0)),
    (5.0, 2.0, 1e-3, 5e-5, (5.0, 2.0)),  # a tail 26 dB below the sound
    (5.0, 2.0, 1e-3, 0.0, (0.01, 0.05)),
    (0.09, 0.09, 0.5, 0.0, (0.09, 0.09)),
    (0.0, 0.2, 0.5, 0.0, (0.0, 0.05)),
]


@pytest.mark.parametrize(("before", "after", "level", "silence", "left"), TRIMMED)
def test_silence_at_both_ends_is_trimmed(
    tmp_path: Path, before: float, after: float, level: float, silence: float, left: tuple[float, float]
) -> None:
    hiss = np.random.default_rng(0).uniform(-silence, silence, round((before + 0.5 + after) * RATE))
    start = round(before * RATE)
    hiss[start : start + 12000] += level * np.sign(np.sin(np.arange(12000) + 0.1))
    path = write(tmp_path / "a.wav", hiss, subtype="FLOAT")
    found, whole = read_recording(path, RATE, trim=True), read_recording(path, RATE)
    assert len(whole.samples) == len(hiss)
    assert found.trimmed_before == pytest.approx(before - left[0], abs=1e-3)
    assert found.trimmed_after == pytest.approx(after - left[1], abs=1e-3)
    start, stop = round(found.trimmed_before * RATE), len(hiss) - round(found.trimmed_after * RATE)
    np.testing.assert_array_equal(found.samples, whole.samples[start:stop])


def test_a_fade_is_not_cut_where_it_is_heard(tmp_path: Path) -> None:
    seconds = np.arange(4 * RATE) / RATE
    sound = 0.5 * np.sin(2000 * seconds) * 10 ** (-2 * seconds)  # 40 dB a second, below -80 dBFS after 1.85 s
    found = read_recording(write(tmp_path / "a.wav", sound, subtype="FLOAT"), RATE, trim=True)
    assert (found.trimmed_before, found.reason) == (0, "")
    assert found.trimmed_after == pytest.approx(4 - 1.85 - 0.05, abs=0.01)


def test_resampling_keeps_level_and_pitch_and_folds_nothing_back(tmp_path: Path) -> None:
    kept = read_recording(write(tmp_path / "a.wav", sine(997, 2.0, 44100), 44100, "FLOAT"), RATE)
    assert len(kept.pcm) == 2 * RATE
    n = np.arange(2400, 45600)
    basis = np.stack([np.sin(2 * np.pi * 997 * n / RATE), np.cos(2 * np.pi * 997 * n / RATE)], axis=1)
    middle = kept.samples[n]
    (s, c), residual, _, _ = np.linalg.lstsq(basis, middle, rcond=None)
    assert 20 * np.log10(np.hypot(s, c) / 0.5) == pytest.approx(0, abs=0.01)
    assert np.degrees(np.arctan2(c, s)) == pytest.approx(0, abs=0.1)  # no delay
    assert 10 * np.log10(float(residual[0]) / float((middle**2).sum())) < -80
    loud = np.concatenate([sine(997, 0.1, 44100, 0.2), sine(15000, 1.0, 44100, 0.9)])  # 15 kHz would fold to 9 kHz
    folded = read_recording(write(tmp_path / "b.wav", loud, 44100, "FLOAT"), RATE).samples[4800:24000]
    assert np.abs(folded).max() < 0.9 * 10 ** (-80 / 20)


def test_resampling_by_blocks_equals_resampling_at_once(tmp_path: Path) -> None:
    noise = (0.3 * np.random.default_rng(0).standard_normal(30011)).clip(-0.99, 0.99).astype(np.float32)
    found = read_recording(write(tmp_path / "a.wav", noise, 44100, "FLOAT"), RATE)
    whole = soxr.resample(noise, 44100, RATE, "HQ")
    assert len(found.pcm) == len(whole)
    np.testing.assert_allclose(found.samples, whole * min(1.0, 1 / np.abs(whole).max()), atol=3e-5)


def test_the_lowest_sample_rate_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sine(10, 2.0, SAMPLE_RATES[0]), SAMPLE_RATES[0], "FLOAT")
    found = read_recording(path, RATE)
    assert (found.reason, found.sample_rate, len(found.pcm)) == ("", 100, 2 * RATE)
    np.testing.assert_allclose(
        found.samples[RATE // 2 : -RATE // 2], sine(10, 2.0, RATE)[RATE // 2 : -RATE // 2], atol=1e-3
    )
    assert measure_bandwidth(path).seconds == 2.0


def test_very_short_and_too_loud_is_used_with_a_warning(tmp_path: Path) -> None:
    found = read_recording(write(tmp_path / "a.wav", sine(1000, 0.02, RATE)), RATE)
    assert (found.reason, len(found.pcm)) == ("very short: 0.020 s", 480)
    found = read_recording(write(tmp_path / "a.wav", sine(100, 0.5, RATE, 2.5), subtype="FLOAT"), RATE)
    assert found.reason == "peak 2.5 is above full scale; scaled to 1.0"
    np.testing.assert_allclose(found.samples, sine(100, 0.5, RATE, 1.0), atol=4e-5)
    found = read_recording(write(tmp_path / "a.wav", np.sign(sine(1000, 0.5, 48000)), 48000), 44100)
    assert found.reason == ""  # resampling overshoots: scaled, not clipped
    assert 32700 < np.abs(found.pcm.astype(int)).max() <= 32768
    assert np.median(np.abs(found.pcm)) < 32000


def with_spikes(sound: F32, count: int, level: float) -> F32:
    spiked = sound.copy()
    spiked[500 : 500 + 7 * count : 7] = level
    return spiked


@pytest.mark.parametrize(
    ("count", "level", "what"),
    [
        (1, 1e6, "1e+06, 1 sample up to 126 dB"),
        (3, -20.0, "20, 3 samples up to 32 dB"),
        (64, 1e29, "1e+29, 64 samples"),
    ],
)
@pytest.mark.parametrize("channels", ["mono", "fold"])
def test_a_handful_of_samples_far_above_full_scale_is_damage(
    tmp_path: Path, count: int, level: float, what: str, channels: Channels
) -> None:
    """Scaled to 1.0 nothing else would be heard, and all of it would be trimmed."""
    sound = np.stack([sine(220, 0.5, 48000), with_spikes(sine(330, 0.5, 48000), count, level)], axis=1)
    sound = sound if channels != "mono" else sound[:, 1]
    with pytest.raises(AudioError) as caught:
        read_recording(write(tmp_path / "a.wav", sound, 48000, "FLOAT"), RATE, trim=True, channels=channels)
    assert str(caught.value).startswith(f"is damaged: it has a peak of {what}")
    assert str(caught.value).endswith("above all others")
    with pytest.raises(AudioError, match="is damaged: it has a peak of"):
        read_original(tmp_path / "a.wav")


def test_spikes_of_files_without_headroom_are_said(tmp_path: Path) -> None:
    for count, what in ((1, "1 sample"), (10, "10 samples")):
        path = write(tmp_path / "a.wav", with_spikes(sine(220, 0.5, RATE, 0.005), count, 0.999))
        assert read_recording(path, RATE).reason == f"it has {what} up to 46 dB above all others: clicks, or damage"


IMPULSE = np.eye(1, RATE, 900, dtype=np.float32)[0]
SNARE = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32) * np.exp(-np.arange(RATE) / 1000)
FLOOR = np.random.default_rng(1).uniform(-3e-4, 3e-4, RATE).astype(np.float32)
CLICKS = np.where(np.arange(RATE) % 4000 < 30, np.exp(-(np.arange(RATE) % 4000) / 6), 0.0)


@pytest.mark.parametrize("level", [1.0, 15.8, 32768.0])  # of full scale, of a recorder, of whole numbers as float
@pytest.mark.parametrize(
    "sound",
    [IMPULSE, np.roll(SNARE, RATE // 2) + FLOOR, CLICKS + FLOOR, sine(220, 0.5, RATE, 1.0)],
    ids=["impulse in silence", "drum", "clicks", "tone"],
)
def test_an_honest_recording_of_any_level_is_no_damage(tmp_path: Path, sound: F32, level: float) -> None:
    sound = sound / np.abs(sound).max()
    found = read_recording(write(tmp_path / "a.wav", level * sound, subtype="FLOAT"), RATE)
    assert "damage" not in found.reason
    np.testing.assert_allclose(found.samples, sound, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "rate", "sentence"),
    [
        (np.zeros(0), RATE, "holds no samples (80 bytes)"),
        (np.zeros(4800), RATE, "is silent (peak 0)"),
        (np.array([0.5, np.nan, np.inf, 0.2]), RATE, "holds 2 samples of 4 that are NaN or infinite"),
        (sine(100, 0.2, RATE, 5e-5), RATE, "is silent (peak -86 dBFS)"),
        (np.array([0.5]), 768_000, f"holds no sound at {RATE} Hz: 1 samples at 768000 Hz leave silence"),
        (sine(100, 0.5, 44100, 3e38), 44_100, "has a peak of 3e+38, too large for any scale"),
        (sine(5, 1, 99), 99, "has a sample rate of 99 Hz; 100 to 768000 Hz can be used"),
        (np.full((100, 65), 0.1), RATE, "has 65 channels; at most 64 can be used"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, samples: NDArray[np.generic], rate: int, sentence: str) -> None:
    assert reason(write(tmp_path / "a.wav", samples, rate, "FLOAT")) == sentence


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (f"a{suffix}", "Grüße! Notes on the mixing\nand more\n".encode(), "is text, not audio: it begins with 'Grüße! "
         "Notes on the mixing and more'") for suffix in (".wav", ".mp3")
    ] + [
        ("b.wav", np.random.default_rng(0).bytes(3000), "is not audio in a known format (suffix .wav, 3000 bytes)"),
        ("c.flac", b"", "is empty (0 bytes)"),
        ("d.wav", b"RIFF$\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\xc0]\x00\x00\x80\xbb\x00\x00"
         b"\x02\x00\x10\x00data", "cannot be decoded: No 'data' chunk marker"),
    ],
)  # fmt: skip
def test_text_and_noise_are_not_audio(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason(tmp_path / name) == sentence


def test_read_errors_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", sine(100, 0.5, RATE))

    def fails(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fails)
    assert reason(path) == "cannot be read: Permission denied"


def test_very_long_paths(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 250] * 5)  # beyond libsndfile's own limit of 1024
    deep.mkdir(parents=True)
    path = write(tmp_path / "a.wav", sine(100, 0.5, RATE)).rename(deep / ("n" * 251 + ".wav"))
    assert len(read_recording(path, RATE).pcm) == 12000


ANNOUNCING = ("wav", "aiff", "au", "flac", "rf64", "w64")


def announcing(suffix: str, data: bytes, frames: int) -> bytearray:
    """The bytes of a file, but for its header, which announces so many frames."""
    size, pack, find = 2 * frames, struct.pack, data.find
    changes = {
        "wav": [(40, pack("<I", size))],
        "aiff": [(find(b"COMM") + 10, pack(">I", frames)), (find(b"SSND") + 4, pack(">I", (size + 8) % (1 << 32)))],
        "au": [(8, pack(">I", size))],
        "flac": [(18, ((int.from_bytes(data[18:26], "big") >> 36 << 36) | frames).to_bytes(8, "big"))],
        "rf64": [(find(b"ds64") + 16, pack("<QQ", size, frames))],
        "w64": [(find(b"data") + 16, pack("<Q", 24 + size))],
    }
    changed = bytearray(data)
    for place, part in changes[suffix]:
        changed[place : place + len(part)] = part
    return changed


def write_noise(path: Path) -> Path:
    """Three seconds."""
    noise = (0.3 * np.random.default_rng(0).standard_normal(3 * RATE)).clip(-1, 1)
    sf.write(path, noise, RATE, format=path.suffix[1:].upper(), subtype="PCM_16")
    return path


@pytest.mark.parametrize("suffix", ANNOUNCING)
def test_seven_hours_announced_in_one_kilobyte_are_rejected(tmp_path: Path, suffix: str) -> None:
    path = write_noise(tmp_path / f"a.{suffix}")
    path.write_bytes(announcing(suffix, path.read_bytes(), HOURS * 3600 * RATE)[:1024])
    tracemalloc.start()
    message = reason(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message.startswith(f"announces {HOURS}.0 h but holds 0.0")
    assert message.endswith("(1024 bytes)")
    assert peak < 4 << 20


@pytest.mark.parametrize("suffix", ANNOUNCING)
def test_a_cut_off_file_is_used_as_far_as_it_goes(tmp_path: Path, suffix: str) -> None:
    path = write_noise(tmp_path / f"a.{suffix}")
    whole = read_recording(path, RATE)
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3])
    found = read_recording(path, RATE)
    assert len(found.pcm) == pytest.approx(2 * RATE, abs=0.2 * RATE)
    assert found.reason.startswith(f"incomplete: {len(found.pcm) / RATE:.3f} s decoded, 3.000 s announced")
    np.testing.assert_array_equal(found.pcm, whole.pcm[: len(found.pcm)])


def test_streams_of_unknown_length_are_complete(tmp_path: Path) -> None:
    for suffix, unknown in (("wav", 0x7FFFFFFF), ("flac", 0)):
        path = write(tmp_path / f"a.{suffix}", sine(440, 1.0, RATE))
        path.write_bytes(announcing(suffix, path.read_bytes(), unknown))
        found = read_recording(path, RATE)
        assert (found.reason, len(found.pcm)) == ("", RATE)
        assert measure_bandwidth(path).seconds == 1.0


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOINAM" + struct.pack("<I", 14) + b"a kick, a take"
ODD = b"id3 " + struct.pack("<I", 5) + b"ID3\x03a"


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize(
    "tags", [LIST, ODD, ODD + b"\0" + LIST, LIST + b"junk" + bytes(4)], ids=["list", "odd", "two", "empty"]
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_tags_behind_the_samples_of_a_file_without_sizes_are_not_heard(
    tmp_path: Path, stated: int, tags: bytes, subtype: str
) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, (0.3 * np.random.default_rng(0).standard_normal(RATE)).clip(-1, 1), RATE, subtype=subtype)
    whole, data = read_recording(path, RATE), bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = data[4:8] = struct.pack("<I", stated)
    path.write_bytes(data + tags)
    found = read_recording(path, RATE)
    assert found.reason == ""
    np.testing.assert_array_equal(found.pcm, whole.pcm)
    assert measure_bandwidth(path).seconds == 1.0


@pytest.mark.parametrize("more", [b"TAG" + bytes(125), b"APETAGEX" + bytes(24)])
def test_a_tag_after_the_sound_is_no_damage(tmp_path: Path, more: bytes) -> None:
    """Of a file shorter than a block nothing was left."""
    sf.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 3000), 16000)
    whole = read_recording(tmp_path / "a.flac", 16000)
    (tmp_path / "tagged.flac").write_bytes((tmp_path / "a.flac").read_bytes() + more)
    found = read_recording(tmp_path / "tagged.flac", 16000)
    assert found.reason == whole.reason == ""
    np.testing.assert_array_equal(found.pcm, whole.pcm)


@pytest.mark.parametrize("suffix", ["ogg", "flac"])
def test_a_chained_file_is_used_with_a_warning(tmp_path: Path, suffix: str) -> None:
    one, two = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    sf.write(one, np.random.default_rng(0).uniform(-0.3, 0.3, 40_000), 16000)
    two.write_bytes(one.read_bytes() * 2)
    assert read_recording(one, 16000).reason == ""
    assert read_recording(two, 16000).reason == (
        "holds several recordings one after another (a chained file), of which the first was decoded"
    )
    assert len(read_recording(two, 16000).pcm) == 40_000
