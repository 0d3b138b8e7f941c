"""Date that a model file was written, for the commands that note one; the pipeline's files have none."""

import os
from datetime import UTC, datetime

from distill.errors import ParamsError

VARIABLE = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch/


def date_now() -> str:
    """UTC in ISO 8601, such as 2026-01-31T12:00:00Z; that of SOURCE_DATE_EPOCH where it is set. Raises ParamsError."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return _text(datetime.now(UTC))
    try:
        return _text(datetime.fromtimestamp(int(given), UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise ParamsError(
            f"{VARIABLE}: expected a date as whole seconds since 1970, found {given!r}; correct or unset it"
        ) from error


def date_of(seconds: float) -> str:
    """UTC in ISO 8601 of a file's time in seconds since 1970."""
    return _text(datetime.fromtimestamp(seconds, UTC))


def _text(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")
