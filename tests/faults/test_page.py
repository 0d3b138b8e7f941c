"""The page under attack: strangers who send too much, too little and nonsense, and a folder that is a stranger's."""

import json
import os
import random
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faults.page import Page, is_closed, multipart, served, until, upload_of
from unit.tiny import write_prior_model

from distill.ui.connections import MOST
from distill.ui.jobs import MOST_AT_ONCE, Jobs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
OVER = 40  # handles and connections that the page may have beside those of strangers
MALFORMED = (
    b"\x00" * 200,
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
    b"GET " + b"/a" * 50_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 400 + b"\r\n",
    b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: " + b"\xff" * 4000 + b"\r\n\r\n",
    b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 300,
)
SECRET = "a file of somebody else"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page") / "work"
    folder.mkdir()
    (folder.parent / "secret.wav").write_text(SECRET)
    with served(folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db") as page:
        assert page.answers_within(60)
        yield page


def uploads(page: Page) -> list[Path]:
    return [path for path in (page.folder / ".distill" / "ui" / "uploads").rglob("*") if path.is_file()]


def test_connections_of_strangers_are_few_and_end(page: Page, exhaustive: bool) -> None:
    before = page.usage
    count = 600 if exhaustive else MOST + OVER
    idle = [page.connect() for _ in range(count)]
    assert page.answers_within(10)
    assert page.usage.handles <= before.handles + MOST + OVER
    assert sum(map(is_closed, idle)) >= count - MOST
    heads = [page.connect() for _ in range(count if exhaustive else 20)]
    bodies = [page.connect() for _ in range(count if exhaustive else 20)]
    for number, connection in enumerate(heads + bodies):
        try:
            connection.sendall(b"GET / HT" if number < len(heads) else page.head("POST", "/x", 1 << 20, cookie=""))
        except OSError:
            assert exhaustive  # it was one too many
    assert page.answers_within(10)
    if exhaustive:  # bytes that come one by one do not keep them open

        def drip() -> bool:
            for connection in heads + bodies:
                try:
                    connection.setblocking(False)
                    connection.send(b"x")
                except OSError:
                    continue
            return all(map(is_closed, idle + heads + bodies))

        until(drip)
    for connection in idle + heads + bodies:
        connection.close()
    until(lambda: page.usage.handles <= before.handles + 5)


def test_uploads_that_are_cut_off_leave_nothing(page: Page, exhaustive: bool) -> None:
    before = page.usage
    body = multipart("x", "take.wav", b"1" * 50_000)
    head = page.head(
        "POST", "/gradio_api/upload", len(body) + (1 << 20), more="content-type: multipart/form-data; boundary=x"
    )
    for _ in range(10 if exhaustive else 1):
        connections = [page.connect() for _ in range(150 if exhaustive else 30)]
        for number, connection in enumerate(connections):
            connection.sendall(head + body[: 100 + 300 * number])
        until(lambda: len(uploads(page)) >= 20)
        assert len(uploads(page)) <= 24
        assert page.answers_within(10)
        for connection in connections:
            connection.close()
        until(lambda: not uploads(page))
    until(lambda: page.usage.handles <= before.handles + 5)
    assert page.usage.threads <= before.threads + 45


def test_requests_that_make_no_sense_are_refused(page: Page, exhaustive: bool) -> None:
    draw = random.Random(0)
    good = page.head("POST", "/gradio_api/queue/join", 2, more="content-type: application/json") + b"{}"
    requests = list(MALFORMED)
    for _ in range(2000 if exhaustive else 60):
        changed = bytearray(good)
        for _ in range(draw.choice((1, 2, 8))):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        requests.append(bytes(changed))
    for request in requests:
        with page.connect() as connection:
            connection.settimeout(5)
            try:
                connection.sendall(request)
                connection.shutdown(1)
                answer = connection.recv(4096)
            except OSError:
                continue
            assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 303")), (request[:300], answer[:300])
    assert page.answers_within(10)
    assert "Traceback" not in page.said, page.said[-5000:]


def test_ten_thousand_requests_leave_the_page_as_it_was(page: Page, exhaustive: bool) -> None:
    count = 10_000 if exhaustive else 300
    paths = (
        "/",
        "/config",
        "/gradio_api/info",
        "/gradio_api/queue/join",
        "/job/x/all.zip",
        "/gradio_api/file=/etc/hosts",
    )
    before = page.usage

    def stranger(number: int) -> int:
        return page.ask(("GET", "POST")[number % 2], paths[number % len(paths)], cookie="")[0]

    def owner(number: int) -> int:
        return page.ask("GET", ("/theme.css", "/job/x/all.zip", "/gradio_api/file=/etc/hosts")[number % 3])[0]

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(stranger, range(count))) <= {401, 0}
        assert set(threads.map(owner, range(count))) <= {200, 403, 404}
    assert page.answers_within(10)
    until(lambda: page.usage.handles <= before.handles + 5)
    assert page.usage.megabytes < before.megabytes + 60


