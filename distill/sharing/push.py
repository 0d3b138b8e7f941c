"""Push a model file to a repository of the hub: one commit with the file and its card."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import ParamsError
from distill.model_file.library import SUFFIX
from distill.sharing.hub import HubError, check_repository, hub_errors, models_of, open_hub, require_token
from distill.sharing.hub_card import hub_card
from distill.sharing.shared_model import SharedModel, write_shared
from distill.text import is_utf8

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo


@dataclass(frozen=True)
class Pushed:
    """What was sent and where: address of the repository, commit, size in bytes.

    `replaces` says whether the repository had a model before, which stays in its history.
    """

    url: str
    commit: str
    size: int
    replaces: bool
    shared: SharedModel


def push(
    model: Path,
    repository: str,
    private: bool = False,
    with_reference: bool = False,
    message: str | None = None,
    license: str | None = None,
) -> Pushed:
    """Push a copy of the file `model` to the repository `OWNER/NAME`, which is made where there is none.

    Until the commit, which is the last request, the repository is as before. Raises ArtifactError for the file,
    ParamsError for the arguments, and HubError.
    """
    check_repository(repository)
    _check_name(model)
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,49}", license):
        raise ParamsError(
            f"--license: expected an identifier of the hub, such as mit, cc-by-4.0 or other, found {license!r}; correct it"
        )
    hub = open_hub()
    require_token(hub, repository)
    with tempfile.TemporaryDirectory(prefix="distill-push-") as folder:
        copy = Path(folder) / model.name
        shared = write_shared(model, copy, with_reference)
        card = hub_card(repository, model.name, shared.metadata, license).encode()
        with hub_errors(hub, repository):
            info = _info(hub, repository)
        if info is not None:
            _check_existing(hub, repository, info, model.name, private)
        with hub_errors(hub, repository):
            from huggingface_hub import CommitOperationAdd

            if info is None:
                hub.create_repo(repository, private=private, exist_ok=True)
            additions = [CommitOperationAdd(model.name, copy), CommitOperationAdd("README.md", card)]
            commit = hub.create_commit(repository, additions, commit_message=message or f"Share {model.name}")
        replaces = info is not None and bool(models_of(info))
        return Pushed(f"{hub.endpoint}/{repository}", commit.oid, copy.stat().st_size, replaces, shared)


def _check_name(model: Path) -> None:
    if model.suffix != SUFFIX or not is_utf8(model.name) or not model.name.isprintable() or "\\" in model.name:
        raise ParamsError(f"{model}: expected a name that ends in {SUFFIX}, in plain characters; rename the file")


def _info(hub: "HfApi", repository: str) -> "ModelInfo | None":
    """What the hub knows of a repository; None where there is none, or none that one may read."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return hub.model_info(repository)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def _check_existing(hub: "HfApi", repository: str, info: "ModelInfo", name: str, private: bool) -> None:
    """Refuse a repository that others can read where --private is asked for, and one that holds another model."""
    place = f"{hub.endpoint}/{repository}"
    if private and info.private is not True:
        raise HubError(
            f"{place}: expected a private repository or a new one, found one that everybody can read; make it private "
            "in its settings, or choose another name"
        )
    others = [one for one in models_of(info) if one != name]
    if others:
        raise HubError(
            f"{place}: expected a repository for {name}, found {', '.join(others[:3])} in it; push under that name, or "
            "choose another repository"
        )
