"""Damaged, wrong and uncommon files of sound and of codes: each is used, or refused with a reason; in bounded time and memory."""

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faults.mutants import mutant, safetensors_mutant
from faults.strange_audio import RATE, sound, valid, written, wrong
from unit.audio.encoded import encoded
from unit.tiny import SIZES, any_codes, tiny_codec

from distill.audio.decode import LEAST_SECONDS, Decoder
from distill.codes.file import NamedCodes, load_codes, write_codes
from distill.codes.store import out_of_range
from distill.errors import ArtifactError

SNDFILE = (
    *("WAV PCM_16", "WAV PCM_24", "WAV MS_ADPCM", "AIFF PCM_16", "FLAC PCM_16", "OGG VORBIS", "OGG OPUS"),
    *("MP3 MPEG_LAYER_III", "CAF PCM_16", "AU PCM_16", "W64 PCM_16", "RF64 PCM_16"),
)
FFMPEG = {"m4a": "aac", "mov": "alac", "mka": "flac", "webm": "libopus", "wma": "wmav2", "wv": "wavpack", "ac3": "ac3"}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as started:
        yield started


def is_used(decoder: Decoder, path: Path, data: bytes) -> bool:
    """Whether a file with these bytes is used, in time and in range; one that is rejected has a reason."""
    path.write_bytes(data)
    began = time.monotonic()
    decoded = decoder.decoded(path, RATE)
    decoder.bandwidth(path)
    stereo = decoder.decoded(path, RATE, channels="fold")
    assert bool(stereo.pcm_sha256) == bool(decoded.pcm_sha256), (path.name, stereo.reason)
    assert np.isfinite(stereo.samples).all(), path.name
    assert time.monotonic() - began < 2 * LEAST_SECONDS, path.name
    assert decoded.reason.isprintable(), (path.name, decoded.reason)
    assert len(decoded.reason) < 500, (path.name, decoded.reason)
    if not decoded.pcm_sha256:
        assert decoded.reason, path.name
        return False
    assert np.abs(decoded.pcm.astype(int)).max(initial=0) <= 1 << 15, path.name
    return True


@pytest.mark.parametrize("kind", [*SNDFILE, *FFMPEG])
def test_a_mutant_of_a_sound_is_used_or_rejected_with_a_reason(
    decoder: Decoder, tmp_path: Path, kind: str, exhaustive: bool
) -> None:
    path, draw = tmp_path / f"mutant.{kind.split()[0].lower()}", random.Random(kind)
    if kind in FFMPEG:
        samples = np.tile(sound(2), (8, 1))
        data = encoded(path, samples, 48_000, FFMPEG[kind], "asf" if kind == "wma" else None).read_bytes()
    else:
        data = written(*kind.split(), sound(2))
    count = 10_000 if exhaustive else 40
    used = sum(is_used(decoder, path, mutant(data, draw)) for _ in range(count))
    assert 0 < used < count


def test_wrong_files_are_used_or_rejected_with_a_reason(decoder: Decoder, tmp_path: Path) -> None:
    files = list(wrong())
    used = sum(is_used(decoder, tmp_path / strange.name, strange.data) for strange in files)
    assert 0 < used < len(files)


def test_uncommon_files_are_used_with_the_right_samples(decoder: Decoder, tmp_path: Path) -> None:
    for strange in valid():
        path = tmp_path / strange.name
        path.write_bytes(strange.data)
        decoded = decoder.decoded(path, RATE)
        assert len(decoded.pcm), (strange.name, decoded.reason)
        assert not re.search("incomplete|stopped", decoded.reason), (strange.name, decoded.reason)
        assert strange.samples is not None
        expected = strange.samples.mean(axis=1)
        assert len(decoded.samples) == len(expected), strange.name
        assert np.abs(decoded.samples - expected).max() <= strange.tolerance, strange.name


def test_a_mutant_of_codes_is_refused_or_its_codes_are_in_range(tmp_path: Path, exhaustive: bool) -> None:
    rng, draw, path = np.random.default_rng(0), random.Random(0), tmp_path / "some.codes"
    codec, step = tiny_codec(), tiny_codec().spectrogram.samples_per_frame
    write_codes(path, codec, [NamedCodes(f"{size}.wav", step * size, any_codes(size, rng)) for size in (9, 20)])
    data, refused, count = path.read_bytes(), 0, 10_000 if exhaustive else 200
    for _ in range(count):
        path.write_bytes(safetensors_mutant(data, draw))
        began = time.monotonic()
        text = ""
        try:
            recordings = load_codes(codec, path)
        except ArtifactError as error:
            refused, text = refused + 1, str(error)
        else:
            for _, samples, codes, _ in recordings:
                assert codes.shape == (codec.spectrogram.frames_for(samples), len(SIZES))
                assert out_of_range(codes, SIZES) == ""
        assert text.isprintable(), ascii(text)
        assert len(text) < 1000
        assert time.monotonic() - began < 2
    assert refused > count / 2
