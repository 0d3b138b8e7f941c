"""Share model files: push to and pull from repositories of the Hugging Face hub.

A push sends a copy, without names of recordings and without the maker's own settings, in one commit with its card.
A pull verifies the file before it writes it. Address and credentials come from the hub's own client: HF_ENDPOINT,
HF_TOKEN, `hf auth login`, HF_HOME.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from distill.errors import ArtifactError, DistillError, ParamsError, for_the_user
from distill.model_file.build import WRITTEN, Facts, card_text
from distill.model_file.format import SUFFIX, BundleMetadata, load_bundle, save_bundle
from distill.model_file.inspect import verify
from distill.storage.files import atomic_path, check_replaceable, made_by_distill, sha256_file
from distill.text import is_utf8, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
CARD = "README.md"
SENTENCES = {  # by error class of the client, subclasses first, and by HTTP status
    "GatedRepoError": "expected access, found that its owner gives it on request; ask for it on its page, then log in",
    "RevisionNotFoundError": "expected the revision that --revision names, found none; name a branch, a tag or a commit",
    "RepositoryNotFoundError": "expected a model repository, found none that you may read; check its name, or "
    f"{LOG_IN} if it is private",
    "401": f"expected a token that the hub accepts, found that it refuses this one; {LOG_IN}",
    "403": f"expected a token with the right to do this, found one without it; {LOG_IN}, with a token that may write",
}


class HubError(DistillError):
    """Unusable repository, token or connection, or an answer that is not the hub's."""


@dataclass(frozen=True)
class Pushed:
    """Result of a push: repository address, commit, size, and number of recordings whose names and codes were sent.

    `replaces`: the repository had a model before, which stays in its history. `labels` can be folder names.
    `has_card` is False if the repository keeps a `README.md` that Distill did not write.
    """

    url: str
    commit: str
    bytes: int
    replaces: bool
    reference_recordings: int
    labels: list[str]
    has_card: bool


def push(
    model: Path,
    repository: str,
    private: bool = False,
    with_reference: bool = False,
    message: str | None = None,
    license: str | None = None,
) -> Pushed:
    """Push a copy of the file `model` to the repository `OWNER/NAME`, created if missing.

    The commit is the last request; until then the repository is unchanged. Raises ArtifactError for the file,
    ParamsError for the arguments, and HubError.
    """
    hub = open_hub(repository)
    from huggingface_hub import CommitOperationAdd

    _check_push(hub, repository, model, license)
    with tempfile.TemporaryDirectory(prefix="distill-push-") as folder:
        copy = Path(folder) / model.name
        metadata = write_shared(model, copy, with_reference)
        card = hub_card(repository, model.name, metadata, license).encode()
        with hub_errors(hub, repository):
            models, takes_card = _contents(hub, repository, private)
            if others := [name for name in models if name != model.name]:
                raise HubError(
                    f"{hub.endpoint}/{repository}: expected a repository for {model.name}, found {', '.join(others[:3])} in "
                    "it; push under that name, or choose another repository"
                )
            additions = [CommitOperationAdd(model.name, copy)] + [
                CommitOperationAdd(CARD, card)
            ] * takes_card
            commit = hub.create_commit(
                repository, additions, commit_message=message or f"Share {model.name}"
            )
        return Pushed(
            url=f"{hub.endpoint}/{repository}",
            commit=commit.oid,
            bytes=copy.stat().st_size,
            replaces=bool(models),
            reference_recordings=metadata.metadata.get("reference_recordings", 0),
            labels=metadata.labels,
            has_card=takes_card,
        )


def _check_push(hub: "HfApi", repository: str, model: Path, license: str | None) -> None:
    """Check the arguments and the token before a push. Raises ParamsError, and HubError without a token."""
    from huggingface_hub import get_token

    if model.suffix != SUFFIX or not _is_plain(model.name):
        raise ParamsError(
            f"{model}: expected a name that ends in {SUFFIX}, in plain characters; rename the file"
        )
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,49}", license):
        raise ParamsError(
            f"--license: expected an identifier of the hub, such as mit, cc-by-4.0 or other, found {license!r}; correct it"
        )
    if get_token() is None:
        raise HubError(
            f"{hub.endpoint}/{repository}: expected a token to write with, found none; {LOG_IN}"
        )


