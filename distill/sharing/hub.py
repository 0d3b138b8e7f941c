"""The door to the Hugging Face hub: its client without telemetry, and its errors as sentences.

Address and credentials are the client's own: HF_ENDPOINT, HF_TOKEN, `hf auth login`, HF_HOME.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distill.errors import DistillError, ParamsError, for_the_user
from distill.model_file.library import SUFFIX
from distill.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
RETRY = "check the network and HF_ENDPOINT, and run the same command again"
SENTENCES = {  # of the client's errors, the more special ones first
    "GatedRepoError": "expected access, found that its owner gives it on request; ask for it on its page, then log in",
    "RevisionNotFoundError": "expected the revision that --revision names, found none; name a branch, a tag or a commit",
    "RepositoryNotFoundError": "expected a model repository, found none that you may read; check its name, or "
    f"{LOG_IN} if it is private",
    "RemoteEntryNotFoundError": "expected the model file that was listed, found that it has gone; run the same command again",
    "OfflineModeIsEnabled": "expected a connection, found that HF_HUB_OFFLINE forbids it; unset it",
}
STATUS = {
    401: f"expected a token that the hub accepts, found that it refuses this one; {LOG_IN}",
    403: f"expected a token with the right to do this, found one without it; {LOG_IN}, with a token that may write",
    404: "expected a model repository of the hub, found nothing there; check its name and HF_ENDPOINT",
    413: "expected a file that the hub takes, found one that is too large for it; share it in another way",
    429: "expected an answer, found that the hub takes no more requests now; run the same command again later",
}


class HubError(DistillError):
    """Repository, token or connection that cannot be used, or an answer that is not the hub's."""


def check_repository(repository: str) -> None:
    """Refuse what is not OWNER/NAME as the hub has it. Raises ParamsError."""
    wrong = "--" in repository or ".." in repository or repository.endswith(".git")
    if wrong or not _REPOSITORY.fullmatch(repository):
        raise ParamsError(
            f"REPO_ID: expected OWNER/NAME of letters, digits, dots, dashes and underscores, found {repository!r}; "
            "correct it"
        )


def open_hub() -> "HfApi":
    """The hub's client. Raises ParamsError where it is not installed."""
    # Read when the client is imported. What it would warn of is said in the one sentence of an error.
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
    return HfApi()


def require_token(hub: "HfApi", repository: str) -> None:
    """Refuse to go on without credentials. Raises HubError."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(f"{hub.endpoint}/{repository}: expected a token to write with, found none; {LOG_IN}")


def models_of(info: "ModelInfo") -> "dict[str, RepoSibling]":
    """The model files in a repository by their paths."""
    files = {one.rfilename: one for one in info.siblings or [] if one.rfilename.endswith(SUFFIX)}
    return dict(sorted(files.items()))


@contextmanager
def hub_errors(hub: "HfApi", repository: str) -> Iterator[None]:
    """Turn what the client raises into one sentence. Raises HubError."""
    try:
        yield
    except Exception as error:
        known = for_the_user(error)
        if known is not None:
            raise known from error
        raise HubError(f"{hub.endpoint}/{repository}: {_sentence(error, hub.endpoint)}") from error


def _sentence(error: BaseException, endpoint: str) -> str:
    from huggingface_hub import errors

    causes = list(_causes(error))
    for one in causes:
        for name, sentence in SENTENCES.items():
            if isinstance(one, getattr(errors, name)):
                return sentence
        if isinstance(one, errors.HfHubHTTPError):
            return _of_status(one)
        if type(one).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return f"expected to reach {endpoint}, found: {one_line(one) or type(one).__name__}; {RETRY}"
    if any("Consistency check failed" in str(one) for one in causes):
        return f"expected the whole file, found that the download broke off; {RETRY}"
    return f"expected an answer of the hub, found: {one_line(causes[-1]) or type(causes[-1]).__name__}; {RETRY}"


def _of_status(error: "HfHubHTTPError") -> str:
    status = error.response.status_code
    if status in STATUS:
        return STATUS[status]
    said = one_line(error.server_message or "", 200)
    return f"expected an answer of the hub, found HTTP status {status}{f' ({said})' if said else ''}; {RETRY}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__
