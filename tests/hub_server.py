"""A server of the Hugging Face hub's protocol on this computer, for tests: what its client asks for to push and pull."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_testing"


@dataclass
class Repository:
    """Files by their paths in each commit, the newest last."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        return list(self.commits.values())[-1] if self.commits else {}

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        whole = {**self.files, **files}
        name = hashlib.sha1(f"{len(self.commits)}{sorted(whole)}".encode()).hexdigest()
        self.commits[name] = whole
        self.messages.append(message)
        return name


class Hub(ThreadingHTTPServer):
    """The server. `cut` breaks off the next so many uploads or downloads of large files in their middle."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.cut = 0
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def repository(self, name: str, files: dict[str, bytes]) -> Repository:
        made = self.repositories.setdefault(name, Repository())
        made.commit(files)
        return made

    def handle_error(self, *_: object) -> None:
        """A connection that is cut off is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        for method, pattern, handle in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split("|"):
                handle(self, *found.groups())
                return
        self._say(404, {"error": f"no such address: {path}"})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _say(self, status: int, value: Any, **headers: str) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, one in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), one)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._body()
        self._say(401, {"error": "Invalid credentials"})
        return False

    def _found(self, name: str) -> Repository | None:
        found = self.server.repositories.get(name)
        if found is None or (found.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self._body()
            self._say(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return found

    def info(self, name: str, revision: str | None = None) -> None:
        found = self._found(name)
        if found is None:
            return
        commits = list(found.commits)
        if revision not in (None, "main", *commits):
            self._say(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return
        commit = commits[-1] if revision in (None, "main") and commits else revision
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                **(
                    {"lfs": {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}}
                    if _is_large(path)
                    else {}
                ),
            }
            for path, content in found.commits.get(commit or "", {}).items()
        ]
        self._say(200, {"id": name, "modelId": name, "sha": commit, "private": found.private, "siblings": siblings})

    def create(self) -> None:
        if self._may_write():
            asked = json.loads(self._body())
            name = f"{asked['organization']}/{asked['name']}"
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.server.repositories.setdefault(name, Repository(private))
            self._say(200, {"url": f"{self.server.endpoint}/{name}", "name": name})

    def validate(self) -> None:
        self._body()
        self._say(200, {"errors": [], "warnings": []})

    def preupload(self, name: str) -> None:
        if self._may_write() and self._found(name) is not None:
            files = json.loads(self._body())["files"]
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if _is_large(one["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for one in files
            ]
            self._say(200, {"files": modes})

    def batch(self, name: str) -> None:
        if self._may_write() and self._found(name) is not None:
            asked = json.loads(self._body())["objects"]
            answers = [
                {**one}
                if one["oid"] in self.server.objects
                else {**one, "actions": {"upload": {"href": f"{self.server.endpoint}/objects/{one['oid']}"}}}
                for one in asked
            ]
            self._say(200, {"transfer": "basic", "objects": answers})

    def upload(self, oid: str) -> None:
        if self.server.cut > 0:
            self.server.cut -= 1
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self.close_connection = True
            self.connection.close()
            return
        content = self._body()
        assert _sha256(content) == oid
        self.server.objects[oid] = content
        self._say(200, {})

    def commit(self, name: str) -> None:
        found = self._found(name) if self._may_write() else None
        if found is None:
            return
        files: dict[str, bytes] = {}
        summary = ""
        for line in self._body().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                summary = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        commit = found.commit(files, summary)
        self._say(200, {"commitUrl": f"{self.server.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self._found(name)
        if found is None:
            return
        commits = list(found.commits)
        commit = commits[-1] if revision == "main" else revision
        content = found.commits.get(commit, {}).get(path)
        if content is None:
            self._say(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        headers = {"ETag": f'"{_sha256(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            first = int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self._send(206, content[first:], headers)
        elif self.command == "GET" and self.server.cut > 0:
            self.server.cut -= 1
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self._send(200, content, headers)


_NAME = r"([^/]+/[^/]+)"
_ROUTES = (
    ("GET", rf"/api/models/{_NAME}", _Handler.info),
    ("GET", rf"/api/models/{_NAME}/revision/(.+)", _Handler.info),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_NAME}/preupload/main", _Handler.preupload),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/objects/([0-9a-f]{64})", _Handler.upload),
    ("POST", rf"/api/models/{_NAME}/commit/main", _Handler.commit),
    ("GET|HEAD", rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_large(path: str) -> bool:
    return path.endswith(".distill")


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A server that ends with the context."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
