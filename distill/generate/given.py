"""Recordings that a model is given, files or arrays of samples, as it takes them."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from distill.audio.decode import Decoder
from distill.audio.image import MONO, fold, image_of, mono
from distill.audio.noise_floor import noise_floor
from distill.audio.output import resampled
from distill.audio.read import SAMPLE_RATES, Channels, Original
from distill.audio.side_info import SideInfo
from distill.codec.streaming import within_full_scale
from distill.errors import ParamsError
from distill.generate.faults import Samples
from distill.generate.requests import Recording
from distill.generate.source import Source

# Silence and full scale of whole numbers, as scipy.io.wavfile and soundfile read them.
CODINGS = {"uint8": (128, 128), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}


class Given(NamedTuple):
    """Samples `[N]` that codes are made of, side information, and the sample rate that the recording has itself."""

    samples: Samples
    side_info: SideInfo
    sample_rate: int


def read(source: Source, recording: Recording, sample_rate: int | None) -> Given:
    """Read a recording at `sample_rate` Hz, None for a file's own. Raises AudioError and ParamsError."""
    rate = source.codec.spectrogram.sample_rate
    if isinstance(recording, str | os.PathLike):
        _check_rate(recording, sample_rate)
        with Decoder() as decoder:
            channels: Channels = "fold" if source.is_stereo else "mono"
            found = decoder.recording(Path(recording), rate, channels)
        return Given(within_full_scale(source.codec, found.samples, str(recording)), found.side_info, found.sample_rate)
    given = _array(recording, sample_rate, rate)
    sound = given.samples if given.sample_rate == rate else soxr.resample(given.samples, given.sample_rate, rate, "HQ")
    image = image_of(sound, rate) if sound.ndim == 2 else MONO
    sound = fold(sound, rate) if len(image) else mono(sound)
    about = SideInfo(image, noise_floor(sound, rate))
    return Given(within_full_scale(source.codec, sound, "samples"), about, given.sample_rate)


def read_as_it_is(source: Source, recording: Recording, sample_rate: int | None) -> Original:
    """A recording, as of `read`, with its samples as they are, at its own rate."""
    if not isinstance(recording, str | os.PathLike):
        return _array(recording, sample_rate, source.codec.spectrogram.sample_rate)
    _check_rate(recording, sample_rate)
    with Decoder() as decoder:
        return decoder.original(Path(recording))


def side_info_taken(source: Source, given: Original) -> SideInfo:
    """The side information of a recording; its image is kept where the source is stereo and it is."""
    rate = source.codec.spectrogram.sample_rate
    sound = resampled(given.samples, given.sample_rate, rate)
    image = image_of(sound, rate) if sound.ndim == 2 and source.is_stereo else MONO
    return SideInfo(image, noise_floor(fold(sound, rate) if len(image) else mono(sound), rate))


def _check_rate(path: str | os.PathLike[str], sample_rate: int | None) -> None:
    """Check that none is given beside a file. Raises ParamsError."""
    if sample_rate is not None:
        raise ParamsError(f"sample rate {sample_rate}: expected none beside {path}, which has its own; leave it out")


def _array(recording: NDArray[np.floating], sample_rate: int | None, rate: int) -> Original:
    """Samples `[N]` or `[N, 2]` as they are, with full scale of whole numbers at 1; `rate` is theirs where none is given.

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
    return Original(sound, int(sample_rate or rate), 32)
