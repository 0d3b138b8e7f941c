"""A proxy before a store's server, which counts requests and can stop answering, as a network that is lost does."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


class LossyProxy:
    """Forwards requests to a server while `answers_left`, where it is a number, is above 0; then cuts connections."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.requests: list[str] = []  # method and path, of those that were forwarded
        self.answers_left: int | None = None
        self.before: Callable[[str], object] | None = None  # called with a request, before it is forwarded
        self._lock = threading.Lock()
        self.endpoint = ""

    def may_answer(self, request: str) -> bool:
        with self._lock:
            if self.answers_left is not None:
                if self.answers_left <= 0:
                    return False
                self.answers_left -= 1
            self.requests.append(request)
            return True

    def take_requests(self) -> list[str]:
        """The requests since the last call."""
        with self._lock:
            taken, self.requests = self.requests, []
        return taken


class _Handler(BaseHTTPRequestHandler):
    proxy: LossyProxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.proxy.may_answer(f"{self.command} {self.path}"):
            self.close_connection = True
            return
        if self.proxy.before is not None:
            self.proxy.before(f"{self.command} {self.path}")
        connection = http.client.HTTPConnection(self.proxy.upstream)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _BY_HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815 - names of http.server

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def lossy_proxy(upstream: str) -> Iterator[LossyProxy]:
    """A proxy to the server at this address, which ends with the context."""
    proxy = LossyProxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
