"""Formats of FFmpeg: samples and lengths of each, what cannot be played, and files whose suffix is another's."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from distill.audio import ffmpeg
from distill.audio.bandwidth import measure_bandwidth
from distill.audio.decode import Decoder
from distill.audio.read import EXAMPLES, SUPPORTED_SUFFIXES, open_audio, read_recording
from distill.errors import AudioError
from unit.audio.encoded import encoded

RATE = 48000
SOUND = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
# Codec and container of each suffix, and how many samples at 48 kHz its files are longer: padding that no header tells.
FORMATS = {
    ".3g2": ("aac", None, 0),
    ".3gp": ("aac", None, 0),
    ".aac": ("aac", None, 2048),
    ".ac3": ("ac3", None, 1536),
    ".amr": ("amr_nb", None, 960),
    ".asf": ("wmav2", None, 2048),
    ".avi": ("mp3", None, 2304),
    ".eac3": ("eac3", None, 1536),
    ".flv": ("aac", None, 2048),
    ".m4a": ("aac", None, 0),
    ".m4b": ("alac", "mp4", 0),
    ".m4r": ("aac", "mp4", 0),
    ".m4v": ("aac", "mp4", 0),
    ".mka": ("flac", None, 0),
    ".mkv": ("aac", None, 2048),
    ".mov": ("pcm_s24le", None, 0),
    ".mp2": ("mp2", None, 1152),
    ".mp4": ("mp3", None, 48),
    ".tta": ("tta", None, 0),
    ".voc": ("pcm_s16le", None, 0),
    ".weba": ("libopus", "webm", 0),
    ".webm": ("libopus", None, 0),
    ".wma": ("wmav2", "asf", 2048),
    ".wmv": ("wmav2", "asf", 2048),
    ".wv": ("wavpack", None, 0),
}
NOT_WRITTEN = {".ape", ".dff", ".dsf", ".dts", ".m4p", ".mpc", ".spx", ".tak"}  # FFmpeg has no encoder of theirs


def reason(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_recording(path, RATE)
    return str(caught.value)


def test_every_suffix_is_tried() -> None:
    assert FORMATS.keys() | NOT_WRITTEN == set(ffmpeg.SUFFIXES)
    assert {one.strip(",") for one in EXAMPLES.split() if one[0] == "."} <= SUPPORTED_SUFFIXES


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_sound(tmp_path: Path, suffix: str) -> None:
    codec, container, longer = FORMATS[suffix]
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of FFmpeg has no encoder of {codec}")
    rate = 8000 if codec == "amr_nb" else RATE
    path = encoded(tmp_path / f"a{suffix}", SOUND[:: RATE // rate], rate, codec, container)
    found = read_recording(path, RATE)
    assert found.reason == ""
    assert found.channels == 1
    assert abs(len(found.pcm) - RATE) <= longer
    middle = found.samples[9600:38400]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=0.2)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440 * len(middle) // RATE
    np.testing.assert_array_equal(found.pcm, read_recording(path, RATE).pcm)


@pytest.mark.parametrize(("suffix", "codec"), [("m4a", "alac"), ("wv", "wavpack"), ("tta", "tta"), ("mka", "flac")])
def test_lossless_formats_are_exact(tmp_path: Path, suffix: str, codec: str) -> None:
    pcm = np.random.default_rng(0).integers(-20000, 20000, (30_001, 2))
    found = read_recording(encoded(tmp_path / f"a.{suffix}", pcm / 32768, RATE, codec), RATE).pcm
    np.testing.assert_array_equal(found, np.rint(pcm.mean(axis=1)))


def test_the_delay_of_an_encoder_is_no_sound(tmp_path: Path) -> None:
    """A click stays where it was, and the last packet's padding is left out."""
    click = np.zeros(30_000)
    click[10_000] = 0.9
    found = read_recording(encoded(tmp_path / "a.m4a", click, RATE, "aac"), RATE).pcm
    assert int(np.abs(found.astype(int)).argmax()) == 10_000
    assert len(found) == 30_000


def test_eight_channels_are_read(tmp_path: Path) -> None:
    """PyAV's own conversion crashes."""
    found = read_recording(encoded(tmp_path / "a.m4a", np.stack([SOUND] * 8, axis=1), RATE, "aac"), RATE)
    assert (found.channels, found.reason) == (8, "")