def hostile_data(page: Page, length: int, draw: random.Random) -> list[Any]:
    """Data of a form that no form sends."""
    folder = page.folder
    paths = [
        "/etc/passwd", str(folder.parent / "secret.wav"), str(folder / ".distill" / "ui" / "token"), "http://127.0.0.1:1/x.wav",
        "https://127.0.0.1:1/x.wav", "file:///etc/passwd", "data:audio/wav;base64,AAAA", "", "\0", "../../secret.wav",
        f"{folder}/.distill/ui/uploads/../../../../secret.wav", "ftp://127.0.0.1/x", "HTTP://127.0.0.1:1/x.wav",
    ]  # fmt: skip
    nested: Any = []
    for _ in range(200):
        nested = [nested]
    values = [
        None, True, -1, 1 << 70, 1e300, "x" * 100_000, "../" * 50, "-x", "--out=/tmp/x", [], {}, [1] * 10_000, {"a": {"b": nested}},
        nested, "\x1b[2J", "<img src=x onerror=alert(1)>", [None], {"path": None}, "20260101-000000-abcdef", "models/../../x",
    ]  # fmt: skip
    for path in paths:
        more = draw.choice(
            ({}, {"url": "http://127.0.0.1:1/y"}, {"is_stream": True}, {"url": path}, {"size": -1, "orig_name": path})
        )
        values += [{**upload_of(path), **more}, [{**upload_of(path), **more}]]
    return [draw.choice(values) for _ in range(length)]


def test_forms_that_nobody_filled_in_do_nothing(page: Page, exhaustive: bool) -> None:
    draw, events = random.Random(1), page.events()
    asked = [number for number, one in events.items() if one["targets"] and one["backend_fn"]]
    before = {path for path in page.folder.rglob("*") if ".distill" not in path.parts}
    for number in asked if exhaustive else draw.sample(asked, 6):
        inputs = len(events[number]["inputs"])
        for _ in range(20 if exhaustive else 3):
            answer = page.event(number, hostile_data(page, draw.choice((inputs, inputs, inputs, inputs + 1, 0)), draw))
            assert SECRET not in json.dumps(answer)
    join = "/gradio_api/queue/join"
    page.json(join, b'{"data": [NaN, Infinity], "fn_index": 1, "session_hash": "x"}')  # as good as any other number
    for body in (
        b"",
        b"{",
        b"[" * 100_000,
        b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"data": 7}',
        b"\xff",
    ):
        assert 400 <= page.json(join, body)[0] < 600
    for index in (-1, 10**9, "x", None, [], 1.5):
        assert 400 <= page.json(join, {"data": [], "fn_index": index, "session_hash": "x"})[0] < 600, index
    for name in (
        "component_server",
        "run/train",
        "api/train",
        "deep_link?session_hash=x",
        "process_recording",
        "stream/x",
    ):
        assert page.json(f"/gradio_api/{name}", {"data": [], "fn_index": 0, "session_hash": "x"})[0] == 404, name
    for target in ("http://127.0.0.1:1/x", "https://127.0.0.1:1/x", "file:///etc/passwd", "HTTP://127.0.0.1:1/"):
        assert page.ask("GET", f"/gradio_api/file={target}")[0] == 404
    assert page.answers_within(20)
    after = {path for path in page.folder.rglob("*") if ".distill" not in path.parts}
    assert {path.relative_to(page.folder).parts[0] for path in after - before} <= {"sounds", "mlflow.db"}
    copies = [
        path for path in page.folder.parent.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")
    ]
    assert copies == [page.folder.parent / "secret.wav"]
    assert "Traceback" not in page.said, page.said[-5000:]


