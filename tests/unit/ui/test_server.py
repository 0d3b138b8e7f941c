"""The page's server: files of jobs, uploads, and paths that a request names."""

import functools
import gc
import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import StateHolder
from starlette.testclient import TestClient

from distill.ui import server
from distill.ui.server import make_app
from distill.ui.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting")  # Gradio asks pandas for it

TOKEN, PORT, JOB = "t" * 43, 7860, "20260101-000000-abcdef"
SECRET = b"a file of somebody else"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("work")
    (root.parent / "secret.wav").write_bytes(SECRET)
    workspace = Workspace(root)
    job, made = workspace.state / "jobs" / JOB, workspace.generated / JOB
    for folder in (job / "previews", made / "samples"):
        folder.mkdir(parents=True)
    values = {"kind": "generate", "title": "sounds", "command": [], "values": {}, "started": 0}
    (job / "job.json").write_text(json.dumps(values))
    for path in (job / "previews" / "one.wav", made / "one.wav", made / "samples" / "two.wav", made / "page.html"):
        path.write_bytes(b"sound")
    (made / "link.wav").symlink_to(root.parent / "secret.wav")
    (made / "outside").symlink_to(root.parent)
    return workspace


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> Iterator[TestClient]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Gradio leaves event loops open
        app = make_app(workspace, TOKEN, None, PORT)
        gc.collect()
    cookie = {f"distill_{PORT}": TOKEN}
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}", cookies=cookie) as client:
        yield client


@pytest.mark.parametrize("path", ["previews/one.wav", "one.wav", "samples/two.wav"])
def test_sounds_of_a_job_are_served(page: TestClient, path: str) -> None:
    answer = page.get(f"/job/{JOB}/{path}")
    assert (answer.status_code, answer.content) == (200, b"sound")


@pytest.mark.parametrize(
    "path",
    [
        f"{JOB}/link.wav",
        f"{JOB}/outside/secret.wav",
        f"{JOB}/..%2f..%2f..%2fsecret.wav",
        f"{JOB}/%2e%2e/%2e%2e/%2e%2e/secret.wav",
        f"{JOB}/%00.wav",
        f"{JOB}/{'a' * 5000}.wav",
        f"{JOB}/job.json",
        f"{JOB}/page.html",
        f"{JOB}/samples",
        f"{JOB}/",
        "%2e%2e/ui/token",
        "..%2fui/token",
        ".%2f/all.zip",
        "%00/all.zip",
        f"{'a' * 5000}/all.zip",
        "20260101-000000-000000/one.wav",
    ],
)
def test_nothing_else_of_a_job_is_served(page: TestClient, path: str) -> None:
    assert page.get(f"/job/{path}").status_code == 404


def test_an_archive_holds_the_sounds_without_links(page: TestClient) -> None:
    with zipfile.ZipFile(io.BytesIO(page.get(f"/job/{JOB}/all.zip").content)) as archive:
        assert archive.namelist() == ["one.wav", "samples/two.wav"]


def test_a_folder_of_sounds_that_is_a_link_is_not_served(page: TestClient, workspace: Workspace) -> None:
    name = "20260101-000000-111111"
    folder = workspace.state / "jobs" / name
    folder.mkdir()
    (folder / "job.json").write_bytes((folder.parent / JOB / "job.json").read_bytes())
    (workspace.generated / name).symlink_to(workspace.root.parent)
    for path in ("secret.wav", "all.zip"):
        assert page.get(f"/job/{name}/{path}").status_code == 404


def test_files_of_the_folder_are_not_served_by_their_paths(page: TestClient, workspace: Workspace) -> None:
    token = workspace.state / "ui" / "token"
    token.parent.mkdir(exist_ok=True)
    token.write_text(TOKEN)
    uploads = workspace.state / "ui" / "uploads"
    made = workspace.generated / JOB / "one.wav"
    for path in (token, made, f"{uploads}/../token", "/etc/hostname", "pyproject.toml", "../secret.wav"):
        assert page.get(f"/gradio_api/file={path}").status_code in (403, 404), path
    assert page.get("/gradio_api/proxy=http://127.0.0.1:1/").status_code == 404


