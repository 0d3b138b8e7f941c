"""Page and server: five tabs, by default on this computer only; access by a token, or by Gradio's password login."""

import os
import re
import secrets
import socket
import threading
import webbrowser
from html import escape
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distill.errors import ParamsError
from distill.process import say
from distill.storage.files import atomic_path
from distill.ui.compare_tab import CompareTab
from distill.ui.forms import QUIET, Page
from distill.ui.generate_tab import GenerateTab
from distill.ui.jobs import TRAININGS
from distill.ui.library_tab import LibraryTab
from distill.ui.prior_tab import PriorTab
from distill.ui.programs import Programs
from distill.ui.train_tab import TrainTab
from distill.ui.training_tab import GENERATE
from distill.ui.workspace import Workspace

# Browser policy: fetch nothing from other sites, and allow no other page to frame this page.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "connect-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
}
HERE = Path(__file__).parent


def theme() -> gr.Theme:
    """Theme with system fonts, so that nothing is fetched from other sites."""
    fonts: dict[str, Any] = {
        "font": ["system-ui", "sans-serif"],
        "font_mono": ["ui-monospace", "monospace"],
    }
    # The default greys and buttons have too little contrast, in light and dark mode.
    info = {"block_info_text_color": "*neutral_600", "block_info_text_color_dark": "*neutral_300"}
    label = {
        "block_label_text_color": "*neutral_700",
        "block_label_text_color_dark": "*neutral_200",
    }
    subdued = {"body_text_color_subdued": "*neutral_600", "input_placeholder_color": "*neutral_600"}
    button = {
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
    }
    return gr.themes.Default(primary_hue="blue", **fonts).set(**info, **label, **subdued, **button)


def build_page(workspace: Workspace) -> gr.Blocks:
    """Build the page of a working folder."""
    page: gr.Blocks
    cleaning = (3600, 24 * 3600)  # seconds between removals of uploads, and their maximum age
    with Page(
        title="Distill", analytics_enabled=False, fill_width=True, delete_cache=cleaning
    ) as page:
        gr.Markdown(
            "# Distill\nLearns a generative model of your own sounds, makes new ones, and says how new they are. "
            "To hear something at once, give one recording in the tab Generate."
        )
        timer = gr.Timer(1.0)  # seconds between updates
        with gr.Tabs() as tabs:
            with gr.Tab("Train"):
                train = TrainTab(workspace, timer, page)
            with gr.Tab("Prior") as prior_tab:
                prior = PriorTab(workspace, timer, page, prior_tab)
            with gr.Tab("Generate", id=GENERATE) as generate_tab:
                generate = GenerateTab(workspace, timer, page, generate_tab)
            with gr.Tab("Library") as library:
                LibraryTab(workspace, page, library, generate.model)
            with gr.Tab("Compare") as compare:
                CompareTab(workspace, compare)
        for trained in (train, prior):
            trained.use.click(trained.chosen, trained.job, [tabs, generate.model], **QUIET)
    return page


class Guard:
    """ASGI middleware: checks the token, in the address first, then in a cookie; rejects requests from other pages.

    With `token=None` all requests pass, and Gradio's login asks for a password.
    """

    def __init__(self, app: ASGIApp, token: str | None, port: int, root_path: str = "") -> None:
        self._app, self._token, self._cookie, self._root = app, token, f"distill_{port}", root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            return _sentence("expected a request of this page, found one of another page", 403)
        if re.search(r"/file[=/]\s*\w+:/", request.url.path):  # Gradio would fetch it
            return _sentence("expected a file of this page, found a web address", 403)
        if self._token is None or _are_equal(request.cookies.get(self._cookie, ""), self._token):
            return None
        if _are_equal(
            "/".join(request.url.path.split("/")[:3]), api_path(self._token)
        ):  # programs have no cookies
            return None
        token = request.query_params.get("token", "")
        if not _are_equal(token, self._token):
            other = "a wrong one" if token or request.url.path.startswith("/api/") else "none"
            text = f"expected the token of this page, found {other}; open the address that distill ui printed"
            return _sentence(text, 401)
        answer = RedirectResponse(
            f"{self._root}/?{request.url.remove_query_params('token').query}".rstrip("?"), 303
        )
        answer.set_cookie(self._cookie, token, httponly=True, samesite="strict")
        return answer


