"""The page's server: one address, behind the guard; files of jobs; no share links."""

import asyncio
import mimetypes
import os
import re
import secrets
import socket
import sys
import webbrowser
import zipfile
from io import BytesIO
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response

from distill.errors import ParamsError
from distill.storage.files import atomic_path
from distill.ui.guard import MAX_UPLOAD, Guard
from distill.ui.jobs import Jobs
from distill.ui.page import CSS, HEAD, build_page, theme
from distill.ui.workspace import Workspace

FIRST_PORT, PORTS = 7860, 40
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,}")
SHOWN = {".wav", ".flac", ".ogg", ".mp3", ".png", ".txt", ".sfz", ".dspreset"}  # files of jobs


def make_app(workspace: Workspace, token: str, password: str | None, port: int, host: str = "127.0.0.1") -> Guard:
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
        made = workspace.generated / job.id
        if path == "all.zip" and made.resolve() == made:
            return _archive(made, job.id)
        for folder in (job.folder, made):
            found = _inside(folder, path)
            if found is not None:
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
    # Gradio checks that files which a request names are uploads only in pages that it launched itself.
    page.has_launched = True
    return Guard(mounted, token, password, port, host)


def _inside(folder: Path, path: str) -> Path | None:
    """A file below a folder of jobs that may be shown; None for any other, and for one that a link leads to."""
    try:
        found = (folder / path).resolve()
        is_inside = folder.resolve() == folder and found.is_relative_to(folder) and found.is_file()
    except (OSError, ValueError):
        return None
    return found if is_inside and found.suffix.lower() in SHOWN else None


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
    app = make_app(workspace, token, password, port, host)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="on")
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
    if not _TOKEN.fullmatch(token):
        token = secrets.token_urlsafe(32)
        with atomic_path(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(token, encoding="ascii")
    return token
