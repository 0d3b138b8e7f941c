"""Clusters of sounds by spectrum, for models without labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from distill.errors import ArtifactError
from distill.novelty.spectral_space import Spectra

MOST_CLUSTERS = 8
SILENT_DB = -200.0


def spectral_clusters(sounds: Sequence[Spectra], most: int) -> list[list[int]]:
    """Positions of sounds in at most MOST_CLUSTERS clusters, from dark to bright, given spectra `[F, bands]` in dB each.

    Ward's method on the shape of the long-term spectrum; deterministic. Of each cluster the `most` sounds nearest to its
    mean, in their order. Raises ArtifactError for NaN and infinite values.
    """
    if not sounds:
        return []
    if not all(np.isfinite(spectra).all() for spectra in sounds):
        raise ArtifactError("expected finite spectra of the codec, found NaN or infinite values; train it again")
    shapes = np.stack([_shape(spectra.astype(np.float64)) for spectra in sounds])  # [sounds, bands]
    number: NDArray[np.int32] = np.ones(1, dtype=np.int32)
    if len(sounds) > 1:
        number = fcluster(linkage(shapes, method="ward"), MOST_CLUSTERS, criterion="maxclust")
    clusters = [np.flatnonzero(number == one) for one in np.unique(number)]
    clusters.sort(key=lambda members: (_brightness(shapes[members].mean(axis=0)), int(members[0])))
    return [_nearest(shapes, members, most) for members in clusters]


def _shape(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power of each band in dB `[bands]`, relative to that of all bands and at least SILENT_DB."""
    power = (10 ** ((spectra - spectra.max()) / 10)).mean(axis=0)
    shape: NDArray[np.float64] = 10 * np.log10(np.maximum(power / power.sum(), 10 ** (SILENT_DB / 10)))
    return shape


def _brightness(shape: NDArray[np.float64]) -> float:
    """Spectral centroid of a shape, in bands."""
    power = 10 ** (shape / 10)
    return float((power * np.arange(len(power))).sum() / power.sum())


def _nearest(shapes: NDArray[np.float64], members: NDArray[np.intp], most: int) -> list[int]:
    distance = ((shapes[members] - shapes[members].mean(axis=0)) ** 2).sum(axis=1)
    return sorted(int(one) for one in members[np.argsort(distance, kind="stable")[:most]])
