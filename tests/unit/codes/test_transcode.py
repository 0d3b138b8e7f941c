"""Recordings to codes and back: lengths, names, formats, and nothing written when something is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from unit.tiny import RATE, tiny_codec, write_tone

from distill.codec.model import VQVAE
from distill.codec.streaming import decode, encode
from distill.codes.file import read_codes, write_codes
from distill.codes.transcode import codes_geometry, decode_file, encode_files, file_names, load_codes
from distill.errors import ArtifactError, AudioError


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    return tiny_codec()


def test_codes_are_those_of_the_codec_at_its_rate(tmp_path: Path, codec: VQVAE) -> None:
    tone = write_tone(tmp_path / "a.wav", 0.3)
    done = encode_files(codec, [tone], tmp_path / "a.codes")
    header, (codes,) = read_codes(tmp_path / "a.codes")
    samples, _ = soundfile.read(tone, dtype="float32")
    assert np.array_equal(codes, encode(codec, torch.from_numpy(samples)[None])[0].numpy())
    assert (done.recordings, done.seconds, done.frames) == (1, 0.3, len(codes))
    assert done.times_real_time > 0
    assert header.frame_rate == codec.spectrogram.frame_rate
    assert header.recordings[0].samples == 4800


@pytest.mark.parametrize(("suffix", "rate"), [("flac", 44_100), ("ogg", 48_000), ("wav", 8_000), ("mp3", 22_050)])
def test_every_format_and_rate_comes_back_as_long_as_it_was(
    tmp_path: Path, codec: VQVAE, suffix: str, rate: int
) -> None:
    encode_files(codec, [write_tone(tmp_path / f"a.{suffix}", 0.377, rate)], tmp_path / "a.codes")
    recordings = load_codes(codec, tmp_path / "a.codes")
    (sound,) = decode_file(codec, recordings, tmp_path / "out.wav", "wav")
    samples, found = soundfile.read(sound.path)
    assert found == RATE
    assert len(samples) == recordings[0][1]
    assert abs(len(samples) / RATE - 0.377) < (0.1 if suffix == "mp3" else 0.001)


def test_recordings_of_one_name_do_not_collide(tmp_path: Path, codec: VQVAE) -> None:
    paths = [write_tone(tmp_path / folder / "take.wav", 0.1 * n) for n, folder in enumerate("abc", 1)]
    encode_files(codec, [*paths, paths[0]], tmp_path / "a.codes")
    header, _ = read_codes(tmp_path / "a.codes")
    assert [entry.name for entry in header.recordings] == ["take.wav"] * 4
    sounds = decode_file(codec, load_codes(codec, tmp_path / "a.codes"), tmp_path / "out", "flac")
    assert [sound.path.name for sound in sounds] == ["take.flac", "take_2.flac", "take_3.flac", "take_4.flac"]
    assert [len(soundfile.read(sound.path)[0]) for sound in sounds] == [1600, 3200, 4800, 1600]
    assert [sound.seconds for sound in sounds] == [0.1, 0.2, 0.3, 0.1]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\\", exclude_categories=("C",)), min_size=1, max_size=120),
        max_size=30,
    )
)
def test_file_names_are_distinct_and_short_enough(names: list[str]) -> None:
    chosen = file_names(names, "flac")
    assert len({name.casefold() for name in chosen}) == len(names)
    assert all(len(name.encode()) <= 255 and name.endswith(".flac") and "/" not in name for name in chosen)


def test_a_folder_that_exists_keeps_what_is_in_it(tmp_path: Path, codec: VQVAE) -> None:
    encode_files(codec, [write_tone(tmp_path / "a.wav"), write_tone(tmp_path / "b.wav")], tmp_path / "x.codes")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    decode_file(codec, load_codes(codec, tmp_path / "x.codes"), tmp_path / "out", "wav")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav", "notes.txt"]


def test_what_would_clip_is_attenuated_and_reported(tmp_path: Path) -> None:
    loud = tiny_codec()
    with torch.no_grad():
        loud.head.bias[: loud.spectrogram.n_fft // 2 + 1] += 4.0  # e^4 times the amplitude
    encode_files(loud, [write_tone(tmp_path / "a.wav")], tmp_path / "a.codes")
    recordings = load_codes(loud, tmp_path / "a.codes")
    (sound,) = decode_file(loud, recordings, tmp_path / "out.wav", "wav")
    expected = decode(loud, torch.from_numpy(recordings[0][2])[None])[0, : recordings[0][1]].numpy()
    peak = np.abs(expected).max()
    assert peak > 1
    assert sound.gain_db == pytest.approx(-20 * np.log10(peak))
    np.testing.assert_allclose(soundfile.read(sound.path)[0], expected / peak, atol=2 / 32768)


def test_one_unusable_recording_and_nothing_is_written(tmp_path: Path, codec: VQVAE) -> None:
    (tmp_path / "empty.wav").touch()
    paths = [write_tone(tmp_path / "a.wav"), tmp_path / "empty.wav"]
    with pytest.raises(AudioError, match=r"empty\.wav: expected a recording, found a file that is empty \(0 bytes\)"):
        encode_files(codec, paths, tmp_path / "a.codes")
    assert not list(tmp_path.glob("*codes*"))


def test_warnings_about_recordings_are_passed_on(tmp_path: Path, codec: VQVAE) -> None:
    done = encode_files(codec, [write_tone(tmp_path / "short.wav", 0.03)], tmp_path / "a.codes")
    assert done.warnings == (f"{tmp_path / 'short.wav'}: very short: 0.030 s",)


def test_codes_of_another_codec_are_refused(tmp_path: Path, codec: VQVAE) -> None:
    encode_files(codec, [write_tone(tmp_path / "a.wav")], tmp_path / "a.codes")
    with pytest.raises(ArtifactError, match=r"expected codes of the codec \w+…, found those of \w+…: decode them with"):
        load_codes(tiny_codec(seed=1), tmp_path / "a.codes")


def test_geometry_and_lengths_have_to_be_the_codecs(tmp_path: Path, codec: VQVAE) -> None:
    path = tmp_path / "a.codes"
    ours, codes = codes_geometry(codec), np.zeros((4, 3), dtype=np.int64)
    write_codes(path, ours.model_copy(update={"sample_rate": 44_100}), [("a.wav", 1000, codes)])
    with pytest.raises(ArtifactError, match="expected the geometry of its codec, found another"):
        load_codes(codec, path)
    write_codes(path, ours, [("a.wav", 5000, codes)])
    with pytest.raises(ArtifactError, match=r"expected 20 frames for the 5000 samples of a\.wav, found 4"):
        load_codes(codec, path)


def test_names_lose_what_cannot_be_printed(tmp_path: Path, codec: VQVAE) -> None:
    encode_files(codec, [write_tone(tmp_path / "a\nb\x1b.wav")], tmp_path / "a.codes")
    assert read_codes(tmp_path / "a.codes")[0].recordings[0].name == "a_b_.wav"
    assert json.dumps("a_b_.wav").encode() in (tmp_path / "a.codes").read_bytes().replace(b'\\"', b'"')
