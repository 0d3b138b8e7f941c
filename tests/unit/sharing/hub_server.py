"""A small server of the hub's HTTP API: repositories of models with commits, LFS uploads and downloads by ranges.

It answers the real client, in the order that the client asks: validate-yaml, create, preupload, LFS batch, upload,
commit; and model info, resolve, download. What it keeps is in memory.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN, READ_TOKEN = "hf_writes", "hf_reads"
LFS_FROM = 1024  # bytes; smaller files are kept in the commit
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits, oldest first, each with all its files; and names of commits."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, Files]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: Files, message: str = "") -> str:
        """Add a commit that changes these files."""
        whole = {**(self.commits[-1][1] if self.commits else {}), **files}
        name = hashlib.sha1(repr((len(self.commits), sorted(whole.items()))).encode()).hexdigest()
        self.commits.append((name, whole))
        self.messages.append(message)
        return name

    def at(self, revision: str) -> tuple[str, Files] | None:
        """The commit of a branch, a tag or its own name."""
        if revision == "main":
            return self.commits[-1]
        return next((one for one in self.commits if one[0] in (revision, self.tags.get(revision))), None)


@dataclass
class Hub:
    """What the server has, what it was asked, and how it fails."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # LFS, by SHA-256
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    on_half_upload: Callable[[], None] | None = None  # called, then the connection is closed
    on_half_download: Callable[[], None] | None = None
    status: int = 0  # answer to everything, unless 0
    shadow: dict[str, bytes] = field(default_factory=dict)  # bytes sent in place of an object

    def add(self, repository: str, files: Files) -> Repository:
        """A repository with one commit, made beforehand."""
        made = self.repositories.setdefault(repository, Repository(commits=[]))
        made.commit(files)
        self.objects |= {hashlib.sha256(data).hexdigest(): data for data in files.values()}
        return made

    def paths(self, method: str) -> list[str]:
        """Paths that were asked for by one method, in order."""
        return [path for one, path, _ in self.asked if one == method]