def test_commands_beside_each_other_are_few(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("starts processes with PyTorch; tests/unit/ui/test_jobs.py tries the same")
    (tmp_path / "work" / "models").mkdir(parents=True)
    write_prior_model(tmp_path / "work" / "models" / "tiny.distill")
    with served(tmp_path / "work") as page:
        _flood_of_clicks(page)


def _flood_of_clicks(page: Page) -> None:
    number = next(number for number, one in page.events().items() if one["api_name"] == "generate")
    form = ["tiny.distill", 32, "exactly as long", 60.0, "1", 1.0, None, "any", 0, 1.0, "", None]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: page.event(number, form), range(60)))
    jobs = Jobs(page.folder)
    started = [job for job in jobs.all("generate") if job.title == "32 sounds of tiny"]
    try:
        refused = [one["output"]["error"] for one in answers if not one["success"]]
        assert len([job for job in started if job.state == "running"]) <= MOST_AT_ONCE
        assert len(started) + len(refused) == len(answers)
        assert re.match(
            r"4 commands are at work \(32 sounds of tiny and others\): expected 4 at a time or fewer", refused[0]
        )
    finally:
        for job in started:
            job.cancel()
    until(lambda: all(job.state != "running" for job in started))


def test_a_password_is_not_guessed_in_parallel(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("takes a second for each guess; tests/unit/ui/test_admission.py tries the same")
    (tmp_path / "work").mkdir()
    with served(tmp_path / "work", DISTILL_UI_PASSWORD="correct horse") as page:
        before = page.usage
        headers = {"content-type": "application/x-www-form-urlencoded"}

        def guess(number: int) -> int:
            return page.ask("POST", "/login", f"password=guess-{number}".encode(), headers, cookie="")[0]

        with ThreadPoolExecutor(100) as threads:
            found = list(threads.map(guess, range(2000)))
        assert set(found) <= {401, 429, 0}
        assert found.count(401) < 40
        assert page.ask("POST", "/login", b"password=correct+horse", headers, cookie="")[0] == 303
        until(lambda: page.usage.handles <= before.handles + 5)
        assert page.usage.megabytes < before.megabytes + 40
        assert page.said == ""


def test_a_folder_of_a_stranger_harms_nothing(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("starts a page; tests/unit/ui/test_reading.py tries the same files")
    folder, outside = tmp_path / "work", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.wav").write_text(SECRET)
    jobs = folder / ".distill" / "jobs"
    for number in range(300):
        job = jobs / f"20260101-000000-{number:06x}"
        job.mkdir(parents=True)
        forged = {
            "kind": ("train", "generate", "kit", "prior")[number % 4],
            "title": "<img src=x>",
            "values": {},
            "started": 0,
        }
        (job / "job.json").write_text(json.dumps({**forged, "command": ["/bin/sh", "-c", f"touch {outside}/reached"]}))
        (job / "exit.json").write_text('{"status": 0}')
        if number % 5 == 0:
            for name in ("status.json", "stdout.txt", "events.jsonl", "said.txt", "ingest.json", "kept.json"):
                os.mkfifo(job / name)
        elif number % 5 == 1:
            for name in ("status.json", "stdout.txt", "events.jsonl", "stderr.txt"):
                (job / name).symlink_to("/dev/zero")
        elif number % 5 == 2:
            for name in ("status.json", "stdout.txt", "events.jsonl", "ingest.json"):
                with (job / name).open("wb") as file:
                    file.truncate(20 << 30)  # sparse
    for name in ("models", "sounds", "generated"):
        (folder / name).symlink_to(outside)
    (jobs / "lock").symlink_to(outside / "secret.wav")
    with served(folder) as page:
        assert page.answers_within(60)
        events = page.events()
        for number, one in events.items():
            if one["backend_fn"] and one["targets"]:
                began = threading.Event()
                page.event(number, [None] * len(one["inputs"]))
                began.set()
        assert page.answers_within(20)
        assert page.usage.megabytes < 1200
    assert [path.name for path in outside.iterdir()] == ["secret.wav"]
    assert (outside / "secret.wav").read_text() == SECRET
