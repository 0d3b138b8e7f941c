"""Pull a model file from a repository of the hub: verified before it is put in its place."""

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from distill.errors import ArtifactError, ParamsError
from distill.model_file.card import Facts
from distill.model_file.library import SUFFIX
from distill.model_file.verify import verify
from distill.sharing.hub import HubError, check_repository, hub_errors, models_of, open_hub
from distill.storage.files import atomic_path, sha256_file
from distill.storage.made import check_replaceable
from distill.text import is_utf8, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WINDOWS = '\\:*?"<>|'  # characters that are no part of a name there


@dataclass(frozen=True)
class Pulled:
    """The model file that was put in place, the commit it is from, and what was verified."""

    model: Path
    commit: str
    checks: Facts


def pull(repository: str, folder: Path, revision: str | None = None, replace: bool = False) -> Pulled:
    """Put the model file of the repository `OWNER/NAME` into `folder`; `revision` is a branch, a tag or a commit.

    A download that broke off goes on where it was. An equal file that is there stays; another one only goes with
    `replace`. Raises HubError, ArtifactError for a file that is no sound model, and ParamsError.
    """
    check_repository(repository)
    hub = open_hub()
    with hub_errors(hub, repository):
        info = hub.model_info(repository, revision=revision, files_metadata=True)
    place, models = f"{hub.endpoint}/{repository}", models_of(info)
    listed = _the_model(place, list(models))
    model = folder / PurePosixPath(listed).name
    commit = info.sha or revision or "main"
    stored = models[listed].lfs
    downloaded = _download(hub, repository, listed, commit, None if stored is None else stored.sha256)
    if model.exists() or model.is_symlink():
        if model.is_file() and sha256_file(model) == sha256_file(downloaded):
            return Pulled(model, commit, verify(model))
        check_replaceable("--out", [model], replace=True)
        if not replace:
            raise ParamsError(
                f"{model}: expected no file, or the one of {repository}, found another; use --replace to replace it, or "
                "another --out"
            )
    with atomic_path(model) as temporary:
        shutil.copyfile(downloaded, temporary)
        try:
            checks = verify(temporary)
        except ArtifactError as error:
            sentence = str(error).replace(str(temporary), f"{place}: {one_line(listed)}")
            raise ArtifactError(f"{sentence}; if that does not help, tell its owner") from error
    return Pulled(model, commit, checks)


def _download(hub: "HfApi", repository: str, path: str, commit: str, sha256: str | None) -> Path:
    """Download a file into the client's cache. One that is damaged there is downloaded again."""
    for again in (False, True):
        with hub_errors(hub, repository):
            found = Path(hub.hf_hub_download(repository, path, revision=commit, force_download=again))
        if sha256 is None or sha256_file(found) == sha256:
            return found
    raise HubError(
        f"{hub.endpoint}/{repository}: expected {one_line(path)} with SHA-256 {one_line(sha256, 12)}, as listed, found "
        "other bytes twice; try again later, or tell its owner"
    )


def _the_model(place: str, listed: list[str]) -> str:
    """The only model file of a repository. Refuse none, several, and a name that would leave the folder."""
    if not listed:
        raise HubError(f"{place}: expected a {SUFFIX} file, found none; check the name of the repository")
    if len(listed) > 1:
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        names = ", ".join(one_line(one, 100) for one in listed[:5])
        raise HubError(
            f"{place}: expected one {SUFFIX} file, found {names}{more}; download the one that you want yourself"
        )
    path = PurePosixPath(listed[0])
    is_plain = path.name.isprintable() and is_utf8(path.name) and not set(path.name) & set(WINDOWS)
    if path.is_absolute() or ".." in path.parts or path.name.startswith(".") or not is_plain:
        raise HubError(
            f"{place}: expected a {SUFFIX} file with a plain name, found {one_line(repr(listed[0]), 100)}; tell its owner"
        )
    return listed[0]
