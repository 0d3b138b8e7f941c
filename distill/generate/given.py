"""Recordings that a model is given, files or arrays of samples, as it takes them."""

import os
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from distill.audio.decode import Decoder
from distill.audio.image import MONO, Image, fold, image_of, mono
from distill.audio.read import SAMPLE_RATES, Channels
from distill.codec.streaming import within_full_scale
from distill.errors import ParamsError
from distill.generate.faults import Samples
from distill.generate.requests import Recording
from distill.generate.source import Source

# Silence and full scale of whole numbers, as scipy.io.wavfile and soundfile read them.
CODINGS = {"uint8": (128, 128), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}


def read(source: Source, recording: Recording, sample_rate: int | None) -> tuple[Samples, Image]:
    """Samples `[N]` that codes are made of, and the image, of a recording at `sample_rate` Hz, None for a file's own.

    Raises AudioError and ParamsError.
    """
    rate = source.codec.spectrogram.sample_rate
    if isinstance(recording, str | os.PathLike):
        _check_rate(recording, sample_rate)
        with Decoder() as decoder:
            channels: Channels = "fold" if source.is_stereo else "mono"
            found = decoder.recording(Path(recording), rate, channels)
        return within_full_scale(source.codec, found.samples, str(recording)), found.image
    sound = _array(recording, sample_rate, rate)
    image = image_of(sound, rate) if sound.ndim == 2 else MONO
    sound = fold(sound, rate) if len(image) else mono(sound)
    return within_full_scale(source.codec, sound, "samples"), image


def read_as_it_is(source: Source, recording: Recording, sample_rate: int | None) -> Samples:
    """Samples `[N]` or `[N, 2]` of a recording, as of `read`, with its channels as they are."""
    rate = source.codec.spectrogram.sample_rate
    if not isinstance(recording, str | os.PathLike):
        return _array(recording, sample_rate, rate)
    _check_rate(recording, sample_rate)
    with Decoder() as decoder:
        return decoder.recording(Path(recording), rate, "both").samples


def image_taken(source: Source, samples: Samples) -> Image:
    """The image of samples, where the source is stereo and they are."""
    is_stereo = samples.ndim == 2 and source.is_stereo
    return image_of(samples, source.codec.spectrogram.sample_rate) if is_stereo else MONO


def _check_rate(path: str | os.PathLike[str], sample_rate: int | None) -> None:
    """Check that none is given beside a file. Raises ParamsError."""
    if sample_rate is not None:
        raise ParamsError(f"sample rate {sample_rate}: expected none beside {path}, which has its own; leave it out")


def _array(recording: NDArray[np.floating], sample_rate: int | None, rate: int) -> Samples:
    """Samples `[N]` or `[N, 2]` at a rate, a copy. Those of a coding with whole numbers have their full scale at 1.

    Raises ParamsError.
    """
    try:
        given = np.asarray(recording)
        sound = np.array(given, dtype=np.float32, order="C")  # PyTorch takes no negative strides
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor that a gradient is computed for
        raise ParamsError(
            f"samples: expected a sound, mono [N] or stereo [N, 2], of finite numbers, found {type(recording).__name__} "
            "of something else; give samples or a path"
        ) from error
    is_shaped = len(sound) > 0 and (sound.ndim == 1 or sound.shape[1:] == (2,)) if sound.ndim else False
    if not is_shaped or not np.isfinite(sound).all():
        wrong = "NaN or infinite values" if is_shaped else f"the shape {sound.shape}"
        raise ParamsError(f"samples: expected a sound, mono [N] or stereo [N, 2], of finite numbers, found {wrong}")
    if sample_rate is not None and not (isinstance(sample_rate, int | np.integer) and int(sample_rate) in SAMPLE_RATES):
        raise ParamsError(
            f"sample rate {sample_rate!r}: expected a whole number from {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]} Hz, found another; "
            "give that of the samples"
        )
    silence, full_scale = CODINGS.get(given.dtype.name, (0, 1))
    sound = (sound - np.float32(silence)) / np.float32(full_scale)
    return sound if sample_rate in (None, rate) else soxr.resample(sound, sample_rate, rate, "HQ")
