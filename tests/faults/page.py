"""The page in a process of its own, and clients of it that mean no good."""

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 60.0  # seconds, at most, that an answer is waited for


@dataclass(frozen=True)
class Usage:
    """What the page's process takes."""

    megabytes: float
    handles: int
    threads: int


class Page:
    """`distill ui` of a folder, on a port of this computer that was free."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.folder = folder
        self.report = folder.parent / f"{folder.name}.stderr"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DISTILL_", "GRADIO_"))}
        with self.report.open("wb") as report:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "distill", "ui", "--folder", str(folder), "--port", "0", *flags],
                stdout=subprocess.PIPE,
                stderr=report,
                text=True,
                env={**kept, **environment},
            )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address, self.said
        self.port = int(self.address.rpartition(":")[2].partition("/")[0])
        self.cookie = ""
        if "token=" in self.address:
            self.cookie = f"distill_{self.port}={self.address.rpartition('=')[2]}"

    @property
    def said(self) -> str:
        """What the process wrote for its user."""
        return self.report.read_text(encoding="utf-8", errors="replace")

    @property
    def usage(self) -> Usage:
        """What the process takes now."""
        process = psutil.Process(self.process.pid)
        return Usage(process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())

    def close(self) -> int:
        """End the page as Ctrl-C does; returns its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def kill(self) -> None:
        """End the page as a crash does."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def connect(self) -> socket.socket:
        """A connection on which nothing was sent yet."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def head(
        self, method: str, path: str, length: int | None = None, cookie: str | None = None, more: str = ""
    ) -> bytes:
        """The head of a request, with the cookie of who was let in."""
        lines = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{self.port}"]
        lines += [f"cookie: {self.cookie if cookie is None else cookie}"] if cookie != "" else []
        lines += [f"content-length: {length}"] if length is not None else []
        return ("\r\n".join([*lines, *filter(None, [more])]) + "\r\n\r\n").encode("latin-1")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        cookie: str | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of an answer. Status 0 is a connection that was closed without one."""
        given = {**headers, **({"cookie": self.cookie if cookie is None else cookie} if cookie != "" else {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, ConnectionError):
            return 0, b""
        finally:
            connection.close()

    def json(self, path: str, value: Any) -> tuple[int, Any]:
        """Post a JSON value; status and JSON of the answer."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        status, answer = self.ask("POST", path, body, {"content-type": "application/json"})
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, answer

    def upload(self, name: str, content: bytes) -> tuple[int, Any]:
        """Upload a file; status and the list of paths."""
        boundary = secrets.token_hex(8)
        body = multipart(boundary, name, content)
        status, answer = self.ask(
            "POST", "/gradio_api/upload", body, {"content-type": f"multipart/form-data; boundary={boundary}"}
        )
        return status, json.loads(answer) if status == 200 else answer

    def events(self) -> dict[int, dict[str, Any]]:
        """The events of the page, by their number."""
        status, answer = self.ask("GET", "/config")
        assert status == 200, answer[:300]
        return {int(one["id"]): one for one in json.loads(answer)["dependencies"]}

    def event(self, number: int, data: Any, **more: Any) -> dict[str, Any]:
        """The answer to an event; {} where none was accepted."""
        session = secrets.token_hex(5)
        status, _ = self.json(
            "/gradio_api/queue/join", {"data": data, "fn_index": number, "session_hash": session, **more}
        )
        if status != 200:
            return {}
        session = str(more.get("session_hash", session))
        _, answer = self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")
        found = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: ")]
        return next((one for one in found if one["msg"] == "process_completed"), {})

    def answers_within(self, seconds: float) -> bool:
        """Whether the page is served in this time to who was let in."""
        began = time.monotonic()
        status, _ = self.ask("GET", "/config")
        return status == 200 and time.monotonic() - began < seconds


@contextmanager
def served(folder: Path, *flags: str, **environment: str) -> Iterator[Page]:
    """A page for a while."""
    page = Page(folder, *flags, **environment)
    try:
        yield page
    finally:
        with contextlib.suppress(ProcessLookupError):
            page.close()


def upload_of(path: str) -> dict[str, Any]:
    """A file as a form names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def multipart(boundary: str, name: str, content: bytes) -> bytes:
    """The body of an upload of one file."""
    quoted = name.replace('"', "%22").encode("utf-8", "surrogatepass")
    head = (
        b'content-disposition: form-data; name="files"; filename="' + quoted + b'"\r\ncontent-type: audio/wav\r\n\r\n'
    )
    mark = f"--{boundary}".encode()
    return mark + b"\r\n" + head + content + b"\r\n" + mark + b"--\r\n"


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Look until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        threading.Event().wait(0.02)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection."""
    connection.settimeout(0)
    try:
        while data := connection.recv(1 << 16):
            del data
        return True
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
