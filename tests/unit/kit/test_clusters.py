"""Clusters of spectra that no usual model gives."""

import numpy as np
import pytest

from distill.errors import ArtifactError
from distill.kit.clusters import spectral_clusters


def test_bands_without_any_power_are_levels_like_others() -> None:
    rng = np.random.default_rng(0)
    sounds = [rng.normal(-40, 5, (6, 8)).astype(np.float32) for _ in range(12)]
    for number, spectra in enumerate(sounds):
        spectra[:, number % 8] = -1e4
        spectra[:] += 1e4 * (number % 3)  # nor does a level that no number of watts can hold
    clusters = spectral_clusters(sounds, 12)
    assert sorted(one for members in clusters for one in members) == list(range(12))
    assert len(clusters) > 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_spectra_without_numbers_are_refused(value: float) -> None:
    sounds = [np.full((4, 8), -20.0, dtype=np.float32) for _ in range(3)]
    sounds[1][2, 3] = value
    with pytest.raises(ArtifactError, match="expected finite spectra of the codec, found NaN or infinite values"):
        spectral_clusters(sounds, 2)
