"""Read recordings that a verb is given: files, samples, or a `Sound` with a sample rate of its own."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
import torch

from distill.audio.decode import Decoder
from distill.audio.image import MONO, fold, image_of, mono
from distill.audio.noise_floor import noise_floor
from distill.audio.output import resampled
from distill.audio.read import SAMPLE_RATES, Channels, Original
from distill.audio.side_info import SideInfo
from distill.codec.streaming import encode, within_full_scale
from distill.errors import ParamsError
from distill.generate.context import GenerationContext, Recorded
from distill.generate.selection.faults import Samples
from distill.generate.settings import Recording, Sound

# Silence and full scale of integer samples, as scipy.io.wavfile and soundfile read them.
CODINGS = {"uint8": (128, 128), "int16": (0, 1 << 15), "int32": (0, 1 << 31)}


class Input(NamedTuple):
    """Samples `[N]` at the codec's sample rate, side information, and the sample rate of the recording itself."""

    samples: Samples
    side_info: SideInfo
    sample_rate: int


def recorded(context: GenerationContext, recording: Recording) -> Recorded:
    """Read and encode a recording. Raises AudioError and ParamsError."""
    own = context.single
    if own is not None and recording is own.samples:
        return Recorded(
            own.samples, own.codes, own.side_info, context.codec.spectrogram.sample_rate
        )
    if (
        own is not None
        and isinstance(recording, str | os.PathLike)
        and Path(recording) == context.path
    ):
        return own
    samples, side_info, sample_rate = read(context, recording)
    codes = encode(context.codec, torch.from_numpy(samples)[None])[0].numpy()
    return Recorded(samples, codes, side_info, sample_rate)


def read(context: GenerationContext, recording: Recording) -> Input:
    """Read a recording at the codec's sample rate. Raises AudioError and ParamsError."""
    rate = context.codec.spectrogram.sample_rate
    if isinstance(recording, str | os.PathLike):
        with Decoder() as decoder:
            channels: Channels = "fold" if context.is_stereo else "mono"
            decoded = decoder.recording(Path(recording), rate, channels)
        samples = within_full_scale(context.codec, decoded.samples, str(recording))
        return Input(samples, decoded.side_info, decoded.sample_rate)
    given = _from_memory(recording, rate)
    sound = (
        given.samples
        if given.sample_rate == rate
        else soxr.resample(given.samples, given.sample_rate, rate, "HQ")
    )
    image = image_of(sound, rate) if sound.ndim == 2 else MONO
    sound = fold(sound, rate) if len(image) else mono(sound)
    side_info = SideInfo(image, noise_floor(sound, rate))
    return Input(within_full_scale(context.codec, sound, "samples"), side_info, given.sample_rate)


def read_unchanged(context: GenerationContext, recording: Recording) -> Original:
    """Read a recording at its own sample rate, with its samples unchanged. Raises AudioError and ParamsError."""
    if not isinstance(recording, str | os.PathLike):
        return _from_memory(recording, context.codec.spectrogram.sample_rate)
    with Decoder() as decoder:
        return decoder.original(Path(recording))


def side_info_of(context: GenerationContext, given: Original) -> SideInfo:
    """Measure the side information of a recording; it has a stereo image if both the model and the recording are stereo."""
    rate = context.codec.spectrogram.sample_rate
    sound = resampled(given.samples, given.sample_rate, rate)
    image = image_of(sound, rate) if sound.ndim == 2 and context.is_stereo else MONO
    return SideInfo(image, noise_floor(fold(sound, rate) if len(image) else mono(sound), rate))


def _from_memory(recording: object, rate: int) -> Original:
    """Convert samples `[N]` or `[N, 2]`, at `rate` Hz unless they are a `Sound`, to floats with full scale at 1.

    Raises ParamsError.
    """
    sound = recording if isinstance(recording, Sound) else Sound(recording, rate)
    try:
        given = np.asarray(sound.samples)
        samples = np.array(given, dtype=np.float32, order="C")  # PyTorch takes no negative strides
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # RuntimeError: a tensor that requires a gradient
        raise ParamsError(
            f"samples: expected a sound, mono [N] or stereo [N, 2], of finite numbers, found {type(sound.samples).__name__} "
            "of something else; give samples or a path"
        ) from error
    is_shaped = (
        len(samples) > 0 and (samples.ndim == 1 or samples.shape[1:] == (2,))
        if samples.ndim
        else False
    )
    if not is_shaped or not np.isfinite(samples).all():
        wrong = "NaN or infinite values" if is_shaped else f"the shape {samples.shape}"
        raise ParamsError(
            f"samples: expected a sound, mono [N] or stereo [N, 2], of finite numbers, found {wrong}"
        )
    is_whole = isinstance(sound.sample_rate, int | np.integer)
    if not (is_whole and int(sound.sample_rate) in SAMPLE_RATES):
        raise ParamsError(
            f"sample rate {sound.sample_rate!r}: expected a whole number from {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]} Hz, "
            "found another; give that of the samples"
        )
    silence, full_scale = CODINGS.get(given.dtype.name, (0, 1))
    return Original(
        (samples - np.float32(silence)) / np.float32(full_scale), int(sound.sample_rate), 32
    )
