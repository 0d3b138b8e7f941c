"""`distill ui`: what it refuses, and its one line."""

import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from programs import start
from unit.command import CommandLine

SHORT = "--password: expected 8 characters or more, found 7; choose a longer one"
NO_PASSWORD = (
    "expected --password beside an address that other computers reach, found none; put one into DISTILL_UI_PASSWORD"
)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--folder", "file"), "--folder file: expected a folder, found a file; choose another"),
        (
            ("--folder", "below"),
            "--folder below/.distill: expected a folder to write to, found a file; choose another folder",
        ),
        (("--password", "letmein"), SHORT),
        *(
            (("--host", host), f"--host {host}: {NO_PASSWORD}")
            for host in (" ", "0.0.0.0", "192.0.2.1", "::", "studio")
        ),
        (("--port", "65536"), "--port: expected"),
        *(
            (("--root-path", path), f"--root-path {path}: expected a path such as /distill, found another; correct it")
            for path in ("distill", "/", "//elsewhere.example", "/a/", "https://example.org/a", "/a?b")
        ),
        (
            ("--host", "192.0.2.1", "--password", "correct horse"),
            "ports 7860 to 7899: expected a free port at 192.0.2.1, found ",
        ),
    ],
)
def test_every_refusal_is_one_sentence(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.delenv("DISTILL_UI_PASSWORD", raising=False)
    Path("file").touch()
    Path("below").mkdir()
    Path("below/.distill").touch()
    Path(".distill").mkdir()  # it is made before the port is tried
    assert shell.refused("ui", *arguments).startswith(f"distill: {sentence}")


def test_a_port_that_is_taken_and_a_password_of_the_environment(
    shell: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".distill").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert shell.refused("ui", "--port", str(port)) == (
            f"distill: --port {port}: expected a free port at 127.0.0.1, found Address already in use; choose another "
            "--port or --host"
        )
    monkeypatch.setenv("DISTILL_UI_PASSWORD", "letmein")
    assert shell.refused("ui") == f"distill: {SHORT}"


def test_missing_packages(shell: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    import distill.ui

    Path(".distill").mkdir()

    monkeypatch.setattr(distill, "ui", distill.ui)  # the import below replaces it: other tests need this one again
    for name in [name for name in sys.modules if name.startswith("distill.ui")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert shell.refused("ui") == (
        "distill: distill ui: expected the page's packages, found no gradio; install them with "
        "`pip install 'distill-audio[ui]'`"
    )


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_its_address_is_the_one_line_whatever_the_proxies_and_ctrl_c_closes_it(tmp_path: Path) -> None:
    """GNOME sets ALL_PROXY to socks://. The page serves this computer alone, and asks no proxy."""
    proxies = {"ALL_PROXY": "socks://127.0.0.1:9", "https_proxy": "socks5://127.0.0.1:9", "no_proxy": "[::1]"}
    with start(tmp_path, "distill", "ui", "--port", "0", **proxies) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(address.partition("?")[0])
        refused.value.close()
        job = tmp_path / ".distill" / "jobs" / "20260101-000000-abcdef0"
        job.mkdir(parents=True)
        values = {"kind": "train", "title": "training mine", "arguments": [], "values": {}}
        (job / "job.json").write_text(json.dumps(values))
        running = {"pid": os.getpid(), "created": psutil.Process().create_time()}
        (job / "process.json").write_text(json.dumps(running))
        process.send_signal(signal.SIGINT)
        assert (process.stdout.read(), process.wait()) == ("", 0)
        assert process.stderr.read() == "the page is closed; training mine goes on. distill ui shows it again\n"
