"""Errors meant for the user: one sentence with where, what was expected, what was found and what to do."""

import errno


class DistillError(Exception):
    """Root of every error that the user can act on. Commands print it on stderr and exit with `exit_code`."""

    exit_code = 2


class ParamsError(DistillError):
    """A value in `params.yaml`, a flag or an environment variable is wrong."""


class AudioError(DistillError):
    """A recording, or a folder of recordings, cannot be used."""


class ArtifactError(DistillError):
    """A file that Distill wrote earlier (corpus, codes, checkpoint, model) is missing, damaged or of another version."""


def environment_error(error: OSError) -> DistillError | None:
    """The sentence for an error of the disk or its permissions that the user can mend; None for any other."""
    remedies = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space",
        errno.EROFS: "choose a place that can be written to",
        errno.EACCES: "give yourself the permission",
        errno.EPERM: "give yourself the permission",
    }
    if error.errno not in remedies:
        return None
    return DistillError(
        f"{error.filename or 'the disk'}: expected to read and write there, found: {error.strerror}; "
        f"{remedies[error.errno]} and run again"
    )


class Interrupted(DistillError):
    """Work stopped on request after everything reached so far was saved. 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
