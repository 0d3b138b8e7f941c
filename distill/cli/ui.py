"""`distill ui`."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from distill.cli.flags import make_folder, spelt
from distill.errors import ParamsError
from distill.process import no_proxies


def ui(
    port: Annotated[
        int | None,
        Option(help="port; without it the first free one from 7860 on", min=0, max=65535),
    ] = None,
    folder: Annotated[
        Path,
        Option(
            callback=spelt,
            metavar="DIR",
            help="folder of models, recordings and generated sounds; made if it is not there",
        ),
    ] = Path(),
    host: Annotated[
        str,
        Option(
            help="address to listen at; other computers reach the page only so, and need --password"
        ),
    ] = "127.0.0.1",
    password: Annotated[
        str | None,
        Option(
            help="password in place of the token in the address; better in DISTILL_UI_PASSWORD",
            envvar="DISTILL_UI_PASSWORD",
            show_envvar=False,
        ),
    ] = None,
    root_path: Annotated[
        str, Option(metavar="PATH", help="path that a proxy shows the page at, such as /distill")
    ] = "",
    open_browser: Annotated[bool, Option("--open", help="open the page in a browser")] = False,
) -> None:
    """Open the page: train, generate and compare without a terminal. Ctrl-C closes it; a training continues."""
    if folder.is_file():
        raise ParamsError(f"--folder {folder}: expected a folder, found a file; choose another")
    _check_access(host, password)
    if not re.fullmatch(r"(/[\w.~-]+)*", root_path, re.ASCII):
        raise ParamsError(
            f"--root-path {root_path}: expected a path such as /distill, found another; correct it"
        )
    make_folder("--folder", folder / ".distill")
    _serve(folder, host, port, password, open_browser, root_path)


def _serve(folder: Path, *arguments: Any) -> None:
    """Serve the page of a folder. Raises ParamsError if the page's packages are not installed."""
    try:
        with no_proxies():
            from distill.ui.server import serve
            from distill.ui.workspace import Workspace
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("gradio", "uvicorn", "fastapi"):
            raise
        raise ParamsError(
            f"distill ui: expected the page's packages, found no {error.name}; install them with "
            "`pip install 'distill-audio[ui]'`"
        ) from error
    serve(Workspace(folder), *arguments)


def _check_access(host: str, password: str | None) -> None:
    """Check that other computers reach the page only with a password, and that it is long. Raises ParamsError."""
    if password is not None and len(password) < 8:
        raise ParamsError(
            f"--password: expected 8 characters or more, found {len(password)}; choose a longer one"
        )
    if password is None and not _is_this_computer(host):
        raise ParamsError(
            f"--host {host}: expected --password beside an address that other computers reach, found none; put one into "
            "DISTILL_UI_PASSWORD"
        )


def _is_this_computer(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name
        return False
