"""Synthetic collections of recordings, each coded by a codec that was fitted to it.

A prior that shall start well on any codec has to see the codes of many. None is trained: the fit decides most.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distill.audio.augment import draw_equaliser, equalised, varispeed
from distill.audio.synthetic_sounds import synthetic_sound
from distill.codec.constants import GAIN_RANGE_DB, STRENGTHS
from distill.codec.coordinates import (
    ABSENT,
    COORDINATES,
    REFERENCE_RATE,
    SharedCoordinates,
    resampled_bands,
)
from distill.codec.initialise import (
    SYNTHETIC_GAIN_RANGE,
    SYNTHETIC_SOUND_FRAMES,
    build_vqvae,
    features_of,
    fit_tones,
)
from distill.codec.layout import ATOM, SHAPE
from distill.codec.model import VQVAE, feature_weights
from distill.codec.search import REACH
from distill.codec.spectral import spectrogram_config_for
from distill.codes.store import Codes
from distill.params import get_adaptive_vqvae_config
from distill.progress import Progress
from distill.seeds import Stream, derive_seed
from distill.storage.files import sha256_files, write_bytes
from distill.storage.work import Cache, Executor, map_cached, work_version
from pretraining.recordings import synthetic_collection

SAMPLE_RATES = (24_000, 44_100, 44_100, 48_000)
LEVELS = (6, 10, 16)
CODEBOOK_SIZES = (64, 128)  # codewords of a level
RECORDINGS = (3, 200)
MAX_SECONDS = 60.0
VIEWS = 3  # of each recording
MAX_FIT_FRAMES, MAX_SYNTHETIC_FRAMES, FIT_ROUNDS = 7_000, 3_000, 2
SCALED_LEVELS = (
    16  # levels with scales of their own in `SharedCoordinates`; further ones have the last one's
)


@dataclass(frozen=True, eq=False)
class CodedCollection:
    """Views `[F, Q]` of the codes of each recording, its instrument, and whether the codec was fitted to it."""

    sample_rate: int
    fit: Mapping[str, Tensor]  # what was fitted of the codec
    recordings: Sequence[Sequence[Codes]]
    instruments: Sequence[int]
    is_fitted: Sequence[bool]
    shapes: Tensor  # [n, features], some spectra, of `reference_shapes`

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return spectrogram_config_for(self.sample_rate).frame_rate

    def codec(self) -> VQVAE:
        """The codec, which is not kept: it is large."""
        shape_levels, size, _ = self.fit["codebooks"].shape
        codec = _build(self.sample_rate, size, ATOM + 1 + shape_levels)
        for name, value in _fitted(codec).items():
            value.copy_(self.fit[name])
        return codec


def _fitted(codec: VQVAE) -> dict[str, Tensor]:
    """What is fitted of a codec, by the names in files."""
    tone = {"ratios": codec.tone.ratios, "amplitudes": codec.tone.amplitudes}
    return {
        "codebooks": codec.quantizer.codebooks,
        "mean": codec.mean,
        "components": codec.components,
        **tone,
    }


def coded_collections(
    folder: Path, count: int, seed: int, executor: Executor, progress: Progress
) -> list[CodedCollection]:
    """Make collections 0 to `count` - 1 in `folder`, but for those that are there, and read them all."""
    own, numbers = Path(__file__).parent, itertools.count(1)
    cache = Cache(folder, work_version("encode_codes", sha256_files(own.glob("*.py"), own)))
    make = partial(make_collection, seed)

    def say(_: int) -> None:
        progress(next(numbers), count, "coded collections")

    paths = map_cached(make, range(count), lambda number: f"{number}-{seed}", executor, cache, say)
    return [read_collection(path) for path in paths]


@torch.no_grad()
def make_collection(seed: int, number: int, path: Path) -> None:
    """Synthesise a collection, fit a codec to it, code it with that and write what came out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(derive_seed(seed, Stream.PRETRAINING_COLLECTIONS, number))
    count = int(np.exp(rng.uniform(*np.log(RECORDINGS))))
    size, levels = (
        int(rng.choice(CODEBOOK_SIZES, p=(0.9, 0.1))),
        int(rng.choice(LEVELS, p=(0.2, 0.7, 0.1))),
    )
    codec = _build(int(rng.choice(SAMPLE_RATES)), size, levels)
    sounds = synthetic_collection(rng, codec.spectrogram.sample_rate, count, MAX_SECONDS)
    instruments = sorted({sound.instrument for sound in sounds})
    unfitted = {instrument for instrument in instruments[1:] if rng.random() < 0.3}
    strength = float(rng.choice(STRENGTHS))
    is_fitted = [sound.instrument not in unfitted for sound in sounds]
    samples = [torch.from_numpy(sound.samples) for sound in sounds]
    fit_tones(
        codec,
        (sound for sound, is_used in zip(samples, is_fitted, strict=True) if is_used),
        _generator(rng),
    )
    views = [_views(codec, rng, sound, strength) for sound in samples]
    fitted = [
        view for own, is_used in zip(views, is_fitted, strict=True) if is_used for view, _ in own
    ]
    _fit(codec, rng, fitted)
    codes = _codes(codec, [view for own in views for view in own])
    shapes = reference_shapes(codec, torch.cat([own[0][0] for own in views]))
    tensors = {
        "codes": torch.cat(codes).to(torch.int16),
        "lengths": torch.tensor([len(part) for part in codes]),
        "instruments": torch.tensor([sound.instrument for sound in sounds]),
        "is_fitted": torch.tensor(is_fitted),
        "shapes": shapes[torch.randperm(len(shapes), generator=_generator(rng))[:200]].half(),
        **{name: value.clone() for name, value in _fitted(codec).items()},
        "sample_rate": torch.tensor(codec.spectrogram.sample_rate),
    }
    write_bytes(path, save(tensors))
    torch.set_num_threads(threads)  # its process does other work, too


