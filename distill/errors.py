"""Errors for the user: one sentence says where, what was expected, what was found and what to do."""

import errno
import re


class DistillError(Exception):
    """Base class of errors that users can fix. Commands print them on stderr and exit with `exit_code`."""

    exit_code = 2


class ParamsError(DistillError):
    """Wrong value of a setting in `params.yaml`, an argument, a flag or an environment variable."""


class AudioError(DistillError):
    """Unusable recording or folder of recordings."""


class AudioWarning(UserWarning):
    """Remark on a recording or MIDI file that can still be used."""


class ArtifactError(DistillError):
    """Missing, damaged or incompatible file of Distill (corpus, codes, checkpoint, model)."""


_REMEDIES = {
    errno.EFBIG: "raise the limit of file sizes",
    errno.EIO: "check the disk",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files"),
    **dict.fromkeys(
        (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR), "choose another name"
    ),
    **dict.fromkeys(
        (errno.ENOTCONN, errno.ESTALE, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO),
        "connect the disk or the network folder again",
    ),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM), "choose another place, or change its permissions"
    ),
}
_SENTENCES = {  # by a pattern that the text of an error matches
    r"can't allocate memory|cannot allocate memory|failed to map segment|out of memory": (
        "memory: expected enough for this work, found no more; close other programs, or use shorter sounds, a smaller "
        "batch_size or a smaller tier, and run again"
    ),
    r"can't start new thread|resource temporarily unavailable": (
        "processes: expected to start one more process or thread, found that the system starts no more; close other "
        "programs, or raise the limits of processes and of memory, and run again"
    ),
    r"gloo/transport/.*(closed|reset) by peer|ncclRemoteError": (
        "processes: expected all processes of this training to go on, found that another one ended; look for its "
        "reason, and run again to continue"
    ),
}


def for_the_user(error: Exception) -> DistillError | None:
    """Turn an error that users can fix into a DistillError; None for a defect.

    Besides DistillError, users can fix a full, broken or lost disk, missing permissions, impossible paths, system
    limits, too little memory, and the end of another process of the same training.
    """
    if isinstance(error, DistillError):
        return error
    text = "out of memory" if isinstance(error, MemoryError) else str(error)
    for pattern, sentence in _SENTENCES.items():
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return DistillError(sentence)
    if not isinstance(error, OSError) or error.errno not in _REMEDIES:
        return None
    return DistillError(
        f"{error.filename or 'the disk'}: expected to read and write there, found: {error.strerror}; "
        f"{_REMEDIES[error.errno]} and run again"
    )


class Interrupted(DistillError):
    """Interruption by a signal, after saving. `exit_code` is 130 for Ctrl-C, 143 for SIGTERM and 129 for SIGHUP."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
