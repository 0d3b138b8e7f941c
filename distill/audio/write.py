"""Writing of audio files through soundfile, atomically."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from distill.errors import AudioError
from distill.storage.files import atomic_path

AudioFormat = Literal["wav", "flac", "ogg", "mp3"]

_FORMATS: dict[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def write_audio(path: Path, samples: NDArray[np.float32], sample_rate: int, kind: AudioFormat = "wav") -> None:
    """Write mono samples `[N]`, clipped to [-1, 1], in 16 bits where `kind` has them. Raises AudioError and OSError.

    The file is made in memory: libsndfile does not tell when the disk takes no more of what it writes last.
    """
    container, subtype = _FORMATS[kind]
    file = io.BytesIO()
    try:
        soundfile.write(file, samples.clip(-1.0, 1.0), sample_rate, format=container, subtype=subtype)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{path}: expected to write {sample_rate} Hz {kind}, found: {error.error_string} choose another format"
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(file.getbuffer())