def read_collection(path: Path) -> CodedCollection:
    """Read what `make_collection` wrote."""
    tensors = load_file(path)
    parts = [
        part.numpy().astype(np.int64)
        for part in tensors["codes"].split(tensors["lengths"].tolist())
    ]
    recordings = [parts[first : first + VIEWS] for first in range(0, len(parts), VIEWS)]
    return CodedCollection(
        sample_rate=int(tensors["sample_rate"]),
        fit={
            name: tensors[name]
            for name in ("codebooks", "mean", "components", "ratios", "amplitudes")
        },
        recordings=recordings,
        instruments=tensors["instruments"].tolist(),
        is_fitted=tensors["is_fitted"].tolist(),
        shapes=tensors["shapes"].float(),
    )


def fit_coordinates(collections: Sequence[CodedCollection]) -> SharedCoordinates:
    """Fit the coordinates that all codecs share: principal components of spectra, and scales of the codewords.

    Scales lie half-way between those of single coordinates and that of their level, so that fine detail is not lost.
    """
    shapes = torch.cat([collection.shapes for collection in collections])
    mean, weights = shapes.mean(dim=0), feature_weights(spectrogram_config_for(REFERENCE_RATE))
    _, vectors = torch.linalg.eigh(((shapes - mean) * weights).double().T.cov())
    components = vectors.flip(1)[:, :COORDINATES]
    signs = components.gather(0, components.abs().argmax(dim=0, keepdim=True)).sign()
    plain = SharedCoordinates(
        mean, (components * signs).float(), torch.ones(SCALED_LEVELS - 1, COORDINATES)
    )
    squares = torch.zeros(SCALED_LEVELS - 1, COORDINATES)
    seen = torch.zeros(SCALED_LEVELS - 1, 1)
    for collection in collections:
        codec = collection.codec()
        energies = torch.stack(plain.of_codec(codec)[SHAPE:]).square().mean(dim=1)
        squares[: len(energies)] += energies
        seen[: len(energies)] += 1
    sizes = (squares / seen.clamp_min(1)).sqrt()
    for level in range(1, len(sizes)):
        if not seen[level]:
            sizes[level] = sizes[level - 1]
    scales = (sizes * sizes.square().mean(dim=1, keepdim=True).sqrt()).sqrt()
    scales *= (sizes / scales).square().mean(dim=1, keepdim=True).sqrt()
    return SharedCoordinates(plain.mean, plain.components, scales)