class Refused(Exception):
    """Answer with a status that is no success."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        """Answer one request."""
        parts = urlsplit(self.path)
        path, self.query = unquote(parts.path), parse_qs(parts.query)
        self.hub.asked.append((self.command, path, dict(self.headers)))
        try:
            with suppress(ConnectionError):
                self.dispatch(path)
        except Refused as refused:
            if self.command != "GET" and not getattr(self, "was_read", False):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self.send(
                refused.status, {"error": refused.message}, {key: value for key, value in headers.items() if value}
            )

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

    def dispatch(self, path: str) -> None:
        """Find what a path means."""
        self.was_read = False
        if self.hub.status:
            raise Refused(self.hub.status, message="of the test")
        routes: dict[str, Callable[..., None]] = {
            r"/api/validate-yaml": self.validate_yaml,
            r"/api/repos/create": self.create,
            r"/api/models/([^/]+/[^/]+)/preupload/(.+)": self.preupload,
            r"/api/models/([^/]+/[^/]+)/commit/(.+)": self.commit,
            r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?": self.info,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self.batch,
            r"/upload/(\w+)": self.upload,
            r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": self.resolve,
        }
        for route, act in routes.items():
            if found := re.fullmatch(route, path):
                return act(*found.groups())
        raise Refused(404)

    def validate_yaml(self) -> None:
        head = json.loads(self.body())["content"].split("---\n")[1]
        wrong = [] if isinstance(yaml.safe_load(head), dict) else [{"message": "no mapping"}]
        self.send(400 if wrong else 200, {"errors": wrong, "warnings": []})

    def create(self) -> None:
        self.require(TOKEN)
        asked = json.loads(self.body())
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            raise Refused(409, message="You already created this model repo")
        self.hub.repositories[name] = made = Repository(private=asked.get("visibility") == "private")
        made.commit({})
        self.send(200, {"url": f"{self.hub.url}/{name}"})

    def preupload(self, repository: str, revision: str) -> None:
        self.require(TOKEN)
        _, files = self.found(repository, revision)
        rows = []
        for one in json.loads(self.body())["files"]:
            mode = "lfs" if one["size"] >= LFS_FROM and one["path"] != "README.md" else "regular"
            row = {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}
            rows.append(row | ({"oid": _oid(files[one["path"]], mode)} if one["path"] in files else {}))
        self.send(200, {"files": rows})

    def batch(self, repository: str) -> None:
        self.require(TOKEN)
        self.found(repository, "main")
        rows = []
        for one in json.loads(self.body())["objects"]:
            there = one["oid"] in self.hub.objects
            href = {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}
            rows.append(one if there else {**one, "actions": href})
        self.send(200, {"transfer": "basic", "objects": rows})

    def upload(self, oid: str) -> None:
        data = b""
        for part in self.parts():
            data += part
            if self.hub.on_half_upload:
                self.hub.on_half_upload()
                self.close_connection = True
                return
        self.was_read = True
        self.hub.objects[oid] = data
        self.send(200, {})

    def commit(self, repository: str, revision: str) -> None:
        self.require(TOKEN)
        self.found(repository, revision)
        files: Files = {}
        message = ""
        for line in map(json.loads, self.body().splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        made = self.hub.repositories[repository].commit(files, message)
        self.send(200, {"commitUrl": f"{self.hub.url}/{repository}/commit/{made}", "commitOid": made})

    def info(self, repository: str, revision: str | None) -> None:
        name, files = self.found(repository, revision or "main")
        siblings = []
        for path, data in files.items():
            lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            with_blobs = "blobs" in self.query and len(data) >= LFS_FROM
            siblings.append({"rfilename": path, **({"size": len(data), "lfs": lfs} if with_blobs else {})})
        private = self.hub.repositories[repository].private
        self.send(200, {"id": repository, "sha": name, "private": private, "siblings": siblings})

    def resolve(self, repository: str, revision: str, path: str) -> None:
        name, files = self.found(repository, revision)
        if path not in files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        oid = hashlib.sha256(files[path]).hexdigest()
        data = self.hub.shadow.get(oid, files[path])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        headers = {"X-Repo-Commit": name, "X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        for key, text in {**headers, "Content-Length": str(len(data) - begin)}.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = (begin + len(data)) // 2
        self.wfile.write(data[begin:half])
        self.wfile.flush()
        if self.hub.on_half_download:
            self.hub.on_half_download()
            self.close_connection = True
            return
        self.wfile.write(data[half:])

    def found(self, repository: str, revision: str) -> tuple[str, Files]:
        """A commit that whoever asks may see."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in (TOKEN, READ_TOKEN):
            raise Refused(401, message="Invalid credentials in Authorization header")
        there = self.hub.repositories.get(repository)
        if there is None or (there.private and not token):
            raise Refused(404 if token else 401, "RepoNotFound", "Repository not found")
        if there.gated:
            raise Refused(403, "GatedRepo", "Access to this model is restricted")
        commit = there.at(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound", "Invalid rev id")
        return commit

    def require(self, token: str) -> None:
        """Refuse tokens without the right to write."""
        if self.headers.get("Authorization") != f"Bearer {token}":
            raise Refused(403, message="You don't have the rights to do this")

    def parts(self) -> Iterator[bytes]:
        """What is sent with the request, as it comes; half by half where its size was said."""
        size = int(self.headers.get("Content-Length", 0))
        if size:
            yield self.rfile.read(size // 2)
            yield self.rfile.read(size - size // 2)
        elif self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline() or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

    def body(self) -> bytes:
        """What was sent with the request."""
        self.was_read = True
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        """Answer with JSON."""
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes, mode: str) -> str:
    """Name of a file's contents: SHA-256 of LFS, git's own of others."""
    if mode == "lfs":
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub at an address of this computer, until the context ends."""
    hub = Hub()
    handler = type("OneHandler", (Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
