"""Routes of the page: those of Gradio that it needs are open, all others closed."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from distill.ui.guard import UPLOADS, Receive, Scope, Send, sentence_page
from distill.ui.workspace import SPARE

_OPEN = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?|/(static|assets|svelte|job)/.*"
    r"|/gradio_api/(theme\.css|info|openapi\.json|startup-events|upload|upload_progress|reset|cancel|heartbeat/[^/]+)/?"
    r"|/gradio_api/(queue/(join|data|status)|call/.+|file=.+)",
    re.DOTALL,
)
_ADDRESS = re.compile(r"/gradio_api/file=\s*\w+:/", re.IGNORECASE)  # Gradio would fetch it from elsewhere


class Routes:
    """ASGI middleware: closes the routes that the page does not need, and uploads for which the disk is too full."""

    def __init__(self, app: Any, uploads: Path) -> None:
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of the page."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if not _OPEN.fullmatch(path) or _ADDRESS.match(path):
            await sentence_page("expected an address of this page, found another", 404)(scope, receive, send)
            return
        if path == UPLOADS and (refusal := self._refusal(dict(scope["headers"]).get(b"content-length"))):
            await refusal(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if path.startswith("/job/"):
                raise
            # Gradio's routes fail at data that no form sends, after an answer with status 500: no defect of ours.
            print(f"distill ui: {path[:100]!a}: {type(error).__name__}: {str(error)[:200]!a}", file=sys.stderr)

    def _refusal(self, length: bytes | None) -> Any:
        if length is None:
            return sentence_page("expected an upload that says how long it is, found one that does not", 411)
        free = shutil.disk_usage(self._uploads).free - SPARE
        if int(length) <= free:
            return None
        return sentence_page(
            f"expected {int(length) >> 20} MiB of free disk for this upload, found {max(0, free) >> 20} MiB; free some space",
            507,
        )