def reference_shapes(codec: VQVAE, features: Tensor) -> Tensor:
    """Features `[n, features]` of a codec less their loudness, resampled to those at the reference rate."""
    resampling, present = resampled_bands(codec.spectrogram)
    shapes = (features - codec.frame_features.loudness(features)) @ resampling
    shapes[:, ~present] = ABSENT
    return shapes


def _build(sample_rate: int, codebook_size: int, levels: int) -> VQVAE:
    """A codec without a trained decoder, as small as can be: only its fit counts."""
    sizes = {
        "codebook_size": codebook_size,
        "num_quantizers": levels,
        "hidden_size": 8,
        "num_layers": 1,
    }
    config = get_adaptive_vqvae_config(1, **sizes, dropout=0.0)
    return build_vqvae(sample_rate, config, 0, warm=False).eval()


def _views(
    codec: VQVAE, rng: Generator, sound: Tensor, strength: float
) -> list[tuple[Tensor, Tensor]]:
    """Features and tones, as of `features_of`, of a sound as it is, and shifted, at other levels and speeds, equalised."""
    views = [features_of(codec, sound)]
    for _ in range(VIEWS - 1):
        gain = 10 ** (float(rng.choice((0.0, strength))) * rng.uniform(*GAIN_RANGE_DB) / 20)
        semitones = strength * rng.uniform(-5.0, 5.0)
        played = varispeed(sound, 2 ** (semitones / 12)) if semitones else sound
        played = equalised(played, codec.spectrogram.sample_rate, draw_equaliser(rng))
        views.append(
            features_of(
                codec, played * gain, int(rng.integers(codec.spectrogram.samples_per_frame))
            )
        )
    return views


def _fit(codec: VQVAE, rng: Generator, pieces: list[Tensor]) -> None:
    """Fit projection and codebooks to features of some of the recordings and of synthetic sounds, as a codec's are."""
    order, kept, frames = rng.permutation(len(pieces)), [], 0
    for index in order:
        if frames >= MAX_FIT_FRAMES:
            break
        kept.append(pieces[index])
        frames += len(pieces[index])
    config = codec.spectrogram
    for _ in range(min(frames, MAX_SYNTHETIC_FRAMES) // SYNTHETIC_SOUND_FRAMES):
        sound = synthetic_sound(
            rng, config.sample_rate, SYNTHETIC_SOUND_FRAMES * config.samples_per_frame
        )
        kept.append(
            features_of(codec, torch.from_numpy(sound) * rng.uniform(*SYNTHETIC_GAIN_RANGE))[0]
        )
    codec.fit_projection(torch.cat(kept))
    latents = [codec.project(piece) for piece in kept]
    codec.quantizer.fit(latents, _generator(rng), FIT_ROUNDS)


def _codes(codec: VQVAE, views: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Codes `[F, Q]` of each view, searched together with gaps between them."""
    gap = torch.full((REACH,), -1)
    positions = torch.cat([part for piece, _ in views for part in (torch.arange(len(piece)), gap)])
    latents = torch.cat(
        [nn.functional.pad(codec.project(piece), (0, 0, 0, REACH)) for piece, _ in views]
    )
    tones = torch.cat([nn.functional.pad(own, (0, 0, 0, REACH)) for _, own in views])
    codes = codec.search(latents[None], tones[None], positions)[0]
    parts = codes.split([length for piece, _ in views for length in (len(piece), REACH)])
    return list(parts[::2])


def _generator(rng: Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**62)))
