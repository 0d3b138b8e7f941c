"""Push a model file to a repository of the hub: one commit with a copy of the file and its card.

The copy is without what names recordings or settings of its maker.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from distill.errors import ParamsError
from distill.model_file.card import WRITTEN, card_text
from distill.model_file.format import BundleMetadata, load_bundle, save_bundle
from distill.model_file.library import SUFFIX
from distill.model_file.verify import verify
from distill.sharing.hub import HubError, check_repository, hub_errors, models_of, open_hub, require_token
from distill.text import is_utf8

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo


# What Distill notes in the two free parts of the metadata. Other keys, which a program may have added, are not shared.
NOTES = ("recordings", "tier", "val_bits_per_second", WRITTEN)
TRAINING = ("vqvae", "split", "prior")


@dataclass(frozen=True)
class Pushed:
    """What was sent and where: address of the repository, commit, size in bytes.

    `replaces` says whether the repository had a model before, which stays in its history. Of `recordings` names and
    codes were sent, of those `left_out` the file itself holds them. `labels` can be names of folders.
    """

    url: str
    commit: str
    size: int
    replaces: bool
    recordings: int
    left_out: int
    labels: list[str]


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
        metadata, held = write_shared(model, copy, with_reference)
        card = hub_card(repository, model.name, metadata, license).encode()
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
        return Pushed(
            url=f"{hub.endpoint}/{repository}",
            commit=commit.oid,
            size=copy.stat().st_size,
            replaces=info is not None and bool(models_of(info)),
            recordings=held if with_reference else 0,
            left_out=0 if with_reference else held,
            labels=[] if metadata.prior_config is None else metadata.prior_config.labels,
        )


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


def write_shared(model: Path, copy: Path, with_reference: bool) -> tuple[BundleMetadata, int]:
    """Write the copy of the file `model` that is shared, and verify it. Equal files give equal copies.

    Without a reference it cannot say how new its sounds are, and names no recording. Returns its metadata and of how
    many recordings the file itself holds names and codes. Raises ArtifactError.
    """
    bundle = load_bundle(model)
    metadata, held = bundle.metadata, 0 if bundle.reference is None else len(bundle.reference.codes)
    reference = bundle.reference if with_reference else None
    notes = {key: metadata.metadata[key] for key in NOTES if key in metadata.metadata}
    if reference is not None:
        notes["reference_recordings"] = held
    training = {key: metadata.training_config[key] for key in TRAINING if key in metadata.training_config}
    shared = metadata.model_copy(update={"metadata": notes, "training_config": training})
    written = save_bundle(copy, bundle.codec, bundle.prior, shared, reference)
    verify(copy)
    return written, held


def hub_card(repository: str, name: str, metadata: BundleMetadata, license: str | None) -> str:
    """The text of `README.md` for the model file `name`. Without a `license` it names none."""
    head = {
        **({} if license is None else {"license": license}),
        "library_name": "distill",
        "pipeline_tag": "audio-to-audio",  # the hub has no task for audio without a prompt
        "tags": ["audio", "neural-audio-codec", *(["audio-generation"] if metadata.has_prior else [])],
    }
    return f"""---
{yaml.safe_dump(head, sort_keys=False)}---

{card_text(name, metadata)}
## Get it

```sh
pip install 'distill-audio[hub]'
distill pull {repository}
```
"""
