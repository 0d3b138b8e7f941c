"""What the tabs share: sentences for the user, flags for commands."""

import errno
from pathlib import Path

import gradio as gr
import pytest

from distill.errors import ParamsError
from distill.ui.desk import Desk, flags, handled
from distill.ui.workspace import Workspace


@pytest.mark.parametrize(
    ("error", "title", "said"),
    [
        (ParamsError("<b>: expected a, found b"), "Not done", "&lt;b&gt;: expected a, found b"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.json"),
            "Not done",
            "x.json: expected to read and write there",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "Not done", "give yourself the permission"),
        (ValueError("secret"), "Failed", "this is a defect of Distill; its report is in the window"),
        (OSError(errno.EIO, "Input/output error"), "Not done", "check the disk and run again"),
        (OSError(errno.EBADF, "Bad file descriptor"), "Failed", "this is a defect of Distill"),
    ],
)
def test_an_error_is_a_sentence(error: Exception, title: str, said: str) -> None:
    @handled
    def fails() -> None:
        raise error

    with pytest.raises(gr.Error) as caught:
        handled(fails)()
    assert said in str(caught.value.message)
    assert (caught.value.title, "secret" in str(caught.value.message)) == (title, False)


def test_flags_leave_out_what_is_not_given() -> None:
    made = flags(top_k=0, label="", seed=None, pictures=True, prior=False, top_p=0.30000000000000004, min_novelty="new")
    assert made == ["--top-k", "0", "--pictures", "--top-p", "0.3", "--min-novelty", "new"]


def test_a_folder_is_never_a_flag(tmp_path: Path) -> None:
    desk = Desk(Workspace(tmp_path))
    assert [desk.path(tmp_path / name) for name in ("-n", "--out/x", "a -b")] == ["./-n", "./--out/x", "a -b"]


def test_the_models_of_no_folder_are_none(tmp_path: Path) -> None:
    desk = Desk(Workspace(tmp_path))
    assert (desk.models(), desk.names(), desk.known("x"), desk.known(None)) == ([], [], {}, {})