def film(path: Path, with_sound: bool) -> Path:
    """A second of pictures, longer than the sound."""
    with av.open(path, "w") as output:
        pictures = output.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        sound = output.add_stream("aac", rate=RATE, layout="mono") if with_sound else None
        for _ in range(10):
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        output.mux(pictures.encode(None))
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(SOUND[None, : RATE // 2].astype(np.float32), "fltp", "mono")
            frame.sample_rate = RATE
            output.mux([*sound.encode(frame), *sound.encode(None)])
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_of_a_film_the_sound_is_read(tmp_path: Path, suffix: str) -> None:
    found = read_recording(film(tmp_path / f"a.{suffix}", True), RATE)
    assert found.reason == ""
    assert len(found.pcm) == pytest.approx(RATE // 2, abs=2048)
    assert reason(film(tmp_path / f"silent.{suffix}", False)) == "holds pictures and no sound"


def test_what_cannot_be_played_is_refused_with_the_reason(tmp_path: Path) -> None:
    data = encoded(tmp_path / "a.m4a", SOUND, RATE, "aac").read_bytes()
    (tmp_path / "locked.m4p").write_bytes(data.replace(b"mp4a", b"drms"))
    assert reason(tmp_path / "locked.m4p") == "is encrypted (DRM): only the programs of its shop play it"
    coded = encoded(tmp_path / "b.m4a", SOUND, RATE, "alac").read_bytes()
    (tmp_path / "unknown.m4a").write_bytes(coded.replace(b"alac", b"\xffxyz"))
    assert reason(tmp_path / "unknown.m4a") == "holds sound in a coding that no decoder is known for"
    (tmp_path / "part.m4a").write_bytes(data[: len(data) // 2])
    assert reason(tmp_path / "part.m4a") == (
        f"is not audio in a known format, or only a part of it (suffix .m4a, {len(data) // 2} bytes)"
    )
    (tmp_path / "list.m4a").write_bytes(b"#EXTM3U\n\xff" + b"http://localhost/a.m4a\n")  # a format that opens others
    assert reason(tmp_path / "list.m4a").startswith("is not audio in a known format")


def test_damaged_packets_are_left_out_with_a_warning(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.m4a", np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE, "aac")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
    path.write_bytes(data)
    found = read_recording(path, RATE)
    assert found.reason in ("1 damaged packet was left out", "2 damaged packets were left out")
    assert len(found.pcm) > 0.9 * RATE


def test_of_several_tracks_of_sound_the_others_are_named(tmp_path: Path) -> None:
    """As programs that record a screen write them: the microphone beside the computer."""
    path = encoded(tmp_path / "one.mkv", SOUND, RATE, "pcm_s16le")
    assert read_recording(path, RATE).reason == ""
    with av.open(path) as source, av.open(tmp_path / "two.mkv", "w") as output:
        streams = [output.add_stream_from_template(source.streams.audio[0]) for _ in range(2)]
        for packet in source.demux():
            if packet.dts is not None:
                for stream in streams:
                    packet.stream = stream
                    output.mux(packet)
    recording = read_recording(tmp_path / "two.mkv", RATE)
    assert recording.reason == "holds 2 tracks of sound, of which the first was decoded"


def test_a_file_of_another_format_than_its_suffix_is_read(tmp_path: Path) -> None:
    phone = encoded(tmp_path / "a.m4a", SOUND, RATE, "aac")
    phone = phone.rename(tmp_path / "phone.wav")
    assert len(read_recording(phone, RATE).pcm) == RATE
    coded = encoded(tmp_path / "coded.wav", SOUND, RATE, "ac3")  # one that libsndfile does not decode
    assert len(read_recording(coded, RATE).pcm) == pytest.approx(RATE, abs=1536)
    sf.write(tmp_path / "a.wav", SOUND, RATE)
    (tmp_path / "a.wav").rename(tmp_path / "plain.m4a")
    assert len(read_recording(tmp_path / "plain.m4a", RATE).pcm) == RATE


def test_a_file_is_read_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "a.m4a", SOUND, RATE, "aac")
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.m4a", "concat:a.m4a|b.m4a", "new\nline%20?.m4a", "caf\udcff.m4a"):
        path = path.rename(name)
        assert len(read_recording(path, RATE).pcm) == RATE


def test_the_treble_of_all_of_a_file_counts(tmp_path: Path) -> None:
    sound = np.concatenate([SOUND, 0.3 * np.random.default_rng(0).standard_normal(RATE)])
    assert measure_bandwidth(encoded(tmp_path / "a.m4a", sound, RATE, "aac")).has_treble
    found = measure_bandwidth(encoded(tmp_path / "b.m4a", SOUND, RATE, "aac"))
    assert (found.has_treble, found.seconds, found.sample_rate) == (False, 1.0, RATE)


def test_a_skip_leads_to_the_same_samples(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.m4a", SOUND, RATE, "aac")
    with open_audio(path) as stream:
        whole = stream.read_block(RATE + 1)[0]
    with open_audio(path) as stream:
        assert stream.skip_to(12_345)
        np.testing.assert_array_equal(stream.read_block(100)[0], whole[12_345:12_445])
        assert not stream.skip_to(RATE + 1)


def test_a_process_of_its_own_decodes_within_limits_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # of `decoding_here`
    path = encoded(tmp_path / "a.m4a", np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE), RATE, "aac")
    data = bytearray(path.read_bytes())
    data[3000:9000:50] = bytes(120)
    (tmp_path / "damaged.m4a").write_bytes(data)
    with Decoder() as decoder:
        assert len(decoder.decoded(path, RATE).pcm) == 3 * RATE
        assert decoder.decoded(tmp_path / "damaged.m4a", RATE).reason
    read_recording(tmp_path / "damaged.m4a", RATE)
    assert capfd.readouterr() == ("", "")
