"""What forms share: sentences for the user, flags for commands."""

import errno

import pytest

from distill.errors import ParamsError
from distill.ui.forms import error_to_show, flags


@pytest.mark.parametrize(
    ("error", "title", "said"),
    [
        (ParamsError("<b>: expected a, found b"), "Not done", "&lt;b&gt;: expected a, found b"),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), "Not done", "x.json: expected to read and write"),
        (ValueError("secret"), "Failed", "this is a defect of Distill; its report is in the window"),
        (OSError(errno.EBADF, "Bad file descriptor"), "Failed", "this is a defect of Distill"),
    ],
)
def test_an_error_is_a_sentence(error: Exception, title: str, said: str) -> None:
    shown = error_to_show(error)
    assert said in str(shown.message)
    assert (shown.title, "secret" in str(shown.message)) == (title, False)


def test_flags_leave_out_what_is_not_given() -> None:
    made = flags(top_k=0, label="", seed=None, pictures=True, prior=False, top_p=0.30000000000000004, min_novelty="new")
    assert made == ["--top-k", "0", "--pictures", "--top-p", "0.3", "--min-novelty", "new"]
