"""Checks of `distill verify`: form, metadata, weights and hash of a model file, and a trial of its networks."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from distill.codec.streaming import encode
from distill.errors import ArtifactError
from distill.generate.sampling import Sampling, sample_codes
from distill.generate.sounds import decode_sounds
from distill.model_file.card import Facts
from distill.model_file.format import VERSION_TEXT, Bundle, load_bundle, size_of

TRIAL_SECONDS, TRIAL_PITCH = 0.5, 220.0


def verify(path: Path) -> Facts:
    """Check a model file: rows (check, finding). Raises ArtifactError at the first fault."""
    bundle = load_bundle(path)
    metadata = bundle.metadata
    networks = [network for network in (bundle.codec, bundle.prior) if network is not None]
    weights = sum(value.numel() for network in networks for value in network.state_dict().values())
    checks = [
        ("form", f"safetensors without gaps or overlaps, {size_of(path)} bytes, no pickle"),
        ("metadata", f"format {VERSION_TEXT}, every value in its range"),
        ("weights", f"{weights} numbers, all finite, of the names, types and shapes that the metadata describes"),
        ("hash", f"SHA-256 {metadata.payload_sha256} as written"),
    ]
    if bundle.reference is not None:
        reference = bundle.reference
        found = (
            f"codes of {len(reference.codes)} recordings to compare new sounds with, {len(reference.held_out)} held out"
        )
        checks.append(("reference", found))
    try:
        return [*checks, *_trials(bundle)]
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _trials(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Encode, sample and decode half a second."""
    rate = bundle.codec.spectrogram.sample_rate
    time = torch.arange(round(TRIAL_SECONDS * rate)) / rate
    codes = encode(bundle.codec, 0.5 * torch.sin(2 * math.pi * TRIAL_PITCH * time)[None])[0]
    decode_sounds(bundle.codec, [codes.numpy()])
    yield "codec", f"{TRIAL_SECONDS} s of a tone to {codes.numel()} codes and back"
    if bundle.prior is not None:
        drawn = sample_codes(bundle.prior, 1, len(codes), 0, Sampling(), natural_ending=False)[0]
        decode_sounds(bundle.codec, [drawn])
        yield "prior", f"{TRIAL_SECONDS} s drawn, {drawn.size} codes of this codec"