def api_path(token: str) -> str:
    """Path of the web API, for programs and HARP."""
    return f"/api/{token}"


def _are_equal(given: str, secret: str) -> bool:
    """Compare two texts in constant time."""
    return secrets.compare_digest(given.encode(), secret.encode())


def make_app(
    workspace: Workspace,
    token: str,
    password: str | None,
    port: int,
    host: str = "127.0.0.1",
    root_path: str = "",
) -> FastAPI:
    """Make the ASGI app of the page; `root_path` is its path behind a proxy."""
    os.environ["GRADIO_TEMP_DIR"] = str(workspace.uploads)
    guard = Middleware(
        Guard, token=token if password is None else None, port=port, root_path=root_path
    )
    page = build_page(workspace)
    page.state_session_capacity = 100  # pages whose state is kept, the most recently used
    page.queue(default_concurrency_limit=8)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=[guard])

    def mount(mounted: gr.Blocks, **about: Any) -> FastAPI:
        always: dict[str, Any] = {"server_name": host, "server_port": port, "max_file_size": "2gb"}
        app: FastAPI = gr.mount_gradio_app(
            server, mounted, enable_monitoring=False, **always, **about
        )
        # Gradio only checks that files in a request were uploaded if the page was launched.
        mounted.has_launched = True
        return app

    if password is None:  # not protected by Gradio's login
        mount(
            Programs(workspace).page(),
            path=api_path(token),
            allowed_paths=[str(workspace.generated)],
        )
    return mount(
        page,
        path="/",
        root_path=root_path or None,
        footer_links=[],
        run_history=False,
        auth=None if password is None else lambda _, given: _are_equal(given, password),
        auth_message="Any user name will do. The password is the one that distill ui was started with.",
        allowed_paths=[
            str(path) for path in (workspace.generated, workspace.models, workspace.state / "jobs")
        ],
        show_error=False,
        i18n=gr.I18n(en={"common.complete": "Done"}),  # missing in Gradio's translations
        theme=theme(),
        css_paths=HERE / "page.css",
        head_paths=[HERE / "head.html", HERE / "instrument.html"],
    )


def serve(
    workspace: Workspace,
    host: str,
    port: int | None,
    password: str | None,
    open_browser: bool,
    root_path: str,
) -> None:
    """Serve the page of a folder until Ctrl-C; print its address as the only line on stdout. Raises ParamsError."""
    bound = _bound(host, port)
    port = bound.getsockname()[1]
    token = _token(workspace)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if password is None else "")
    app = make_app(workspace, token, password, port, host, root_path)
    server = uvicorn.Server(
        uvicorn.Config(app, ws="none", log_level="error", timeout_graceful_shutdown=2)
    )
    print(address, flush=True)  # the socket already listens, so early requests wait for the server
    if open_browser:  # in a thread, since opening some browsers blocks until they are closed
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
    try:
        server.run(sockets=[bound])
    except KeyboardInterrupt:
        pass  # the normal way to stop
    finally:
        workspace.jobs.end()
        for job in workspace.jobs.running(*TRAININGS):
            say(f"the page is closed; {job.title} goes on. distill ui shows it again")


def _bound(host: str, port: int | None) -> socket.socket:
    """Bind a socket to the port, or to the first free port if None. Raises ParamsError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port is None:
        where, numbers = "ports 7860 to 7899", range(7860, 7900)
    else:
        where, numbers = f"--port {port}", range(port, port + 1)
    for number in numbers:
        try:
            return socket.create_server((host, number), family=family)
        except OSError as error:
            failure = str(error.strerror or error).partition(" (while")[0]
    raise ParamsError(
        f"{where}: expected a free port at {host}, found {failure}; choose another --port or --host"
    )


def _token(workspace: Workspace) -> str:
    """Token of a folder's page, kept between runs so that open pages can reconnect."""
    path = workspace.state / "ui" / "token"
    token = path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""
    if not re.fullmatch(r"[A-Za-z0-9_-]{32,}", token):
        token = secrets.token_urlsafe(32)
        with atomic_path(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(token, encoding="ascii")
    return token


def _sentence(text: str, status: int) -> Response:
    return HTMLResponse(
        (HERE / "sentence.html").read_text(encoding="utf-8").replace("SENTENCE", escape(text)),
        status,
    )