def _contents(hub: "HfApi", repository: str, private: bool) -> tuple[list[str], bool]:
    """Model files of a repository, created if missing, and whether its README.md may be replaced.

    Raises HubError for a public repository if `private`.
    """
    if not hub.repo_exists(repository):  # or this token may not read it
        hub.create_repo(repository, private=private, exist_ok=True)
        return [], True
    info = hub.model_info(repository)
    if private and info.private is not True:
        raise HubError(
            f"{hub.endpoint}/{repository}: expected a private repository or a new one, found one that everybody can read; "
            "make it private in its settings, or choose another name"
        )
    has_card = CARD in [file.rfilename for file in info.siblings or []]
    takes_card = not has_card or made_by_distill(
        Path(hub.hf_hub_download(repository, CARD, revision=info.sha))
    )
    return _models_of(info), takes_card


def _is_plain(name: str) -> bool:
    """Whether a file can have this name on every system."""
    return (
        name.isprintable()
        and is_utf8(name)
        and not name.startswith(".")
        and not set(name) & set('\\:*?"<>|')
    )


def _models_of(info: "ModelInfo") -> list[str]:
    return sorted(file.rfilename for file in info.siblings or [] if file.rfilename.endswith(SUFFIX))


def write_shared(model: Path, copy: Path, with_reference: bool) -> BundleMetadata:
    """Write and verify the copy of the file `model` to share. Equal files give equal copies.

    Without the reference (training codes), the copy names no recording and cannot score novelty. Raises ArtifactError.
    """
    bundle = load_bundle(model)
    metadata, reference = bundle.metadata, bundle.reference if with_reference else None
    # Share only keys that Distill writes, not keys that another program added.
    notes = _of(metadata.metadata, "recordings", "tier", "val_bits_per_second", WRITTEN)
    if reference is not None:
        notes["reference_recordings"] = len(reference.codes)
    training = _of(metadata.training_config, "vqvae", "split", "prior")
    shared = metadata.model_copy(update={"metadata": notes, "training_config": training})
    written = save_bundle(copy, bundle.codec, bundle.prior, shared, reference)
    verify(copy)
    return written


def _of(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in keys}


def hub_card(repository: str, name: str, metadata: BundleMetadata, license: str | None) -> str:
    """Text of `README.md` for the model file `name`; it only names a license if `license` is given."""
    tags = ["audio", "neural-audio-codec"] + ["audio-generation"] * metadata.has_prior
    # The hub has no task for unconditional audio generation.
    head: dict[str, Any] = {"license": license} if license else {}
    head |= {"library_name": "distill", "pipeline_tag": "audio-to-audio", "tags": tags}
    get = f"## Get it\n\n```sh\npip install 'distill-audio[hub]'\ndistill pull {repository}\n```\n"
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{card_text(name, metadata)}\n{get}"


def pull(
    repository: str, folder: Path, revision: str | None = None, replace: bool = False
) -> tuple[Path, str, Facts]:
    """Download the model file of the repository `OWNER/NAME` to `folder`; `revision` is a branch, a tag or a commit.

    An interrupted download continues; a damaged file is downloaded once more. An equal file in `folder` stays, another
    file is only replaced if `replace`. Returns the path, the commit and the verified facts.
    Raises HubError, ParamsError, and ArtifactError for a damaged model file.
    """
    hub = open_hub(repository)
    place = f"{hub.endpoint}/{repository}"
    with hub_errors(hub, repository):
        info = hub.model_info(repository, revision=revision)
    listed, commit = _the_model(place, _models_of(info)), info.sha or revision or "main"
    model = folder / PurePosixPath(listed).name
    for again in (False, True):
        with hub_errors(hub, repository):
            downloaded = Path(
                hub.hf_hub_download(repository, listed, revision=commit, force_download=again)
            )
        try:
            return model, commit, _put(downloaded, model, repository, replace)
        except ArtifactError as error:
            text = str(error).replace(str(downloaded), f"{place}: {one_line(listed)}")
            refused = ArtifactError(f"{text}; if that does not help, tell its owner")
    raise refused


