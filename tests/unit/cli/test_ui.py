"""`distill ui`: what it refuses, and its one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.cli import main as cli

Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """Runs `distill ui`, which is refused in a sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISTILL_UI_PASSWORD", raising=False)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["distill", "ui", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        assert (caught.value.code, said.out) == (2, "")
        (line,) = said.err.splitlines()
        return line

    return run


def test_a_missing_folder(refused: Refused) -> None:
    assert refused("--folder", "none") == (
        "distill: --folder none: expected a folder, found nothing there; make it or choose another"
    )
    assert not Path("none").exists()


def test_a_file_for_a_folder(refused: Refused) -> None:
    Path("file").touch()
    assert refused("--folder", "file") == (
        "distill: --folder file: expected a folder, found a file; make it or choose another"
    )


def test_a_folder_whose_state_is_a_file(refused: Refused) -> None:
    Path(".distill").touch()
    assert refused() == "distill: --folder .distill: expected a folder to write to, found File exists"


def test_a_short_password(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "distill: --password: expected 8 characters or more, found 7; choose a longer one"
    assert refused("--password", "letmein") == said
    monkeypatch.setenv("DISTILL_UI_PASSWORD", "letmein")
    assert refused() == said
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("host", ["", " "])
def test_no_host(refused: Refused, host: str) -> None:
    assert refused("--host", host) == (
        "distill: --host: expected an address, found nothing; 127.0.0.1 is this computer alone"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "studio"])
def test_another_address_without_a_password(refused: Refused, host: str) -> None:
    assert refused("--host", host) == (
        f"distill: --host {host}: expected --password beside an address that other computers reach, found none; put one "
        "into DISTILL_UI_PASSWORD"
    )
    assert list(Path().iterdir()) == []


def test_a_port_that_is_taken(refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("--port", str(port)) == (
            f"distill: --port {port}: expected a free port at 127.0.0.1, found Address already in use; choose another "
            "--port or --host"
        )


def test_a_port_that_is_none(refused: Refused) -> None:
    assert refused("--port", "65536").startswith("distill: --port: expected")


def test_an_address_of_another_computer(refused: Refused) -> None:
    assert refused("--host", "192.0.2.1", "--password", "correct horse").startswith(
        "distill: ports 7860 to 7899: expected a free port at 192.0.2.1, found "
    )


def test_missing_packages(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    import distill.ui

    monkeypatch.setattr(distill, "ui", distill.ui)  # the import below replaces it: other tests need this one again
    for name in [name for name in sys.modules if name.startswith("distill.ui")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert refused() == (
        "distill: distill ui: expected the page's packages, found no gradio; install them with "
        "`pip install 'distill-audio[ui]'`"
    )


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_its_address_is_the_one_line_and_ctrl_c_closes_it(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DISTILL_")}
    command = [sys.executable, "-m", "distill", "ui", "--folder", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address.partition("?")[0])
        job = tmp_path / ".distill" / "jobs" / "20260101-000000-abcdef0"
        job.mkdir(parents=True)
        values = {"kind": "train", "title": "training mine", "arguments": [], "values": {}}
        (job / "job.json").write_text(json.dumps(values))
        import psutil

        running = {"pid": os.getpid(), "created": psutil.Process().create_time()}
        (job / "process.json").write_text(json.dumps(running))
        process.send_signal(signal.SIGINT)
        assert (process.stdout.read(), process.wait()) == ("", 0)
        assert process.stderr.read() == "the page is closed; training mine goes on. distill ui shows it again\n"