def _routes(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Methods and paths of all routes below these, with a value for each parameter."""
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(inner, "routes"):
            within = getattr(getattr(route, "include_context", None), "prefix", "") or getattr(inner, "prefix", "")
            yield from _routes(inner.routes, prefix + (within if hasattr(route, "original_router") else ""))
        for method in getattr(route, "methods", None) or ():
            path = route.path if route.path.startswith(prefix) else prefix + route.path
            yield method, re.sub(r"\{[^}]*\}", "1", path)


def test_routes_are_closed_to_strangers_and_unknown_ones_to_all(page: TestClient) -> None:
    app: Any = page.app
    routes = set(_routes(app._app._app.routes))
    assert {("POST", "/gradio_api/upload"), ("GET", "/config"), ("GET", "/gradio_api/proxy=1")} <= routes
    assert len(routes) > 60
    closed = set()
    for method, path in sorted(routes):
        if path.startswith(("/gradio_api/heartbeat", "/gradio_api/upload_progress")):
            continue  # these answer as long as somebody listens
        answer = page.request(method, path, headers={"cookie": "none=x"})
        assert answer.status_code == 401, path
        if page.request(method, path, follow_redirects=False).text.count("expected an address of this page"):
            closed.add(path.removeprefix("/gradio_api"))
    assert {
        *(
            "/component_server",
            "/run/1",
            "/api/1",
            "/process_recording",
            "/proxy=1",
            "/deep_link",
            "/dev/reload",
            "/login",
        ),
        *(
            "/logout",
            "/monitoring",
            "/vibe-edit",
            "/vibe-code",
            "/undo-vibe-edit",
            "/stream/1",
            "/openapi.json",
            "/token",
        ),
    } <= closed | {"/openapi.json"}
    assert not closed & {"/upload", "/queue/join", "/queue/data", "/cancel", "/config", "/", "/theme.css", "/call/1"}


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:9/x", "https://127.0.0.1:9/x", "HTTP://a/", "file:///etc/hostname"]
)
def test_nothing_is_fetched_from_elsewhere(page: TestClient, target: str) -> None:
    assert page.get(f"/gradio_api/file={target}").status_code == 404
    for name, data in (("import_it", [None]), ("add", ["mine", None])):
        given = {"path": target, "meta": {"_type": "gradio.FileData"}}
        data[-1] = given if name == "import_it" else [given]
        answer = _call(page, name, data)
        assert answer["success"] is False
        if target.startswith("http:"):
            assert answer["output"]["error"] == "expected a file that was uploaded, found an address; upload the file"


def test_an_upload_for_which_there_is_no_room_is_refused(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.ui.routes.SPARE", 1 << 80)
    answer = page.post("/gradio_api/upload", files={"files": ("a.wav", b"sound")})
    assert (answer.status_code, "of free disk for this upload, found 0 MiB; free some space" in answer.text) == (
        507,
        True,
    )


def test_an_upload_says_how_long_it_is(page: TestClient) -> None:
    answer = page.post(
        "/gradio_api/upload", content=iter([b"x"]), headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert (answer.status_code, "expected an upload that says how long it is" in answer.text) == (411, True)


@functools.cache
def _index(page: TestClient, name: str) -> int:
    listed = page.get("/config").json()["dependencies"]
    return next(int(one["id"]) for one in listed if one["api_name"] == name)


def _call(page: TestClient, name: str, data: list[Any]) -> dict[str, Any]:
    """What the page answers to an event with this data."""
    body = {"data": data, "fn_index": _index(page, name), "session_hash": "s"}
    assert page.post("/gradio_api/queue/join", json=body).status_code == 200
    lines = page.get("/gradio_api/queue/data?session_hash=s").text.splitlines()
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return next(one for one in messages if one["msg"] == "process_completed")


@pytest.mark.parametrize("name", ["add", "import_it"])
@pytest.mark.parametrize("where", ["secret.wav", "work/.distill/ui/token", "work/.distill/ui/uploads/../token"])
@pytest.mark.parametrize("url", [{}, {"url": "http://127.0.0.1:9/x.wav"}])
def test_a_path_that_is_no_upload_is_refused(
    page: TestClient, workspace: Workspace, name: str, where: str, url: dict[str, str]
) -> None:
    path = workspace.root.parent / where.replace("work", workspace.root.name, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    given = {"path": str(path), "meta": {"_type": "gradio.FileData"}, **url}
    answer = _call(page, name, ["mine", [given]] if name == "add" else [given])
    assert answer["success"] is False
    copies = [one for one in workspace.root.rglob("*") if one.is_file() and one.read_bytes() == SECRET]
    assert copies == [workspace.generated / JOB / "link.wav"]
    assert path.exists()


def test_an_upload_is_added_and_its_copy_removed(page: TestClient, workspace: Workspace) -> None:
    (path,) = page.post("/gradio_api/upload", files={"files": ("../../take <1>.wav", b"sound")}).json()
    assert Path(path).is_relative_to(workspace.state / "ui" / "uploads")
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    answer = _call(page, "add", ["mine", [given]])
    assert "1 recordings added to sounds/mine" in answer["output"]["data"][1]
    assert [one.name for one in (workspace.sounds / "mine").iterdir()] == ["take 1.wav"]
    assert not Path(path).exists()


def test_a_refusal_is_a_sentence_without_markup(page: TestClient) -> None:
    values = [None, "<img src=x onerror=alert(1)>", "auto", "small", 4, 0.25, "", "", "auto", False, 0, True]
    answer = _call(page, "train", values)
    assert answer["success"] is False
    assert answer["output"]["error"].startswith("recordings &#x27;&#x27;: expected a folder of the list")


def test_a_sound_to_vary_needs_no_conversion(page: TestClient) -> None:
    (path,) = page.post("/gradio_api/upload", files={"files": ("take.flac", b"sound")}).json()
    answer = _call(page, "vary", [None, {"path": path, "meta": {"_type": "gradio.FileData"}}, 0.3, ""])
    assert answer["output"]["error"].startswith("model &#x27;&#x27;: expected one of the list")


def test_looks_of_an_open_page_leave_nothing_behind(page: TestClient) -> None:
    """Of a component that is an input and gets an update, Gradio keeps every version until the page is closed."""
    ticks = [
        (one["api_name"], [None] * len(one["inputs"]))
        for one in page.get("/config").json()["dependencies"]
        if any(event == "tick" for _, event in one["targets"])
    ]
    kept = []
    for _ in range(3):
        for name, values in ticks * 3:
            assert _call(page, name, values)["success"]
        gc.collect()
        kept.append(sum(issubclass(type(one), gr.blocks.Block) for one in gc.get_objects()))
    assert len(ticks) == 3
    assert kept[1] == kept[2]


def test_the_state_of_pages_that_were_closed_is_bounded(page: TestClient) -> None:
    assert _call(page, "tick", [None, None])["success"]
    holders = [one for one in gc.get_objects() if type(one) is StateHolder and one.session_data]
    assert [one.capacity for one in holders] == [server.MOST_SESSIONS]


def test_the_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    token = server._token(Workspace(tmp_path))
    path = tmp_path / ".distill" / "ui" / "token"
    assert server._token(Workspace(tmp_path)) == token == path.read_text()
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0
    for rubbish in (b"short", b"x" * 40 + b"; path=/", b"\xff" * 40, b""):
        path.write_bytes(rubbish)
        assert len(server._token(Workspace(tmp_path))) == 43
