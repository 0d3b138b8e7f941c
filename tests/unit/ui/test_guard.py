"""Who is let in to the page, from where, and with how much."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from distill.ui import admission, guard
from distill.ui.guard import HEADERS, Guard

TOKEN, PORT = "t" * 43, 7860
HERE = f"http://127.0.0.1:{PORT}"
COOKIE = f"distill_{PORT}={TOKEN}"


async def _length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def client(password: str | None = None, host: str = "127.0.0.1", address: str = HERE) -> TestClient:
    """A client of a page behind the guard that says how long a request was."""
    methods = ["GET", "POST", "PUT", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", _length, methods=methods)])
    return TestClient(Guard(app, TOKEN, password, PORT, host), base_url=address, follow_redirects=False)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WRONG_SECONDS", 0.0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/gradio_api/info", {"authorization": f"Bearer {TOKEN}"}),
        ("/", {"x-token": TOKEN}),
        ("/", {"cookie": f"distill_1={TOKEN}"}),
        ("/", {"cookie": f"distill_{PORT}="}),
        ("/", {"cookie": f"distill_{PORT}={TOKEN[:-1]}"}),
        ("/?token=", {}),
        (f"/?tokens={TOKEN}", {}),
        ("/job/../x", {"referer": f"{HERE}/?token={TOKEN}"}),
    ],
)
def test_nobody_comes_in_without_the_token(method: str, path: str, headers: dict[str, str]) -> None:
    answer = client().request(method, path, headers=headers)
    assert answer.status_code == 401
    assert method == "HEAD" or (
        "expected the token of this page, found none; open the address that distill ui printed" in answer.text
    )


@pytest.mark.parametrize("given", ["wrong", TOKEN + "x", "%00", "%ff%fe", "é"])
def test_a_wrong_token_is_refused(given: str) -> None:
    answer = client().get(f"/?token={given}")
    assert (answer.status_code, "found a wrong one" in answer.text) == (401, True)


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    page = client()
    answer = page.get(f"/?token={TOKEN}&__theme=dark")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?__theme=dark")
    kept = answer.headers["set-cookie"].lower()
    assert "httponly" in kept
    assert "samesite=strict" in kept
    assert page.get("/").text == "0"


def test_the_address_after_the_token_is_of_this_page() -> None:
    answer = client().get(f"//elsewhere.example/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_password_takes_the_place_of_the_token() -> None:
    page = client("correct horse")
    assert page.get(f"/?token={TOKEN}").status_code == 401
    assert page.get("/", headers={"cookie": COOKIE}).status_code == 401
    wrong = page.post("/login", data={"password": "correct"})
    assert "expected the password of this page, found a wrong one; try again" in wrong.text
    assert page.get("/login?password=correct+horse").status_code == 401
    assert page.post("/login", data={"password": "correct horse"}).status_code == 303
    assert page.get("/").text == "0"


def test_another_password_closes_the_page_to_who_had_the_old_one() -> None:
    page = client("first password")
    page.post("/login", data={"password": "first password"})
    kept = f"distill_{PORT}={page.cookies[f'distill_{PORT}']}"
    assert client("first password").get("/", headers={"cookie": kept}).status_code == 200
    assert client("other password").get("/", headers={"cookie": kept}).status_code == 401


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:9999",
        "http://localhost:7860",
        "https://127.0.0.1",
        "http://[::",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_origins_are_refused(method: str, origin: str) -> None:
    answer = client().request(method, "/gradio_api/queue/join", headers={"cookie": COOKIE, "origin": origin})
    assert answer.status_code == 403
    assert "expected a request of this page, found one of another page" in answer.text


def test_the_page_itself_is_served() -> None:
    answer = client().post("/gradio_api/queue/join", headers={"cookie": COOKIE, "origin": HERE}, content=b"12345")
    assert answer.text == "5"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "10.0.0.1", "[::"])
def test_other_names_of_this_computer_are_refused(host: str) -> None:
    answer = client().get("/", headers={"cookie": COOKIE, "host": host})
    assert answer.status_code == 403
    assert "expected the address that distill ui printed, found another name; open that address" in answer.text


@pytest.mark.parametrize("host", ["localhost:8888", "127.0.0.1", "[::1]:7860", "LOCALHOST"])
def test_own_names_of_this_computer_are_served(host: str) -> None:
    assert client().get("/", headers={"cookie": COOKIE, "host": host}).status_code == 200


def test_a_page_for_a_network_is_reached_by_any_name() -> None:
    assert client(host="0.0.0.0", address="http://studio:7860").get("/", headers={"cookie": COOKIE}).status_code == 200


@pytest.mark.parametrize(("path", "said"), [("/gradio_api/upload", "expected at most 2 GiB"), ("/x", "expected less")])
@pytest.mark.parametrize("is_named", [True, False])
def test_long_requests_are_cut(monkeypatch: pytest.MonkeyPatch, path: str, said: str, is_named: bool) -> None:
    monkeypatch.setattr(guard, "MAX_REQUEST", 100)
    monkeypatch.setattr(guard, "MAX_FORM", 50)
    page, most = client(), 100 if path.endswith("upload") else 50
    sent = (lambda number: bytes(number)) if is_named else (lambda number: iter([bytes(10)] * (number // 10)))
    assert page.post(path, headers={"cookie": COOKIE}, content=sent(most)).text == str(most)
    answer = page.post(path, headers={"cookie": COOKIE}, content=sent(most + 10))
    assert (answer.status_code, f"{said}, found more" in answer.text) == (413, True)


@pytest.mark.parametrize("length", ["-1", "1e3", "²", "99999999999999999999"])
def test_forged_lengths_are_refused(length: str) -> None:
    answer = client().post("/x", headers={"cookie": COOKIE, "content-length": length.encode("latin-1")})
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/", "/x"])
@pytest.mark.parametrize("cookie", ["", COOKIE])
def test_answers_forbid_what_comes_from_elsewhere(path: str, cookie: str) -> None:
    answer = client().get(path, headers={"cookie": cookie})
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "http" not in HEADERS["content-security-policy"]


@pytest.mark.parametrize("cookie", ["", COOKIE])
def test_web_sockets_are_closed(cookie: str) -> None:
    page: Any = client()
    with pytest.raises(WebSocketDisconnect) as caught, page.websocket_connect("/", headers={"cookie": cookie}):
        pass
    assert caught.value.code == 1008
