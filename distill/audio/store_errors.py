"""What went wrong with an object store, as an error that the user can act on.

Errors come from several libraries, of which none need be installed: they are known by the names of their classes.
"""

import os
import re

from distill.errors import AudioError

_NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
    *("SSOTokenLoadError", "UnauthorizedSSOTokenError", "SSOError", "NoAuthTokenError", "LoginError"),
}
_NO_PROFILE = {"ProfileNotFound", "ConfigParseError", "ConfigNotFound"}
_NO_ANSWER = {
    *("EndpointConnectionError", "HTTPClientError", "ConnectionError", "TimeoutError", "IncompleteReadError"),
    *("IncompleteRead", "ClientConnectionError", "ClientPayloadError", "ResponseStreamingError", "gaierror"),
    *("ResponseParserError", "SSLError", "FSTimeoutError"),
}
_CHANGED = {"FileExpired"}
_INVALID_ENDPOINT = re.compile("invalid endpoint", re.IGNORECASE)
_SECRET_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def refusal(url: str, error: Exception) -> AudioError:
    """The sentence for an error that listing or fetching at `url` ended with.

    Raises the error itself where it can come from no library of stores: that is a defect.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    found = _one_line(error)
    if names & _CHANGED:
        return replaced(url)
    if names & _NO_CREDENTIALS:
        return AudioError(
            f"{url}: expected credentials for it, found none that can be used ({found}); set {_SECRET_KEYS}, or AWS_PROFILE "
            "to a profile of ~/.aws/credentials"
        )
    if names & _NO_PROFILE:
        return AudioError(
            f"{url}: expected a profile that ~/.aws has, found: {found}; set AWS_PROFILE to one that is there, or unset it"
        )
    if isinstance(error, PermissionError):
        return AudioError(
            f"{url}: expected credentials that may list and read it, found that the store refuses them ({found}); check "
            f"{_SECRET_KEYS} or AWS_PROFILE, and the rights that they have"
        )
    if isinstance(error, FileNotFoundError):
        return AudioError(
            f"{url}: expected a bucket with recordings, found none of that name{_at_endpoint()} ({found}); check the address"
        )
    if _INVALID_ENDPOINT.search(found):
        return AudioError(
            f"AWS_ENDPOINT_URL: expected an address such as https://host:port, found: {found}; correct or unset it"
        )
    if names & _NO_ANSWER:
        return AudioError(
            f"{url}: expected an answer of the store{_at_endpoint()}, found none after several tries ({found}); check the "
            "network and AWS_ENDPOINT_URL, and run again: nothing was changed"
        )
    if not isinstance(error, OSError) and type(error).__module__ == "builtins":
        raise error
    return AudioError(
        f"{url}: expected to list and read what is there, found: {found} ({type(error).__name__}); check the address and the "
        "store, and run again: nothing was changed"
    )


def replaced(url: str) -> AudioError:
    """The sentence for an object that another has taken the place of."""
    return AudioError(
        f"{url}: expected it to stay as it was listed, found that it was replaced meanwhile; run again when nothing writes "
        "there"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _at_endpoint() -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f" at {endpoint}" if endpoint else ""
