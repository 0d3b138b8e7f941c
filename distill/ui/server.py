"""The page's server: one address, behind the guard; files of jobs; no share links."""

import asyncio
import mimetypes
import os
import re
import secrets
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response, StreamingResponse

from distill.errors import ParamsError
from distill.storage.files import atomic_path
from distill.ui import connections
from distill.ui.guard import MAX_UPLOAD, Guard
from distill.ui.jobs import Jobs
from distill.ui.page import CSS, HEAD, build_page, theme
from distill.ui.reading import read_text
from distill.ui.routes import Routes
from distill.ui.uploads import remove_old, zipped
from distill.ui.workspace import Workspace

FIRST_PORT, PORTS = 7860, 40
KEEP = "async_move_resource_to_block_cache"  # of Gradio's components
MOST_QUEUED = 400  # events of all pages that wait
CLEANING_SECONDS = 3600
MOST_SESSIONS = 100  # open pages whose state is kept, those that asked last; a page that is loaded again is another one
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,}")
SHOWN = {".wav", ".flac", ".ogg", ".mp3", ".png", ".txt", ".sfz", ".dspreset"}  # files of jobs


def make_app(workspace: Workspace, token: str, password: str | None, port: int, host: str = "127.0.0.1") -> Guard:
    """The page as an ASGI app, behind its guard."""
    os.environ["GRADIO_TEMP_DIR"] = str(workspace.state / "ui" / "uploads")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_cleaning(workspace))
    jobs = Jobs(workspace.root)

    @app.get("/job/{name}/{path:path}")
    def file_of_job(name: str, path: str) -> Response:
        """A sound or picture of a job, or all of its sounds as `all.zip`."""
        job = jobs.get(name)
        if job is None:
            raise HTTPException(404)
        made = workspace.generated / job.id
        if path == "all.zip" and made.resolve() == made:
            named = {"content-disposition": f'attachment; filename="{job.id}.zip"'}
            return StreamingResponse(zipped(made, SHOWN), media_type="application/zip", headers=named)
        for folder in (job.folder, made):
            found = _inside(folder, path)
            if found is not None:
                kind = "text/plain" if found.suffix in (".sfz", ".dspreset") else mimetypes.guess_type(found.name)[0]
                return FileResponse(found, media_type=kind, headers={"cache-control": "no-cache"})
        raise HTTPException(404)

    page = build_page(workspace, jobs)
    page.state_session_capacity = MOST_SESSIONS
    page.queue(default_concurrency_limit=8, max_size=MOST_QUEUED)
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
    # Gradio checks that files which a request names are uploads only in pages that it launched itself.
    page.has_launched = True
    for component in page.blocks.values():
        vars(component)[KEEP] = _uploads_only(getattr(component, KEEP))
    uploads = workspace.state / "ui" / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    return Guard(Routes(mounted, uploads), token, password, port, host)


def _uploads_only(keep: Callable[[Any], Awaitable[str | None]]) -> Callable[[Any], Awaitable[str | None]]:
    """What a component does with a file that a form names: an address is refused, which Gradio would fetch from elsewhere."""

    async def kept(path: Any) -> str | None:
        if isinstance(path, str) and "://" in path:
            raise gr.Error(
                "expected a file that was uploaded, found an address; upload the file", print_exception=False
            )
        return await keep(path)

    return kept


def _cleaning(workspace: Workspace) -> Callable[[FastAPI], Any]:
    """Removes uploads that nobody used, as long as the page is served."""

    @asynccontextmanager
    async def cleaning(_: FastAPI) -> AsyncIterator[None]:
        async def clean() -> None:
            while True:
                await asyncio.to_thread(remove_old, workspace.state / "ui" / "uploads")
                await asyncio.sleep(CLEANING_SECONDS)

        task = asyncio.create_task(clean())
        yield
        task.cancel()

    return cleaning


def _inside(folder: Path, path: str) -> Path | None:
    """A file below a folder of jobs that may be shown; None for any other, and for one that a link leads to."""
    try:
        found = (folder / path).resolve()
        is_inside = folder.resolve() == folder and found.is_relative_to(folder) and found.is_file()
    except (OSError, ValueError):
        return None
    return found if is_inside and found.suffix.lower() in SHOWN else None


def serve(folder: Path, host: str, port: int | None, password: str | None, open_browser: bool) -> None:
    """Serve the page of a folder until Ctrl-C and print its address, the one line on stdout. Raises ParamsError."""
    workspace = Workspace(folder)
    workspace.check()
    bound = _bound(host, port)
    port = bound.getsockname()[1]
    token = _token(workspace)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + ("" if password is not None else f"?token={token}")
    app = make_app(workspace, token, password, port, host)
    config = uvicorn.Config(
        app,
        http=connections.Connection,
        ws="none",
        lifespan="on",
        log_level="error",  # a warning for each wrong request would fill the disk that a log is on
        access_log=False,
        proxy_headers=False,  # who is tried for a password is who connects
        backlog=connections.BACKLOG,
        timeout_keep_alive=connections.KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, address, open_browser)
    try:
        asyncio.run(server.serve(sockets=[bound]))
    except KeyboardInterrupt:
        pass  # the way to close it
    finally:
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
            bound.listen(connections.BACKLOG)
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
        token = read_text(path, 1000).strip()
    except (OSError, ValueError):
        token = ""
    if not _TOKEN.fullmatch(token):
        token = secrets.token_urlsafe(32)
        with atomic_path(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(token, encoding="ascii")
    return token
