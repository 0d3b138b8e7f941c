"""What "the code" of a stage is: one table for `dvc.yaml`, for resuming and for a model's provenance."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from distill.storage.files import sha256_files

PACKAGE = Path(__file__).parent

SIDE_INFO = ("audio/image.py", "audio/measure.py", "audio/noise_floor.py", "audio/pcm.py", "audio/side_info.py")
# Folders and modules of the package that can change what a stage writes. What shows, records or interrupts work cannot.
CODE = {
    "ingest": ("audio", "params", "storage"),
    "resolve": ("audio", "params", "storage"),
    "train_vqvae": ("audio", "codec", "params", "seeds.py", "split.py", "storage", "training"),
    "encode_codes": ("audio", "codec", "codes", "params", "seeds.py", "split.py", "storage", "training"),
    "split": (*SIDE_INFO, "codec/layout.py", "codes", "params", "split.py", "storage"),
    "train_prior": (
        *SIDE_INFO,
        *("codec/layout.py", "codes"),
        *("novelty/memorization.py", "novelty/reference.py", "novelty/search.py"),
        *("params", "prior", "seeds.py", "split.py", "storage", "training"),
    ),
    "bundle": (
        *("audio", "code_version.py", "codec", "codes", "generate/faults.py", "model_file"),
        *("novelty/memorization.py", "novelty/reference.py", "novelty/scores.py", "novelty/search.py"),
        *("novelty/spectra.py", "params", "prior", "seeds.py", "split.py", "storage", "training"),
    ),
    "audition": (
        *("audio", "codec", "codes", "generate", "model_file", "notes.py", "novelty", "params", "prior"),
        *("seeds.py", "split.py", "storage"),
    ),
}


def code_files(stage: str) -> Iterator[Path]:
    """The files of a stage's code: modules, and the weights and pages that lie beside them."""
    for name in CODE[stage]:
        place = PACKAGE / name
        for path in (place,) if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and path.suffix in (".py", ".safetensors", ".html", ".yaml"):
                yield path


@cache
def code_sha256(*stages: str) -> str:
    """Hex SHA-256 of the code of some stages together."""
    return sha256_files({path for stage in stages for path in code_files(stage)}, PACKAGE)
