"""Damaged files of sound and of codes: each is used, or refused with a reason; in bounded time and memory."""

import io
import random
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from faults.mutants import mutant, safetensors_mutant

from distill.audio.decoder import LEAST_SECONDS, Decoder
from distill.codes.file import CodesGeometry, read_codes, write_codes
from distill.errors import ArtifactError

RATE = 16_000
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "adpcm": ("WAV", "MS_ADPCM"),
    "aiff": ("AIFF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "caf": ("CAF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
}


def sound_in(name: str, channels: int = 2) -> bytes:
    """A file of a quarter of a second in one of `KINDS`."""
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(RATE // 4) / 1000)[:, None]
    stream = io.BytesIO()
    container, subtype = KINDS[name]
    samples = 0.5 * decay * rng.uniform(-1, 1, (RATE // 4, channels))
    soundfile.write(stream, samples, RATE, format=container, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize("name", KINDS)
def test_a_mutant_of_a_sound_is_used_or_rejected_with_a_reason(tmp_path: Path, name: str, exhaustive: bool) -> None:
    path, draw, data = tmp_path / f"mutant.{name}", random.Random(name), sound_in(name)
    used, count = 0, 10_000 if exhaustive else 60
    with Decoder() as decoder:
        for _ in range(count):
            path.write_bytes(mutant(data, draw))
            began = time.monotonic()
            decoded = decoder.decoded(path, RATE)
            assert time.monotonic() - began < 2 * LEAST_SECONDS
            if decoded.recording is None:
                assert decoded.reason
            else:
                used += 1
                assert np.abs(decoded.recording.pcm.astype(int)).max(initial=0) <= 1 << 15
            assert decoded.reason.isprintable(), decoded.reason
            assert len(decoded.reason) < 500, decoded.reason
    assert 0 < used < count


def test_a_mutant_of_codes_is_refused_or_its_codes_are_in_range(tmp_path: Path, exhaustive: bool) -> None:
    rng, draw, path = np.random.default_rng(0), random.Random(0), tmp_path / "some.codes"
    geometry = CodesGeometry(codec_sha256="0" * 64, sample_rate=RATE, frame_rate=50, codebook_size=64, num_quantizers=3)
    write_codes(path, geometry, [(f"{size}.wav", 320 * size, rng.integers(0, 64, (size, 3))) for size in (9, 20)])
    data, refused, count = path.read_bytes(), 0, 10_000 if exhaustive else 500
    for _ in range(count):
        path.write_bytes(safetensors_mutant(data, draw))
        began = time.monotonic()
        text = ""
        try:
            header, codes = read_codes(path)
        except ArtifactError as error:
            refused, text = refused + 1, str(error)
        else:
            assert all(0 <= one.min() <= one.max() < header.codebook_size for one in codes)
            assert all(one.shape[1] == header.num_quantizers for one in codes)
        assert text.isprintable(), ascii(text)
        assert len(text) < 1000
        assert time.monotonic() - began < 2
    assert count / 2 < refused < count
