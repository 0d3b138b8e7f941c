"""Files of codes, and recordings to them and back: round trips, and a sentence for every way one can be wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from distill.audio.image import image_of
from distill.audio.noise_floor import noise_floor
from distill.audio.side_info import SideInfo
from distill.audio.write import write_audio
from distill.codec.streaming import decode, encode, noise_of
from distill.codes.file import NamedCodes, decode_file, encode_files, file_names, load_codes, write_codes
from distill.errors import ArtifactError, AudioError, AudioWarning
from distill.storage.files import canonical_json
from unit.tiny import RATE, SIZES, tiny_codec, write_tone

CODEC = tiny_codec()  # 256 samples a frame


def written(path: Path) -> Path:
    first, second = np.arange(18).reshape(3, 6) % 7, np.full((1, 6), 6)
    write_codes(path, CODEC, [NamedCodes("a.wav", 700, first), NamedCodes("a.wav", 5, second)])
    return path


def header(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert list(metadata) == ["distill_codes"]
    values: dict[str, Any] = json.loads(metadata["distill_codes"])
    assert metadata["distill_codes"] == json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return values


def is_refused(path: Path, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        load_codes(CODEC, path)
    assert "a.codes" in str(caught.value)


@settings(deadline=None)
@given(
    st.lists(
        arrays.arrays(np.int64, st.tuples(st.integers(1, 30), st.just(6)), elements=st.integers(0, 6)),
        min_size=1,
        max_size=12,
    )
)
def test_codes_come_back_in_order(tmp_path_factory: pytest.TempPathFactory, codes: list[Any]) -> None:
    path = tmp_path_factory.mktemp("codes") / "a.codes"
    recordings = [NamedCodes(f"{n}.wav", 256 * len(one) - n, one) for n, one in enumerate(codes)]
    write_codes(path, CODEC, recordings)
    for found, recording in zip(load_codes(CODEC, path), recordings, strict=True):
        assert found[:2] == recording[:2]
        assert found[2].dtype == np.int64
        assert np.array_equal(found[2], recording[2])


def test_the_file_is_uint16_with_one_canonical_header_key(tmp_path: Path) -> None:
    path = written(tmp_path / "a.codes")
    values = header(path)
    assert values["format"] == "distill_codes"
    assert values["version"] == [1, 0]
    assert (values["sample_rate"], values["frame_rate"]) == (RATE, 62.5)
    assert values["codebook_sizes"] == list(SIZES)
    assert [(entry["name"], entry["samples"]) for entry in values["recordings"]] == [("a.wav", 700), ("a.wav", 5)]
    tensors = load_file(path)
    assert [tensors[entry["key"]].shape for entry in values["recordings"]] == [(3, 6), (1, 6)]
    assert {value.dtype for name, value in tensors.items() if name.isdigit()} == {np.dtype(np.uint16)}
    assert (tensors["noise"].dtype, tensors["noise"].shape) == (np.uint8, (2, 8))
    assert tensors["noise_lengths"].tolist() == [1, 1]
    assert path.read_bytes() == written(tmp_path / "b.codes").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "found another kind of safetensors file; check the path"),
        ({"version": [2, 0]}, r"expected format version 1\.0, found \[2, 0\]; encode the recordings again"),
        ({"version": "1.0"}, r"expected format version 1\.0, found '1\.0'"),
        ({"recordings": []}, "expected a valid header, found recordings: .* at least 1 item"),
        ({"surprise": 1}, "expected a valid header, found surprise"),
        ({"codebook_sizes": [71, "128", 16, 7, 8, 8]}, r"expected a valid header, found codebook_sizes\.1"),
        (
            {"codec_sha256": "ab" * 32},
            r"expected codes of the codec \w+…, found those of abababababab…: decode them with",
        ),
        ({"sample_rate": 44_100}, "expected the geometry of its codec, found another; encode"),
        ({"codebook_sizes": [71, 8]}, "expected the geometry of its codec, found another; encode"),
        *(
            ({"recordings": [{"name": name, "samples": 700, "key": "00000000"}]}, r"found recordings\.0\.name")
            for name in ("", "../a.wav", "a/b.wav", "a\\b.wav", "a\nb.wav", "x" * 256)
        ),
    ],
)
def test_a_wrong_header_is_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "a.codes")
    save_file(load_file(path), path, {"distill_codes": canonical_json({**header(path), **changes})})
    is_refused(path, message)


CODES, LAST = np.zeros((3, 6), np.uint16), np.zeros((1, 6), np.uint16)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([CODES], "expected one tensor for each recording it names, found others"),
        ([CODES] * 3, "expected one tensor for each recording it names, found others"),
        (
            [CODES + np.array([0, 0, 0, 0, 8, 0], np.uint16), LAST],
            r"a\.wav: expected codes from 0 to 7 at level 4, found 8; encode",
        ),
        *(
            ([tensor, LAST], r"expected uint16 codes \[3, 6\] for the 700 samples of a\.wav, found .*; encode")
            for tensor in (CODES.astype(np.int64), CODES.astype(np.float32), CODES.reshape(18), CODES[:0], CODES[:, :2])
        ),
    ],
)
def test_tensors_have_to_be_codes_of_the_recordings(tmp_path: Path, tensors: list[Any], message: str) -> None:
    path = written(tmp_path / "a.codes")
    text = canonical_json(header(path))
    noise = {name: one for name, one in load_file(path).items() if name.startswith("noise")}
    save_file({**{f"{n:08d}": one for n, one in enumerate(tensors)}, **noise}, path, {"distill_codes": text})
    is_refused(path, message)


def test_foreign_cut_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.codes"
    is_refused(path, "found no such file")
    for content, message in (
        (b"", "found an empty file"),
        (b"\x80\x02}q\x00." * 9, "found a pickle, or a zip archive such as PyTorch's torch.save writes, which"),
        (b"hello, this is text", "found another format; check the path"),
        (save({"a": np.zeros(3)}), "found another kind of safetensors file"),
        (written(path).read_bytes()[:-2], "found a damaged file"),
    ):
        path.write_bytes(content)
        is_refused(path, message)


def test_codes_are_those_of_the_codec_at_its_rate(tmp_path: Path) -> None:
    tone = write_tone(tmp_path / "a.wav", 0.3)
    done = encode_files(CODEC, [tone], tmp_path / "a.codes")
    ((name, length, codes, about),) = load_codes(CODEC, tmp_path / "a.codes")
    samples, _ = soundfile.read(tone, dtype="float32")
    assert np.array_equal(codes, encode(CODEC, torch.from_numpy(samples)[None])[0].numpy())
    assert (done.recordings, done.seconds, done.frames) == (1, 0.3, len(codes))
    assert done.times_real_time > 0
    assert (name, length, about.is_stereo) == ("a.wav", 4800, False)
    np.testing.assert_array_equal(about.noise, noise_floor(samples, RATE))


@pytest.mark.parametrize(("suffix", "rate"), [("flac", 44_100), ("ogg", 48_000), ("wav", 8_000), ("mp3", 22_050)])
def test_every_format_and_rate_comes_back_as_long_as_it_was(tmp_path: Path, suffix: str, rate: int) -> None:
    encode_files(CODEC, [write_tone(tmp_path / f"a.{suffix}", 0.377, rate)], tmp_path / "a.codes")
    recordings = load_codes(CODEC, tmp_path / "a.codes")
    (sound,) = decode_file(CODEC, recordings, tmp_path / "out.wav", "wav")
    samples, found = soundfile.read(sound.path)
    assert found == RATE
    assert len(samples) == recordings[0][1]
    assert abs(len(samples) / RATE - 0.377) < (0.1 if suffix == "mp3" else 0.001)


def test_recordings_of_one_name_do_not_collide(tmp_path: Path) -> None:
    paths = [write_tone(tmp_path / folder / "take.wav", 0.1 * n) for n, folder in enumerate("abc", 1)]
    encode_files(CODEC, [*paths, paths[0]], tmp_path / "a.codes")
    assert [one.name for one in load_codes(CODEC, tmp_path / "a.codes")] == ["take.wav"] * 4
    sounds = decode_file(CODEC, load_codes(CODEC, tmp_path / "a.codes"), tmp_path / "out", "flac")
    assert [sound.path.name for sound in sounds] == ["take.flac", "take_2.flac", "take_3.flac", "take_4.flac"]
    assert [len(soundfile.read(sound.path)[0]) for sound in sounds] == [1600, 3200, 4800, 1600]
    assert [sound.seconds for sound in sounds] == [0.1, 0.2, 0.3, 0.1]


def write_wide(path: Path, seconds: float = 0.3) -> Path:
    """Noise on the left, and other, softer noise on the right."""
    noise = np.random.default_rng(0).standard_normal((round(seconds * RATE), 2)) * [0.2, 0.1]
    write_audio(path, noise.astype(np.float32), RATE)
    return path


def test_a_stereo_recording_is_stereo_again_beside_a_mono_one(tmp_path: Path) -> None:
    paths = [write_wide(tmp_path / "wide.wav", 2.2), write_tone(tmp_path / "tone.wav")]
    encode_files(CODEC, paths, tmp_path / "a.codes", stereo=True)
    wide, tone = load_codes(CODEC, tmp_path / "a.codes")
    assert (len(wide.side_info.image), len(tone.side_info.image)) == (2, 0)
    np.testing.assert_array_equal(wide.side_info.image, image_of(soundfile.read(paths[0], dtype="float32")[0], RATE))
    sounds = decode_file(CODEC, [wide, tone], tmp_path / "out", "wav")
    assert [soundfile.read(sound.path)[0].shape for sound in sounds] == [(round(2.2 * RATE), 2), (4800,)]
    for chosen, stereo in ((paths[:1], False), (paths[1:], True)):
        encode_files(CODEC, chosen, tmp_path / "mono.codes", replace=True, stereo=stereo)
        assert sorted(load_file(tmp_path / "mono.codes")) == ["00000000", "noise", "noise_lengths"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", None, "found that image is missing or of another type or shape; encode the recordings again"),
        ("image", np.zeros((1, 40), np.int64), "found that image is missing or of another type"),
        ("image", np.full((1, 40), 15, np.uint8), "found that image holds numbers that are no steps of its scale"),
        ("image_lengths", np.array([1]), "found that image_lengths has 1 entries for 2 recordings"),
        ("image_lengths", np.array([2, 2]), "found that image_lengths do not add up to image"),
        ("noise", None, "found a file made before they were kept; encode the recordings again"),
        ("noise", np.zeros((2, 9), np.uint8), "found that noise has 9 columns, not 8"),
        ("noise_lengths", np.array([2, 1]), "found that noise_lengths do not add up to noise"),
    ],
)
def test_side_information_has_to_be_that_of_the_recordings(
    tmp_path: Path, name: str, value: np.ndarray | None, message: str
) -> None:
    path = tmp_path / "a.codes"
    codes, wide = np.zeros((3, 6), np.int64), SideInfo(np.zeros((1, 2, 20), np.uint8))
    write_codes(path, CODEC, [NamedCodes("a.wav", 700, codes, wide), NamedCodes("b.wav", 700, codes)])
    tensors = {key: kept for key, kept in load_file(path).items() if key != name or value is not None}
    if value is not None:
        tensors[name] = value
    save_file(tensors, path, {"distill_codes": canonical_json(header(path))})
    is_refused(path, message)


def test_names_that_a_file_system_takes_for_one_do_not_collide() -> None:
    names = ["Gl\u00f6ck.wav", "Glo\u0308ck.wav", "GL\u00d6CK.aif"]
    assert file_names(names, "wav") == ["Gl\u00f6ck.wav", "Glo\u0308ck_2.wav", "GL\u00d6CK_3.wav"]


def test_what_would_clip_is_attenuated_and_reported(tmp_path: Path) -> None:
    loud = tiny_codec()
    with torch.no_grad():
        loud.head.bias[: loud.spectrogram.n_fft // 2 + 1] += 4.0  # e^4 times the amplitude
    encode_files(loud, [write_tone(tmp_path / "a.wav")], tmp_path / "a.codes")
    recordings = load_codes(loud, tmp_path / "a.codes")
    (sound,) = decode_file(loud, recordings, tmp_path / "out.wav", "wav")
    (one,) = recordings
    noise = noise_of(loud, one.side_info, len(one.codes))
    expected = decode(loud, torch.from_numpy(one.codes)[None], noise)[0, : one.samples].numpy()
    peak = np.abs(expected).max()
    assert peak > 1
    assert sound.gain_db == pytest.approx(-20 * np.log10(peak))
    np.testing.assert_allclose(soundfile.read(sound.path)[0], expected / peak, atol=2 / 32768)


def test_one_unusable_recording_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    paths = [write_tone(tmp_path / "a.wav"), tmp_path / "empty.wav"]
    with pytest.raises(AudioError, match=r"empty\.wav: expected a recording, found a file that is empty \(0 bytes\)"):
        encode_files(CODEC, paths, tmp_path / "a.codes")
    assert not list(tmp_path.glob("*codes*"))


def test_warnings_are_passed_on(tmp_path: Path) -> None:
    with pytest.warns(AudioWarning, match=r"short\.wav: very short: 0\.030 s"):
        encode_files(CODEC, [write_tone(tmp_path / "short.wav", 0.03)], tmp_path / "a.codes")
