"""Protect model files that the pipeline did not make, since DVC deletes the output path of a stage before it runs."""

import hashlib
from pathlib import Path

from dvc.config import Config

from distill.errors import ArtifactError
from distill.storage.files import rename_to_new
from stages.ops.dvc import CACHE, LOCK
from stages.running import FOLDERS


def keep_other_model(model: Path) -> str:
    """Rename a model file that the pipeline did not make, and its card. Returns a remark, or ""."""
    if not model.exists() or is_of_pipeline(model):
        return ""
    from distill.model_file.build import card_path

    number = 1
    while not rename_to_new(model, kept := model.with_stem(f"{model.stem}-kept-{number}")):
        number += 1
    if card_path(model).exists() and not _is_result(card_path(model)):
        card_path(model).replace(card_path(kept))
    return (
        f"{model}: expected the one that the pipeline made, found another, which is kept as {kept}; take another "
        "bundle.name to have both under their names"
    )


def is_of_pipeline(model: Path) -> bool:
    """Whether a model file is a result in `dvc.lock` or DVC's cache, or was just written by `bundle`."""
    if _is_result(model):
        return True
    from distill.model_file.build import WRITTEN
    from distill.model_file.format import read_contents
    from distill.prior.artifact import PriorArtifact
    from distill.training.checkpoints import load_config

    try:
        metadata, prior = read_contents(model)[0], load_config(FOLDERS.prior, PriorArtifact)
    except ArtifactError:
        return False
    # Commands write a date, `bundle` does not. DVC may have been killed before it recorded the file.
    return (
        WRITTEN not in metadata.metadata
        and metadata.provenance.prior_fingerprint == prior.fingerprint
    )


def _is_result(path: Path) -> bool:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    cache = Path(Config.from_cwd().get("cache", {}).get("dir") or CACHE)
    return (cache / "files" / "md5" / md5[:2] / md5[2:]).is_file() or (
        LOCK.exists() and md5 in LOCK.read_text("utf-8")
    )
