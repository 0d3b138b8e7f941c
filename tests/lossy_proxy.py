"""Proxy in front of an object store, which records requests and can simulate a lost network."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


class LossyProxy(ThreadingHTTPServer):
    """Forward `answers_left` requests to a server, then cut connections; None means no limit."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.endpoint = urlsplit(upstream).netloc, f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[str] = []  # method and path of forwarded requests
        self.answers_left: int | None = None
        self.before: Callable[[str], object] | None = None  # called with each request before it is forwarded
        self.lock = threading.Lock()

    def take_requests(self) -> list[str]:
        """Requests since the last call."""
        with self.lock:
            taken, self.requests = self.requests, []
        return taken


class _Handler(BaseHTTPRequestHandler):
    server: LossyProxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body, proxy = self.rfile.read(int(self.headers.get("Content-Length") or 0)), self.server
        with proxy.lock:
            if proxy.answers_left is not None:
                proxy.answers_left -= 1
            self.close_connection = proxy.answers_left is not None and proxy.answers_left < 0
            if self.close_connection:
                return
            proxy.requests.append(f"{self.command} {self.path}")
        if proxy.before is not None:
            proxy.before(f"{self.command} {self.path}")
        connection = http.client.HTTPConnection(proxy.upstream)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
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

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def lossy_proxy(upstream: str) -> Iterator[LossyProxy]:
    """Run a proxy to the server at address `upstream` within the context."""
    with LossyProxy(upstream) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield proxy
        proxy.shutdown()
