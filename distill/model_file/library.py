"""The model files of a folder, from their headers alone."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from distill.errors import ArtifactError, ParamsError
from distill.model_file.card import date_of
from distill.model_file.format import REFERENCE_PREFIX, BundleMetadata, read_contents
from distill.novelty.reference import TENSORS
from distill.params import TierName
from distill.text import one_line

SUFFIX = ".distill"
MOST_RECORDINGS = 1 << 31  # a larger number is not believed


@dataclass(frozen=True)
class ListedModel:
    """What is known of a model file without its weights. Unknown figures are None.

    Where `problem`, a sentence, is not empty, the file is no model that can be used, and nothing else is known of it.
    """

    path: str
    name: str  # of the file, without the suffix
    date: str  # that the file was written, UTC in ISO 8601
    megabytes: float
    problem: str = ""
    recordings: int | None = None
    tier: TierName | None = None
    utilization: float | None = None  # mean share of codewords used on held-out recordings
    codec_bits_per_second: float | None = None  # of audio, when every code costs the same
    val_bits_per_second: float | None = None  # of audio, that held-out recordings cost the prior
    labels: tuple[str, ...] = ()
    can_generate: bool = False  # it has a prior
    can_judge: bool = False  # it has the reference that new sounds are compared with
    was_memorizing: bool = False


def list_models(folder: Path) -> list[ListedModel]:
    """The files `*.distill` of a folder, by name. Hashes and weights are not checked. Raises ParamsError."""
    if not folder.is_dir():
        found = "a file; name the folder that holds it" if folder.exists() else "nothing there; check the path"
        raise ParamsError(f"DIR {folder}: expected a folder of models, found {found}")
    try:
        return [_listed(path) for path in sorted(folder.iterdir()) if path.suffix == SUFFIX]
    except PermissionError as error:
        raise ParamsError(f"DIR {folder}: expected a folder that can be read, found: {error.strerror}") from error


def _listed(path: Path) -> ListedModel:
    place: dict[str, Any] = {"path": str(path), "name": one_line(path.stem)}
    try:
        status = path.stat()
        place |= {"date": date_of(status.st_mtime), "megabytes": status.st_size / 1e6}
        metadata, tensors = read_contents(path)
    except (ArtifactError, OSError) as error:
        return ListedModel(**{"date": "", "megabytes": 0.0, **place}, problem=one_line(error, most=1000))
    can_judge = all(REFERENCE_PREFIX + name in tensors for name in TENSORS)
    return ListedModel(**place, **_facts(metadata), can_judge=can_judge)


def _facts(metadata: BundleMetadata) -> dict[str, Any]:
    noted, prior, trained = metadata.metadata, metadata.prior_config, metadata.prior_metadata
    health = [level.utilization for level in metadata.codebook_health_snapshot.values()]
    recordings, tier, bits = (noted.get(key) for key in ("recordings", "tier", "val_bits_per_second"))  # of any type
    memorization = None if trained is None else trained.memorization
    return {
        "recordings": recordings if isinstance(recordings, int) and 0 < recordings <= MOST_RECORDINGS else None,
        "tier": tier if tier in ("small", "medium", "large") else None,
        "utilization": fmean(health) if health else None,
        "codec_bits_per_second": metadata.codec_bits_per_second,
        "val_bits_per_second": bits if isinstance(bits, float) else None,
        "labels": () if prior is None else tuple(one_line(label) for label in prior.labels),
        "can_generate": prior is not None,
        "was_memorizing": memorization is not None and memorization.was_memorizing,
    }
