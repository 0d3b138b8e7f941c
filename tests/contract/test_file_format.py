"""A second reader of `.distill`, written from docs/file-format.md with numpy alone: it finds and decodes the same."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples.play import decoded, read, under
from numpy.typing import NDArray

from distill.audio.image import image_of
from distill.audio.side_info import SideInfo, side_info_arrays
from distill.codec.model import VQVAE
from distill.codec.streaming import decode, noise_of
from distill.model_file.format import BundleMetadata, save_bundle
from unit.tiny import any_side_info, tonal_codec, tonal_codes

Array = NDArray[Any]


@pytest.fixture(scope="module")
def codec() -> VQVAE:
    return tonal_codec()


@pytest.fixture(scope="module")
def path(codec: VQVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("format") / "tiny.distill"
    metadata = BundleMetadata(vqvae_config=codec.architecture, spectrogram_config=codec.spectrogram)
    save_bundle(file, codec, None, metadata)
    return file


def sha256(tensors: dict[str, Array]) -> str:
    """The section "Hashes"."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}\0torch.{value.dtype.name}\0{list(value.shape)}\0".encode() + value.tobytes())
    return digest.hexdigest()


def test_the_container_and_the_hashes_are_as_the_page_says(path: Path) -> None:
    values, tensors = read(path)
    assert (values["format"], values["version"]) == ("distill_model", [3, 0])
    known = values.pop("metadata_sha256")
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert known == hashlib.sha256(text.encode()).hexdigest()
    assert values["payload_sha256"] == sha256(tensors)
    assert values["codec_sha256"] == sha256(under("codec.", tensors))


def test_codes_sound_as_the_page_says(codec: VQVAE, path: Path) -> None:
    codes, about = np.tile(tonal_codes(codec), (3, 1)), any_side_info(2.0, 3)  # 1.1 s: between the middles of two rows
    ours = decode(codec, torch.from_numpy(codes)[None], noise_of(codec, about, len(codes)))[0].numpy()
    values, tensors = read(path)
    theirs = decoded(values, {name: value.astype(np.float64) for name, value in tensors.items()}, codes, about.noise)
    assert theirs.shape == ours.shape
    assert abs(theirs - ours).max() < 2e-4 * abs(ours).max()


def test_stereo_images_are_as_the_page_says() -> None:
    """The section "Stereo images": noise 10 dB louder on the left in the lower ten bands, on the right in the others."""
    rate, seconds = 32_000, 3.7
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(round(seconds * rate)))
    hertz = np.linspace(0, rate / 2, len(spectrum))
    erb = 21.4 * np.log10(1 + 0.00437 * hertz)
    bands = np.minimum(np.floor(20 * erb / erb[-1]), 19)
    r = 10 ** (np.where(bands < 10, 10, -10) / 10)
    channels = [np.fft.irfft(spectrum * np.sqrt(share), round(seconds * rate)) for share in (r / (1 + r), 1 / (1 + r))]
    image = image_of(np.stack(channels, axis=1).astype(np.float32), rate)
    arrays = side_info_arrays([SideInfo(), SideInfo(image)])
    assert (arrays["image"].dtype, arrays["image"].shape) == (np.uint8, (4, 40))
    assert arrays["image_lengths"].tolist() == [0, 4]
    levels, coherences = arrays["image"][:, :20].T, arrays["image"][:, 20:].T
    assert (levels[:9] == 11).all()  # 10 dB; a window of one band hears a little of the next
    assert (levels[11:] == 3).all()
    assert (np.delete(coherences, [9, 10], axis=0) == 0).all()
