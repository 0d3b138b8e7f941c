"""The page's server: who is let in, which files are served, and what a request may name."""

import gc
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from gradio.blocks import Block
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from distill.errors import ParamsError
from distill.training.events import RollbackEvent
from distill.training.tracking import Tracker
from distill.ui import server, view
from distill.ui.compare_tab import NONE_YET, end_tree
from distill.ui.jobs import Job, Jobs
from distill.ui.results import Results
from distill.ui.server import HEADERS, Guard, Page, make_app
from distill.ui.train_tab import NO_FOLDERS
from distill.ui.workspace import Workspace
from unit.ui.handmade import ID as JOB
from unit.ui.handmade import write_job

# Gradio asks pandas for it.
pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting", "ignore:The copy keyword is deprecated")

TOKEN, PORT = "t" * 43, 7860
HERE = f"http://127.0.0.1:{PORT}"
COOKIE = f"distill_{PORT}={TOKEN}"
SECRET = b"a file of somebody else"


def guarded(token: str | None = TOKEN) -> TestClient:
    """A client of a page behind the guard that says how long a request was."""

    async def length(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route("/{path:path}", length, methods=["GET", "POST", "PUT", "DELETE"])]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, token=token, port=PORT)])
    return TestClient(app, base_url=HERE, follow_redirects=False)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/gradio_api/info", {"authorization": f"Bearer {TOKEN}"}),
        ("/", {"cookie": f"distill_1={TOKEN}"}),
        ("/", {"cookie": f"distill_{PORT}="}),
        ("/", {"cookie": f"distill_{PORT}={TOKEN[:-1]}"}),
        *((f"/?token={given}", {}) for given in ("", "wrong", TOKEN + "x", "%00", "%ff%fe", "é")),
    ],
)
def test_nobody_comes_in_without_the_token(path: str, headers: dict[str, str]) -> None:
    found = "a wrong one" if path.partition("token=")[2] else "none"
    for method in ("GET", "HEAD", "OPTIONS", "POST", "TRACE"):
        answer = guarded().request(method, path, headers=headers)
        assert answer.status_code == 401
        said = f"expected the token of this page, found {found}; open the address that distill ui printed"
        assert method == "HEAD" or said in answer.text


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    page = guarded()
    answer = page.get(f"//elsewhere.example/?token={TOKEN}&__theme=dark")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?__theme=dark")
    kept = answer.headers["set-cookie"].lower()
    assert ("httponly" in kept, "samesite=strict" in kept) == (True, True)
    assert page.get("/").text == "0"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:7860"])
@pytest.mark.parametrize("token", [TOKEN, None])
def test_pages_of_other_origins_are_refused(token: str | None, origin: str) -> None:
    headers = {"cookie": COOKIE, "origin": origin}
    answer = guarded(token).post("/gradio_api/queue/join", headers=headers)
    assert answer.status_code == 403
    assert "expected a request of this page, found one of another page" in answer.text
    assert guarded(token).post("/x", headers={**headers, "origin": HERE}, content=b"12345").text == "5"


