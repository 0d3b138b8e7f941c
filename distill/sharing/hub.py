"""The door to the Hugging Face hub: its client without telemetry, and its errors as sentences.

Address and credentials are the client's own: HF_ENDPOINT, HF_TOKEN, `hf auth login`, HF_HOME.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distill.errors import DistillError, ParamsError, for_the_user
from distill.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

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


def open_hub(repository: str) -> "HfApi":
    """The hub's client. Raises ParamsError where it is not installed, or `repository` is not OWNER/NAME."""
    # Read when the client is imported. What it would warn of is said in the one sentence of an error.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("huggingface_hub"):
            raise
        raise ParamsError(
            f"the Hugging Face hub: expected its client, found no {error.name}; install it with "
            "`pip install 'distill-audio[hub]'` or `make setup`"
        ) from error
    try:
        validate_repo_id(repository if "/" in repository else "")
    except HFValidationError as error:
        raise ParamsError(
            f"REPO_ID: expected OWNER/NAME of letters, digits, dots, dashes and underscores, found {repository!r}; "
            "correct it"
        ) from error
    return HfApi()


@contextmanager
def hub_errors(hub: "HfApi", repository: str) -> Iterator[None]:
    """Turn what the client raises into one sentence. Raises HubError."""
    try:
        yield
    except Exception as error:
        if known := for_the_user(error):
            raise known from error
        raise HubError(f"{hub.endpoint}/{repository}: {_sentence(error, hub.endpoint)}") from error


def _sentence(error: BaseException, endpoint: str) -> str:
    from huggingface_hub import errors

    one: BaseException | None = error
    while one is not None:  # an error and what caused it
        for name, sentence in SENTENCES.items():
            if isinstance(one, getattr(errors, name)):
                return sentence
        if isinstance(one, errors.HfHubHTTPError):
            status, said = one.response.status_code, one_line(one.server_message or "", 200)
            other = f"expected an answer of the hub, found HTTP status {status}{f' ({said})' if said else ''}; {RETRY}"
            return STATUS.get(status, other)
        if type(one).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return f"expected to reach {endpoint}, found: {one_line(one) or type(one).__name__}; {RETRY}"
        error, one = one, one.__cause__
    return f"expected an answer of the hub, found: {one_line(error) or type(error).__name__}; {RETRY}"
