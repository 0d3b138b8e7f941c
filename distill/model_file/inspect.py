"""Reports on model files: their facts, the models of a folder, and the checks of `distill verify`."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from distill.codec.streaming import encode
from distill.errors import ArtifactError, ParamsError
from distill.generate.decoding import decode_sounds
from distill.generate.sampling.sampler import Sequences, generators, sample_codes
from distill.model_file.build import Facts, date_of, facts, origins
from distill.model_file.format import (
    REFERENCE_PREFIX,
    SUFFIX,
    VERSION,
    Bundle,
    BundleMetadata,
    load_bundle,
    read_contents,
    size_of,
)
from distill.novelty.reference import TENSORS
from distill.params import TierName
from distill.text import named_values, one_line


def describe(path: Path, metadata: BundleMetadata, width: int) -> list[str]:
    """Lines with the facts and sources of a model file. Paths and hashes stay in one piece, also where they are wider."""
    head = [
        one_line(path, limit=5000),
        f"{size_of(path) / 1e6:.1f} MB, format {VERSION}, weights intact",
        "",
    ]
    return [
        *head,
        *named_values(facts(metadata), width),
        "",
        *named_values(origins(metadata), width),
    ]


@dataclass(frozen=True)
class ListedModel:
    """Facts on a model file, read without its weights. Unknown figures are None.

    Where `problem`, a sentence, is not empty, the file is no model that can be used, and nothing else is known of it.
    """

    path: str
    name: str  # of the file, without the suffix
    date: str = ""  # that the file was written, UTC in ISO 8601
    problem: str = ""
    recordings: int | None = None
    tier: TierName | None = None
    # Mean share of the codewords of shape levels used on held-out recordings
    utilization: float | None = None
    val_bits_per_second: float | None = None  # of audio, that held-out recordings cost the prior
    labels: tuple[str, ...] = ()
    can_generate: bool = False  # it has a prior
    can_judge: bool = False  # it has the reference that new sounds are compared with
    was_memorizing: bool = False


def list_models(folder: Path) -> list[ListedModel]:
    """The files `*.distill` of a folder, by name. Hashes and weights are not checked. Raises ParamsError."""
    if not folder.exists():
        raise ParamsError(
            f"DIR {folder}: expected a folder of models, found nothing there; check the path"
        )
    if not folder.is_dir():
        raise ParamsError(
            f"DIR {folder}: expected a folder of models, found a file; name the folder that holds it"
        )
    return [_listed(path) for path in sorted(folder.iterdir()) if path.suffix == SUFFIX]


def _listed(path: Path) -> ListedModel:
    listed: dict[str, Any] = {"path": str(path), "name": one_line(path.stem)}
    try:
        listed["date"] = date_of(path.stat().st_mtime)
        metadata, tensors = read_contents(path)
    except (ArtifactError, OSError) as error:
        return ListedModel(**listed, problem=one_line(error, limit=1000))
    notes, trained = metadata.metadata, metadata.prior_metadata  # notes are of any type
    recordings, tier, bits = (
        notes.get(key) for key in ("recordings", "tier", "val_bits_per_second")
    )
    health = [
        metadata.codebook_health_snapshot.get(f"level_{level}")
        for level in metadata.vqvae_config.layout.spectral_levels
    ]
    used = [level.utilization for level in health if level]
    return ListedModel(
        **listed,
        recordings=recordings
        if isinstance(recordings, int) and 0 < recordings <= 1 << 31
        else None,
        tier=tier if tier in ("small", "medium", "large") else None,
        utilization=fmean(used) if used else None,
        val_bits_per_second=bits if isinstance(bits, float) else None,
        labels=tuple(map(one_line, metadata.labels)),
        can_generate=metadata.has_prior,
        can_judge=all(REFERENCE_PREFIX + name in tensors for name in TENSORS),
        was_memorizing=bool(trained and trained.memorization.was_memorizing),
    )


def verify(path: Path) -> Facts:
    """Check form, metadata, weights and hash of a model file, and try its networks on half a second.

    Returns rows (check, finding). Raises ArtifactError at the first fault.
    """
    bundle = load_bundle(path)
    weights = sum(
        value.numel()
        for network in bundle.networks.values()
        for value in network.state_dict().values()
    )
    checks = [
        ("form", f"safetensors without gaps or overlaps, {size_of(path)} bytes, no pickle"),
        ("metadata", f"format {VERSION}, every value in its range"),
        (
            "weights",
            f"{weights} numbers, all finite, of the names, types and shapes that the metadata describes",
        ),
        ("hash", f"SHA-256 {bundle.metadata.payload_sha256} as written"),
    ]
    if reference := bundle.reference:
        held_out = f"{len(reference.held_out)} held out"
        checks.append(
            (
                "reference",
                f"codes of {len(reference.codes)} recordings to compare new sounds with, {held_out}",
            )
        )
    try:
        return [*checks, *_trial(bundle)]
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _trial(bundle: Bundle, seconds: float = 0.5, pitch: float = 220.0) -> Facts:
    """Code and decode a tone, and draw a sound as long. Raises ArtifactError."""
    codec, rate = bundle.codec, bundle.codec.spectrogram.sample_rate
    time = torch.arange(round(seconds * rate)) / rate
    codes = encode(codec, 0.5 * torch.sin(2 * math.pi * pitch * time)[None])[0]
    decode_sounds(codec, [codes.numpy()])
    checks = [("codec", f"{seconds} s of a tone to {codes.numel()} codes and back")]
    if bundle.prior:
        sequences = Sequences(1, len(codes), natural_ending=False)
        (drawn,) = sample_codes(bundle.prior, sequences, generators([0]))
        decode_sounds(codec, [drawn])
        checks.append(("prior", f"{seconds} s drawn, {drawn.size} codes of this codec"))
    return checks
