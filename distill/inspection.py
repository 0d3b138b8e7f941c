"""`distill inspect` and `distill verify`: what a model file holds, as tables, and whether all of it is as it should be."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Group
from rich.table import Table

from distill.bundle import Bundle, BundleMetadata, load_bundle
from distill.card import Facts, facts, origins
from distill.console import HEALTH_TITLE, health_table, plain
from distill.errors import ArtifactError
from distill.generate.sampler import Sampling, sample_codes
from distill.generate.synthesis import decode_sounds

TRIAL_SECONDS, TRIAL_PITCH = 0.5, 220.0


def describe(path: Path, metadata: BundleMetadata) -> Group:
    """Tables for the terminal."""
    size = path.stat().st_size / 1e6
    file = ("file", f"{path} ({size:.1f} MB), format {metadata.version_text}, weights intact")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in (file, *facts(metadata), *origins(metadata)):
        table.add_row(*map(plain, row))
    health = {level: values.model_dump() for level, values in metadata.codebook_health_snapshot.items()}
    return Group(table, health_table(health, HEALTH_TITLE))


def verify(path: Path) -> Facts:
    """Check everything about a model file: what was checked, and what was found. Raises ArtifactError at the first fault."""
    bundle = load_bundle(path)
    metadata = bundle.metadata
    networks = [network for network in (bundle.codec, bundle.prior) if network is not None]
    weights = sum(value.numel() for network in networks for value in network.state_dict().values())
    checks = [
        ("form", f"safetensors without gaps or overlaps, {path.stat().st_size} bytes, no pickle"),
        ("metadata", f"format {metadata.version_text}, every value in its range, nothing required that is unknown"),
        ("weights", f"{weights} numbers, all finite, of the names, types and shapes that the metadata describes"),
        ("hash", f"SHA-256 {metadata.payload_sha256} as written"),
    ]
    if bundle.reference is not None:
        known = bundle.reference
        found = f"codes of {len(known.codes)} recordings to compare new sounds with, {len(known.held_out)} held out"
        checks.append(("reference", found))
    try:
        return [*checks, *_trials(bundle)]
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _trials(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Use the networks for a moment."""
    rate = bundle.codec.spectrogram.sample_rate
    time = torch.arange(round(TRIAL_SECONDS * rate)) / rate
    codes = bundle.codec.encode(0.5 * torch.sin(2 * math.pi * TRIAL_PITCH * time)[None])[0]
    decode_sounds(bundle.codec, [codes.numpy()])
    yield "codec", f"{TRIAL_SECONDS} s of a tone to {codes.numel()} codes and back"
    if bundle.prior is not None:
        drawn = sample_codes(bundle.prior, 1, len(codes), 0, Sampling(), natural_ending=False)[0]
        decode_sounds(bundle.codec, [drawn])
        yield "prior", f"{TRIAL_SECONDS} s drawn, {drawn.size} codes of this codec"
