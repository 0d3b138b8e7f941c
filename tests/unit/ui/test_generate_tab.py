"""What the tab Generate says of a download that is not there yet."""

import json
from pathlib import Path

import gradio as gr
import pytest

from distill.errors import ParamsError
from distill.ui.generate_tab import GenerateTab
from distill.ui.jobs import JOB
from distill.ui.workspace import Workspace

# Gradio asks pandas for it.
pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting", "ignore:The copy keyword is deprecated")
ID = "20260101-000000-abcdef0"


def test_a_download_of_nothing_says_to_wait(tmp_path: Path) -> None:
    folder = tmp_path / ".distill" / "jobs" / ID
    folder.mkdir(parents=True)
    (folder / JOB).write_text(json.dumps({"kind": "kit", "title": "a kit by tiny", "arguments": [], "values": {}}))
    with gr.Blocks() as page, gr.Tab() as tab:
        generate = GenerateTab(Workspace(tmp_path), gr.Timer(), page, tab)
    with pytest.raises(ParamsError, match="a kit by tiny: expected sounds to download, found none; wait until it is"):
        generate.zip(ID)
    made = tmp_path / "generated" / ID
    made.mkdir()
    (made / "kit.txt").write_text("a kit\n")
    assert Path(str(generate.zip(ID))).read_bytes()[:2] == b"PK"