def _put(downloaded: Path, model: Path, repository: str, replace: bool) -> Facts:
    """Copy a download to `model`, unless an equal file is there, and return its verified facts."""
    if model.is_file() and sha256_file(model) == sha256_file(downloaded):
        return verify(model)
    check_replaceable("--out", [model], replace=True)
    if (model.exists() or model.is_symlink()) and not replace:
        raise ParamsError(
            f"{model}: expected no file, or the one of {repository}, found another; use --replace to replace it, or "
            "another --out"
        )
    verified = verify(downloaded)
    with atomic_path(model) as temporary:
        shutil.copyfile(downloaded, temporary)
    return verified


def _the_model(place: str, listed: list[str]) -> str:
    """The only model file of a repository. Raises HubError for none, for several, and for an unsafe path."""
    if len(listed) != 1:
        names = ", ".join(one_line(name, 100) for name in listed[:5]) or "none"
        more = " and more" * (len(listed) > 5)
        raise HubError(
            f"{place}: expected one {SUFFIX} file, found {names}{more}; check the name of the repository, or download the "
            "one that you want yourself"
        )
    path = PurePosixPath(listed[0])
    if path.is_absolute() or ".." in path.parts or not _is_plain(path.name):
        raise HubError(
            f"{place}: expected a {SUFFIX} file with a plain name, found {one_line(repr(listed[0]), 100)}; tell its owner"
        )
    return listed[0]


def open_hub(repository: str) -> "HfApi":
    """Client of the hub. Raises ParamsError if it is not installed, or if `repository` is not OWNER/NAME."""
    # The client reads these at import. We report its warnings ourselves, in the error message.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("huggingface_hub"):
            raise
        raise ParamsError(
            f"the Hugging Face hub: expected its client, found no {error.name}; install it with "
            "`pip install 'distill-audio[hub]'` or `make setup`"
        ) from error
    part = r"\w(?!.*(--|\.\.|\.git$))[\w.-]*"
    if not re.fullmatch(f"{part}/{part}", repository, re.ASCII):
        raise ParamsError(
            f"REPO_ID: expected OWNER/NAME of letters, digits, dots, dashes and underscores, found {repository!r}; "
            "correct it"
        )
    return HfApi()


@contextmanager
def hub_errors(hub: "HfApi", repository: str) -> Iterator[None]:
    """Turn exceptions of the client into one sentence. Raises HubError, or DistillError for system errors."""
    try:
        yield
    except Exception as error:
        if known := for_the_user(error):
            raise known from error
        raise HubError(f"{hub.endpoint}/{repository}: {_sentence(error, hub.endpoint)}") from error


def _sentence(error: BaseException, endpoint: str) -> str:
    """Message for the first known exception in the chain of causes: expected, found, and what to do."""
    from huggingface_hub import errors

    retry = "check the network and HF_ENDPOINT, and run the same command again"
    chain = [error]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    for cause in chain:
        status = str(cause.response.status_code) if isinstance(cause, errors.HfHubHTTPError) else ""
        for name, sentence in SENTENCES.items():
            if name == status or (not name.isdigit() and isinstance(cause, getattr(errors, name))):
                return sentence
        if isinstance(cause, errors.HfHubHTTPError):
            answer = one_line(cause.server_message or "nothing more", 200)
            return f"expected an answer of the hub, found HTTP status {status} ({answer}); {retry}"
        if type(cause).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return f"expected to reach {endpoint}, found: {one_line(cause) or type(cause).__name__}; {retry}"
    return f"expected an answer of the hub, found: {one_line(chain[-1]) or type(chain[-1]).__name__}; {retry}"