@pytest.mark.parametrize("cookie", ["", COOKIE])
def test_answers_forbid_what_comes_from_elsewhere(cookie: str) -> None:
    answer = guarded().get("/", headers={"cookie": cookie})
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "http" not in HEADERS["content-security-policy"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("work")
    (root.parent / "secret.wav").write_bytes(SECRET)
    workspace = Workspace(root)
    for folder in (workspace.state / "jobs" / JOB / "previews", workspace.generated / JOB):
        folder.mkdir(parents=True)
        (folder / "one.wav").write_bytes(b"sound")
    write_job(workspace.state / "jobs" / JOB, "generate", exit_json={"status": 0}, stdout_txt={"seed": 7})
    return workspace


@pytest.fixture
def job(workspace: Workspace) -> Iterator[Callable[..., Job]]:
    """Makes jobs by hand; they end with the test, as the folder is that of other tests, too."""
    made: list[Job] = []

    def make(day: int, kind: str, **files: object) -> Job:
        made.append(write_job(workspace.state / "jobs" / f"202601{day:02d}-000000-abcdef0", kind, **files))
        return made[-1]

    yield make
    for one in made:
        shutil.rmtree(one.folder)


SERVED: list[Page] = []  # the blocks of the page of these tests: other files may leave theirs


def known_pages() -> dict[int, Page]:
    return {id(one): one for one in gc.get_objects() if type(one) is Page and one.max_file_size}


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> Iterator[TestClient]:
    others = known_pages()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Gradio leaves event loops open
        app = make_app(workspace, TOKEN, None, PORT)
        gc.collect()
    SERVED[:] = [one for key, one in known_pages().items() if key not in others]
    with TestClient(app, base_url=HERE, cookies={f"distill_{PORT}": TOKEN}) as client:
        yield client


def test_sounds_of_jobs_are_served_and_no_other_file(page: TestClient, workspace: Workspace) -> None:
    token = workspace.state / "ui" / "token"
    token.parent.mkdir(exist_ok=True)
    token.write_text(TOKEN)
    for sound in (workspace.generated / JOB / "one.wav", workspace.state / "jobs" / JOB / "previews" / "one.wav"):
        assert page.get(f"/gradio_api/file={sound}").content == b"sound"
    others = (f"{workspace.generated}/../../secret.wav", token, "/etc/hostname", "pyproject.toml", "../secret.wav")
    for path in others:
        assert page.get(f"/gradio_api/file={path}").status_code in (403, 404), path


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs links")
def test_links_that_lead_out_of_the_folder_are_not_served(page: TestClient, workspace: Workspace) -> None:
    workspace.models.mkdir()
    (workspace.models / "mine.distill").touch()
    made, job = workspace.generated / JOB, workspace.state / "jobs" / JOB
    links = (made / "link.wav", job / "link.wav", workspace.models / "mine.distill.md")
    for link in links:
        link.symlink_to(workspace.root.parent / "secret.wav")
        assert page.get(f"/gradio_api/file={link}").status_code == 403, link
    handlers = {one.api_name: one.fn for one in blocks().fns.values()}
    for name, data, what in (("zip", JOB, "link.wav"), ("card_of", "mine.distill", "mine.distill.md")):
        with pytest.raises(ParamsError, match=f"{what}: expected a file of this folder, found a link to elsewhere"):
            handlers[name](data)
    for link in links:  # the folder is that of other tests, too
        link.unlink()
    assert Path(handlers["zip"](JOB)).is_file()


def test_remarks_on_a_recording_are_above_its_takes(workspace: Workspace, job: Callable[..., Job]) -> None:
    said = "distill: warning: a.wav: very short: 0.030 s\nvary 1/1\n"
    varied = job(2, "vary", exit_json={"status": 0}, stdout_txt={"seed": 1, "takes": []}, stderr_txt=said)
    _, shown = Results(workspace).html(varied)
    assert shown.startswith(
        f'<h2 data-job="{varied.id}">t</h2><p class="warning" role="status">a.wav: very short: 0.030 s</p><p>seed 1</p>'
    )


@pytest.mark.usefixtures("page")
def test_what_is_at_work_or_refused_leaves_the_sounds_before_it_on_the_page(job: Callable[..., Job]) -> None:
    tab = next(one.fn.__self__ for one in blocks().fns.values() if one.api_name == "zip")
    with pytest.raises(ParamsError, match="download: expected sounds, found none; wait until they are made"):
        tab.zip("20250101-000000-abcdef0")
    said = "distill: note H3: expected notes such as C3\n"
    later = job(2, "kit", exit_json={"status": 2}, stderr_txt=said)
    shown = tab.show(later.id)
    assert "note H3: expected notes such as C3" in shown[tab._state]
    assert shown[tab._cards].startswith(f'<h2 data-job="{JOB}">t</h2><p>seed 7</p>')
    assert Path(tab.zip(later.id)).stem == JOB


@pytest.mark.parametrize("route", ["/gradio_api/file=", "/gradio_api/file/"])
@pytest.mark.parametrize("address", ["http://example.org/a.wav", "https:%2F%2Fexample.org/a.wav"])
def test_the_page_fetches_no_file_from_elsewhere(
    page: TestClient, route: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(address: str) -> None:
        raise AssertionError(f"{address} was fetched")

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_get", never)
    answer = page.get(route + address)
    assert (answer.status_code, "expected a file of this page, found a web address" in answer.text) == (403, True)
    for name, data in (
        ("add", ["mine", [upload_of("http://example.org/a.wav")], None]),
        ("add", [{"within": [upload_of("https://example.org/a.wav")]}, None, None]),
        ("take", [upload_of("http://example.org/a.distill")]),
        ("vary_form", form("vary_form", source=upload_of("http://example.org/a.wav"))),
    ):
        said = _call(page, name, data)["output"]["error"]
        assert said == "expected a file that was uploaded, found a web address; download the file and choose it"


def _call(page: TestClient, name: str, data: list[Any]) -> dict[str, Any]:
    """What the page answers to an event with this data."""
    index = next(number for number, one in blocks().fns.items() if one.api_name == name)
    body = {"data": data, "fn_index": index, "session_hash": "s"}
    assert page.post("/gradio_api/queue/join", json=body).status_code == 200
    lines = page.get("/gradio_api/queue/data?session_hash=s").text.splitlines()
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return next(one for one in messages if one["msg"] == "process_completed")


def blocks() -> Page:
    """The blocks of the page that is served."""
    return next(one for one in SERVED if one.title == "Distill")  # and not those for programs


def upload_of(path: str) -> dict[str, Any]:
    """A file as a form names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("name", ["add", "take"])
@pytest.mark.parametrize("where", ["secret.wav", "work/.distill/ui/token", "work/.distill/ui/uploads/../token"])
def test_a_path_that_is_no_upload_is_refused(page: TestClient, workspace: Workspace, name: str, where: str) -> None:
    path = workspace.root.parent / where.replace("work", workspace.root.name, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    given = upload_of(str(path))
    answer = _call(page, name, ["mine", [given], None] if name == "add" else [given])
    assert answer["success"] is False
    assert answer["output"]["error"] == "expected an uploaded file, found another or a hidden one; rename it"
    assert not [one for one in workspace.root.rglob("*") if one.is_file() and one.read_bytes() == SECRET]
    assert path.exists()


def test_an_upload_is_added_and_its_copy_removed(page: TestClient, workspace: Workspace) -> None:
    (path,) = page.post("/gradio_api/upload", files={"files": ("../../take <1>.wav", b"sound")}).json()
    assert Path(path).is_relative_to(workspace.uploads)
    answer = _call(page, "add", ["mine", [upload_of(path)], ["pack/kick/take <1>.wav"]])
    assert "1 recording added to sounds/mine" in answer["output"]["data"][1]
    found = [one.relative_to(workspace.sounds).as_posix() for one in workspace.sounds.rglob("*.wav")]
    assert found == ["mine/kick/take <1>.wav"]
    assert not Path(path).exists()
    (path,) = page.post("/gradio_api/upload", files={"files": ("one.wav", b"sound")}).json()
    assert NO_FOLDERS in _call(page, "add", ["flat", [upload_of(path)], None])["output"]["data"][1]
    (path,) = page.post("/gradio_api/upload", files={"files": ("two.wav", b"sound")}).json()
    said = _call(page, "add", ["mine", [upload_of(path)], ["pack/snare/two.wav"]])["output"]["data"][1]
    assert "Folders are labels, unless you decline: kick, snare" in said
    labelled = next(one.fn for one in blocks().fns.values() if getattr(one.fn, "__name__", "") == "labelled")
    assert [labelled(name) for name in ("sounds/mine", "sounds/flat", None, "nowhere")] == [True, False, False, False]


def test_an_upload_that_is_too_long_is_refused(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert blocks().max_file_size == 2 << 30
    monkeypatch.setattr(blocks(), "max_file_size", 3)
    assert page.post("/gradio_api/upload", files={"files": ("a.wav", b"sound")}).status_code == 413


def form(endpoint: str, **values: Any) -> list[Any]:
    """The values of a form as it is shown, or others by the id of a field."""
    inputs = next(one.inputs for one in blocks().fns.values() if one.api_name == endpoint)
    return [values.get(str(each.elem_id).replace("-", "_"), each.value) for each in inputs]


NEITHER = "expected a model or a sound to vary, found neither; choose a sound or record one"
NO_SOUND = "found none; choose a file or record one"


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("train", {"name": "<b>"}, "recordings &#x27;&#x27;: expected a folder of the list"),
        ("cancel", {}, "expected a training at work, found none"),
        ("generate_form", {}, "model &#x27;&#x27;: expected one of the"),
        ("kit_form", {}, f"kit: {NEITHER}"),
        ("one_key_form", {"alone": True}, f"variations on one key: {NEITHER}"),
        ("extend_form", {}, f"extend: expected a recording, {NO_SOUND}"),
        ("vary_form", {}, f"vary: {NEITHER}"),
    ],
)
def test_a_refusal_is_a_sentence_without_markup(page: TestClient, name: str, values: Any, said: str) -> None:
    answer = _call(page, name, form(name, **values))
    assert answer["success"] is False
    assert answer["output"]["error"].startswith(said)


def looks(kind: str) -> Callable[[], dict[Any, Any]]:
    """What the page asks of a tab of trainings every second."""
    (handler,) = (
        one.fn
        for one in blocks().fns.values()
        if f"{kind}-health" in [each.elem_id for each in one.outputs]
        and any(event == "tick" for _, event in one.targets)
    )
    return handler


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("kind", ["train", "prior"])
def test_both_tabs_show_what_a_training_warns_of(job: Callable[..., Job], kind: str) -> None:
    back = RollbackEvent(90, 40, 1, is_last=False, reason="perplexity 9.1 is 20 % above its average").message
    said = (back, "warning: after 1000 steps the memory retrieves 25% of motifs among 31 distractors", "a line")
    job(2, kind, said_txt="\n".join(said))
    shown = "".join(part for part in looks(kind)().values() if isinstance(part, str))
    for warning in said[:2]:
        assert f'<p class="warning" role="status">{warning.removeprefix("warning: ")}</p>' in shown
    assert "a line" not in shown


@pytest.mark.usefixtures("page")
def test_a_training_that_begins_while_the_page_looks_is_the_one_that_is_shown(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Stop would act on the one before, and be refused."""
    job(3, "prior")
    begun: list[Job] = []

    def charts(*_: object) -> str:
        begun.append(begun[0] if begun else job(4, "prior"))
        return ""

    monkeypatch.setattr("distill.ui.training_tab.charts", charts)
    shown = looks("prior")()
    assert begun[0].id in shown.values()


@pytest.mark.usefixtures("page")
def test_sizes_that_are_left_empty_follow_the_architecture(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Jobs, "start", lambda _, *job: asked.append(job))
    workspace.models.mkdir(exist_ok=True)
    (workspace.models / "mine.distill").touch()
    (form,) = (one for one in blocks().fns.values() if one.api_name == "train_prior")
    for architecture in ("frame", "flat"):
        chosen = {"prior-model": "mine.distill", "Architecture": architecture}
        form.fn({one: chosen.get(one.elem_id, chosen.get(one.label, one.value)) for one in form.inputs})
        assert asked.pop()[2] == ["train-prior", "models/mine.distill", "--architecture", architecture, "--json"]


@pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations are not ours
@pytest.mark.usefixtures("page")
def test_trainings_are_compared_by_the_weights_that_they_kept(
    workspace: Workspace, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(database, workspace.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = []
    for number in range(3):
        with Tracker(workspace.root, "train_prior", f"f00d{number}", {"epochs": number}) as tracker:
            runs.append(tracker._run_id)
            tracker.metrics({"val_perplexity": 99.0, "epoch_time_s": 1.0}, 7)
            if number:  # the first one goes on
                levels = {f"level_{level}/val_perplexity": 2.0 for level in (10, 2)}
                tracker.log_best({"val_perplexity": 12.5 + number, "epoch": 3, **levels}, {})
    compare = next(one.fn for one in blocks().fns.values() if one.api_name == "compare")
    cells = re.findall("<td>(.*?)</td>", compare(runs).partition("kept</h2>")[2])
    assert cells == [
        *("best/epoch", "–", "3", "3"),
        *("best/level_2/val_perplexity", "–", "2", "2"),
        *("best/level_10/val_perplexity", "–", "2", "2"),
        *("best/val_perplexity", "–", "13.5", "14.5"),
    ]
    assert compare([runs[0], runs[0]]).endswith(view.note(NONE_YET))


def test_looks_of_an_open_page_leave_nothing_behind(page: TestClient) -> None:
    """Of a component that is an input and gets an update, Gradio keeps every version until the page is closed."""
    events = [one for one in blocks().fns.values() if any(event == "tick" for _, event in one.targets)]
    ticks = [(one.api_name, [None] * len(one.inputs)) for one in events]
    kept = []
    for _ in range(3):
        for name, values in ticks:
            assert _call(page, name, values)["success"]
        gc.collect()
        kept.append(sum(issubclass(type(one), Block) for one in gc.get_objects()))
    assert len(ticks) == 3
    assert kept[1] == kept[2]


def test_the_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    token = server._token(Workspace(tmp_path))
    path = tmp_path / ".distill" / "ui" / "token"
    assert server._token(Workspace(tmp_path)) == token == path.read_text()
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0
    for rubbish in (b"short", b"x" * 40 + b"; path=/", b"\xff" * 40, b""):
        path.write_bytes(rubbish)
        assert len(server._token(Workspace(tmp_path))) == 43


@pytest.mark.skipif(os.name == "nt", reason="needs groups of processes")
def test_a_browser_that_returns_when_it_is_closed_holds_up_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a terminal do, and what BROWSER names."""
    is_served, seen = threading.Event(), queue.Queue[bool]()

    def run(_: object, sockets: list[socket.socket]) -> None:
        is_served.set()
        sockets[0].close()

    monkeypatch.setattr(server.webbrowser, "open", lambda _: seen.put(is_served.wait(5)))
    monkeypatch.setattr(server.uvicorn.Server, "run", run)
    monkeypatch.setattr(server, "make_app", lambda *_: None)
    server.serve(Workspace(tmp_path), "127.0.0.1", 0, None, True, "")
    assert seen.get(timeout=10)


def test_mlflow_ends_with_the_processes_that_it_started() -> None:
    command = ["sh", "-c", "sleep 100 & echo $!; wait"]
    with psutil.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as started:
        child = psutil.Process(int(started.stdout.readline()))
        end_tree(started)
        started.wait(timeout=30)
        _, alive = psutil.wait_procs([child], timeout=30)
        assert alive == [] or child.status() == psutil.STATUS_ZOMBIE
        end_tree(started)  # it has ended: nothing is signalled


def test_behind_a_proxy_the_page_is_below_a_path(tmp_path: Path) -> None:
    """The proxy takes the path away; the page's own addresses have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Gradio leaves event loops open
        app = make_app(Workspace(tmp_path), TOKEN, None, PORT, root_path="/distill")
        gc.collect()
    with TestClient(app, base_url=HERE, follow_redirects=False) as client:
        assert client.get(f"/?token={TOKEN}").headers["location"] == "/distill/"
        assert client.get("/config").json()["root"] == f"{HERE}/distill"
