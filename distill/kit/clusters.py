"""Distances between sounds in spectrum and length, and clusters of sounds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.errors import ArtifactError
from distill.novelty.spectra import BANDS, Spectra

MAX_CLUSTERS = 8
OCTAVE_DB = 6.0  # of spectral difference, equivalent to twice the length


Shapes = NDArray[np.float64]  # [n, BANDS]


def spectral_shapes(sounds: Sequence[Spectra]) -> Shapes:
    """Mean power of each band in dB, relative to all bands, for spectra `[F, BANDS]` in dB of each sound.

    Raises ArtifactError for NaN and infinite values.
    """
    if not all(np.isfinite(spectra).all() for spectra in sounds):
        raise ArtifactError(
            "expected finite spectra of the codec, found NaN or infinite values; train it again"
        )
    shapes = np.empty((len(sounds), BANDS))
    for shape, spectra in zip(shapes, sounds, strict=True):
        power = (10 ** ((spectra.astype(np.float64) - spectra.max()) / 10)).mean(axis=0)
        shape[:] = 10 * np.log10(np.maximum(power / power.sum(), 1e-20))
    return shapes


def distances(shapes: Shapes, frames: Sequence[int]) -> NDArray[np.float64]:
    """Distances in spectrum and length, `[n, n]` in dB, from `shapes` `[n, BANDS]` in dB and numbers of `frames`."""
    spectral = np.abs(shapes[:, None] - shapes).mean(axis=2)
    octaves = np.log2(np.array(frames, np.float64))
    unlike: NDArray[np.float64] = spectral + OCTAVE_DB * np.abs(octaves[:, None] - octaves)
    return unlike


def spectral_clusters(sounds: Sequence[Spectra], most: int) -> list[list[int]]:
    """Cluster sounds by spectra `[F, BANDS]` in dB: the `most` positions nearest to each cluster's mean, nearest first.

    Ward's method on the shape of the long-term spectrum; deterministic. At most MAX_CLUSTERS clusters, from dark to
    bright. Raises ArtifactError for NaN and infinite values.
    """
    shapes = spectral_shapes(sounds)
    from scipy.cluster.hierarchy import fcluster, linkage  # loads slowly

    numbers = np.arange(len(sounds))
    if len(sounds) > 1:
        numbers = fcluster(linkage(shapes, method="ward"), MAX_CLUSTERS, criterion="maxclust")
    clusters: list[tuple[float, list[int]]] = []  # brightness, the spectral centroid, and members
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        mean = shapes[members].mean(axis=0)
        nearest = np.argsort(((shapes[members] - mean) ** 2).sum(axis=1), kind="stable")[:most]
        power = 10 ** (mean / 10)
        centroid = float((power * np.arange(len(power))).sum() / power.sum())
        clusters.append((centroid, members[nearest].tolist()))
    return [members for _, members in sorted(clusters)]
