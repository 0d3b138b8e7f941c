"""The page's server: one address, a token or password for every request, files of jobs, no share links."""

import asyncio
import hmac
import mimetypes
import os
import secrets
import socket
import sys
import webbrowser
import zipfile
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response
from starlette.requests import Request

from distill.errors import ParamsError
from distill.storage.files import write_bytes
from distill.ui.jobs import Jobs
from distill.ui.page import CSS, HEAD, build_page, theme
from distill.ui.workspace import Workspace

FIRST_PORT, PORTS = 7860, 40
MAX_UPLOAD = 2 << 30  # bytes of one file
MAX_REQUEST = MAX_UPLOAD + (64 << 20)  # bytes of one request
WRONG_SECONDS = 1.0  # before the answer to a wrong password
SHOWN = {".wav", ".flac", ".ogg", ".mp3", ".png", ".txt", ".sfz", ".dspreset"}  # files of jobs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """ASGI middleware: lets in who has the token, from the address once and from a cookie then, or the password."""

    def __init__(self, app: Any, token: str, password: str | None, port: int) -> None:
        self._app, self._token, self._password, self._cookie = app, token, password, f"distill_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it in a sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if self._equal(request.cookies.get(self._cookie, ""), self._token):
            if scope["type"] == "http" and int(request.headers.get("content-length") or 0) > MAX_REQUEST:
                await _page(f"expected at most {MAX_UPLOAD >> 30} GiB, found more", 413)(scope, receive, send)
                return
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a web socket is closed without an answer
        await (await self._answer(request, receive))(scope, receive, send)

    async def _answer(self, request: Request, receive: Receive) -> Response:
        if self._password is None:
            given = request.query_params.get("token", "")
            if given and self._equal(given, self._token):
                return self._let_in(request)
            await asyncio.sleep(WRONG_SECONDS if given else 0)
            found = "a wrong one" if given else "none"
            return _page(
                f"expected the token of this page, found {found}; open the address that distill ui printed", 401
            )
        if request.method == "POST" and request.url.path == "/login":
            given = dict(parse_qsl((await _body(receive)).decode("utf-8", "replace"))).get("password", "")
            if self._equal(given, self._password):
                return self._let_in(request)
            await asyncio.sleep(WRONG_SECONDS)
            return _page("expected the password of this page, found a wrong one; try again", 401, with_form=True)
        return _page("this page needs its password", 401, with_form=True)

    def _let_in(self, request: Request) -> Response:
        rest = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != "token"])
        answer = Response(status_code=303, headers={"location": "/" + (f"?{rest}" if rest else "")})
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer

    @staticmethod
    def _equal(given: str, expected: str) -> bool:
        return hmac.compare_digest(given.encode(), expected.encode())


async def _body(receive: Receive, most: int = 4096) -> bytes:
    body = b""
    while len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body[:most]


def _page(text: str, status: int, with_form: bool = False) -> Response:
    form = (
        '<form method="post" action="/login"><label>Password <input type="password" name="password" autofocus></label> '
        "<button>Open</button></form>"
        if with_form
        else ""
    )
    html = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>Distill</title><style>:root{color-scheme:light dark;font-family:system-ui}body{margin:3rem auto;max-width:40rem;"
        f"padding:0 1rem}}</style><h1>Distill</h1><p>{escape(text)}</p>{form}</html>"
    )
    return Response(html, status_code=status, media_type="text/html")


def make_app(workspace: Workspace, token: str, password: str | None, port: int) -> Any:
    """The page as an ASGI app, behind its guard."""
    os.environ["GRADIO_TEMP_DIR"] = str(workspace.state / "ui" / "uploads")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    jobs = Jobs(workspace.root)

    @app.get("/job/{name}/{path:path}")
    def file_of_job(name: str, path: str) -> Response:
        """A sound or picture of a job, or all of its sounds as `all.zip`."""
        job = jobs.get(name)
        if job is None:
            raise HTTPException(404)
        folders = [job.folder.resolve(), (workspace.generated / job.id).resolve()]
        if path == "all.zip":
            return _archive(folders[1], job.id)
        for folder in folders:
            found = (folder / path).resolve()
            if found.is_relative_to(folder) and found.is_file() and found.suffix.lower() in SHOWN:
                kind = "text/plain" if found.suffix in (".sfz", ".dspreset") else mimetypes.guess_type(found.name)[0]
                return FileResponse(found, media_type=kind, headers={"cache-control": "no-cache"})
        raise HTTPException(404)

    page = build_page(workspace, jobs)
    page.queue(default_concurrency_limit=8)
    mounted = gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name="127.0.0.1",
        server_port=port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=[str(path) for path in workspace.kept_back],
        show_error=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=CSS,
        head=HEAD,
    )
    return Guard(mounted, token, password, port)


def _archive(folder: Path, name: str) -> Response:
    """All files below a folder as a zip archive."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix.lower() in SHOWN:
                archive.write(path, path.relative_to(folder))
    headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
    return Response(made.getvalue(), media_type="application/zip", headers=headers)


def serve(folder: Path, host: str, port: int | None, password: str | None, open_browser: bool) -> None:
    """Serve the page of a folder until Ctrl-C and print its address, the one line on stdout. Raises ParamsError."""
    workspace = Workspace(folder)
    bound = _bound(host, port)
    port = bound.getsockname()[1]
    token = _token(workspace)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + ("" if password is not None else f"?token={token}")
    app = make_app(workspace, token, password, port)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="on")
    server = _Server(config, address, open_browser)
    asyncio.run(server.serve(sockets=[bound]))
    running = Jobs(workspace.root).training()
    if running is not None:
        print(f"the page is closed; {running.title} goes on. distill ui shows it again", file=sys.stderr)


class _Server(uvicorn.Server):
    """Server that says where it is when it can answer."""

    def __init__(self, config: uvicorn.Config, address: str, open_browser: bool) -> None:
        super().__init__(config)
        self._address, self._open = address, open_browser

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._address, flush=True)
        if self._open:
            webbrowser.open(self._address)


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket at the port, or at the first free one where none is given. Raises ParamsError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tried = [port] if port is not None else [*range(FIRST_PORT, FIRST_PORT + PORTS)]
    for one in tried:
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, one))
            bound.listen(128)
        except OSError as error:
            bound.close()
            failure = error
            continue
        return bound
    where = f"--port {port}" if port is not None else f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1}"
    raise ParamsError(
        f"{where}: expected a free port at {host}, found {failure.strerror or failure}; choose another --port or --host"
    )


def _token(workspace: Workspace) -> str:
    """The token of a folder's page: the same every time, so that an open page finds its server again."""
    path = workspace.state / "ui" / "token"
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        token = ""
    if len(token) < 32:
        token = secrets.token_urlsafe(32)
        write_bytes(path, token.encode())
        path.chmod(0o600)
    return token
