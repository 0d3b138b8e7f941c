"""Source files of each stage: one table for `dvc.yaml`, for resuming and for a model's provenance."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from distill.storage.files import sha256_files

PACKAGE = Path(__file__).parent

SIDE_INFO = (
    "audio/image.py",
    "audio/measure.py",
    "audio/noise_floor.py",
    "audio/pcm.py",
    "audio/side_info.py",
)
# Folders and modules of the package that can change the output of a stage; those for progress and logs cannot.
CODE = {
    "ingest": ("audio", "params", "storage"),
    "resolve": ("audio", "params", "storage"),
    "train_vqvae": ("audio", "codec", "params", "seeds.py", "split.py", "storage", "training"),
    "encode_codes": (
        "audio",
        "codec",
        "codes",
        "params",
        "seeds.py",
        "split.py",
        "storage",
        "training",
    ),
    "split": (*SIDE_INFO, "codec/layout.py", "codes", "params", "split.py", "storage"),
    "train_prior": (
        *SIDE_INFO,
        *("codec/layout.py", "codes"),
        *("novelty/memorization.py", "novelty/reference.py", "novelty/search.py"),
        *("params", "prior", "seeds.py", "split.py", "storage", "training"),
    ),
    "bundle": (
        *(
            "audio",
            "code_version.py",
            "codec",
            "codes",
            "generate",
            "model_file",
            "notes.py",
            "novelty",
            "params",
        ),
        *("prior", "seeds.py", "split.py", "storage", "training"),
    ),
    "audition": (
        *(
            "audio",
            "codec",
            "codes",
            "generate",
            "model_file",
            "notes.py",
            "novelty",
            "params",
            "prior",
        ),
        *("seeds.py", "split.py", "storage"),
    ),
}


def code_files(stage: str) -> Iterator[Path]:
    """Files of a stage's code: modules, and the weights, pages and settings next to them."""
    for name in CODE[stage]:
        place = PACKAGE / name
        for path in (place,) if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and path.suffix in (".py", ".safetensors", ".html", ".yaml"):
                yield path


@cache
def code_sha256(*stages: str) -> str:
    """Hex SHA-256 of the code of all given stages."""
    return sha256_files({path for stage in stages for path in code_files(stage)}, PACKAGE)
