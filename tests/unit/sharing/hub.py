"""The hub's HTTP API in memory, behind the real client: repositories of models with commits, LFS uploads, downloads."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

URL = "http://hub.test"
TOKEN, READ_TOKEN = "hf_writes", "hf_reads"
LFS_FROM = 1024  # bytes; smaller files are kept in the commit
Files = dict[str, bytes]
Json = dict[str, Any]


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


class Refused(Exception):
    """An answer with a status that is no success."""


@dataclass
class Hub:
    """What the hub has, what it was asked, and how it fails."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # LFS, by SHA-256
    asked: list[httpx2.Request] = field(default_factory=list)
    on_upload: Callable[[], None] | None = None  # called, then the connection breaks off
    on_half_download: Callable[[], None] | None = None  # the same
    status: int = 0  # answer to everything, unless 0
    shadow: dict[str, bytes] = field(default_factory=dict)  # bytes sent in place of a file

    def add(self, repository: str, files: Files) -> Repository:
        """A repository with one commit, made beforehand."""
        made = self.repositories.setdefault(repository, Repository())
        made.commit(files)
        return made

    def paths(self, method: str) -> list[str]:
        """Paths that were asked for by one method, in order."""
        return [one.url.path for one in self.asked if one.method == method]

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request, as a transport of the client does."""
        self.asked.append(request)
        try:
            if self.status:
                raise Refused(self.status, "", "of the test")
            for route, act in ROUTES.items():
                if found := re.fullmatch(route, request.url.path):
                    answer = act(self, request, *found.groups())
                    return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)
            raise Refused(404, "", "")
        except Refused as refused:
            status, code, message = refused.args
            return httpx2.Response(status, headers={"X-Error-Code": code, "X-Error-Message": message}, json={})

    def token_of(self, request: httpx2.Request) -> str:
        """The token of whoever asks. Refuses a wrong one, and one that may not do this."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in (TOKEN, READ_TOKEN):
            raise Refused(401, "", "Invalid credentials in Authorization header")
        if request.method in ("POST", "PUT") and token != TOKEN:
            raise Refused(403, "", "You don't have the rights to do this")
        return token

    def at(self, request: httpx2.Request, repository: str, revision: str | None) -> tuple[str, Files]:
        """A commit that whoever asks may see."""
        token = self.token_of(request)
        there = self.repositories.get(repository)
        if there is None or (there.private and not token):
            raise Refused(404 if token else 401, "RepoNotFound", "Repository not found")
        if there.gated:
            raise Refused(403, "GatedRepo", "Access to this model is restricted")
        wanted = there.commits[-1][0] if revision in (None, "main") else there.tags.get(revision, revision)
        for commit in there.commits:
            if commit[0] == wanted:
                return commit
        raise Refused(404, "RevisionNotFound", "Invalid rev id")

    def create(self, request: httpx2.Request) -> Json:
        self.token_of(request)
        asked = json.loads(request.content)
        name = f"{asked['organization']}/{asked['name']}"
        self.repositories[name] = Repository(asked.get("visibility") == "private")
        self.repositories[name].commit({})
        return {"url": f"{URL}/{name}"}

    def preupload(self, request: httpx2.Request, repository: str, revision: str) -> Json:
        self.at(request, repository, revision)
        rows = []
        for one in json.loads(request.content)["files"]:
            is_large = one["size"] >= LFS_FROM and one["path"] != "README.md"
            rows.append({"path": one["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False})
        return {"files": rows}

    def batch(self, request: httpx2.Request, repository: str) -> Json:
        self.at(request, repository, "main")
        rows = json.loads(request.content)["objects"]
        for one in rows:
            if one["oid"] not in self.objects:
                one["actions"] = {"upload": {"href": f"{URL}/upload/{one['oid']}"}}
        return {"transfer": "basic", "objects": rows}

    def upload(self, request: httpx2.Request, oid: str) -> Json:
        if self.on_upload:
            self.on_upload()
            raise httpx2.WriteError("the connection broke off")
        self.objects[oid] = request.content
        return {}

    def commit(self, request: httpx2.Request, repository: str, revision: str) -> Json:
        self.at(request, repository, revision)
        files, summary = {}, ""
        for line in map(json.loads, request.content.splitlines()):
            value, kind = line["value"], line["key"]
            summary = value["summary"] if kind == "header" else summary
            if kind in ("file", "lfsFile"):
                content = base64.b64decode(value["content"]) if kind == "file" else self.objects[value["oid"]]
                files[value["path"]] = content
        made = self.repositories[repository].commit(files, summary)
        return {"commitUrl": f"{URL}/{repository}/commit/{made}", "commitOid": made}

    def info(self, request: httpx2.Request, repository: str, revision: str | None) -> Json:
        name, files = self.at(request, repository, revision)
        about = {"id": repository, "sha": name, "private": self.repositories[repository].private}
        return {**about, "siblings": [{"rfilename": path} for path in files]}

    def resolve(self, request: httpx2.Request, repository: str, revision: str, path: str) -> httpx2.Response:
        name, files = self.at(request, repository, revision)
        data = self.shadow.get(path, files[path])
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        oid = hashlib.sha256(files[path]).hexdigest()
        headers = {"X-Repo-Commit": name, "X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        headers |= {"Content-Length": str(len(data) - begin)}
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"

        def parts() -> Iterator[bytes]:
            half = (begin + len(data)) // 2
            yield data[begin:half]
            if self.on_half_download:
                self.on_half_download()
                raise httpx2.RemoteProtocolError("the connection broke off")
            yield data[half:]

        content = b"" if request.method == "HEAD" else parts()
        return httpx2.Response(206 if asked else 200, headers=headers, content=content)


ROUTES: dict[str, Callable[..., Json | httpx2.Response]] = {
    r"/api/validate-yaml": lambda *_: {"errors": [], "warnings": []},
    r"/api/repos/create": Hub.create,
    r"/api/models/([^/]+/[^/]+)/preupload/(.+)": Hub.preupload,
    r"/api/models/([^/]+/[^/]+)/commit/(.+)": Hub.commit,
    r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?": Hub.info,
    r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": Hub.batch,
    r"/upload/(\w+)": Hub.upload,
    r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": Hub.resolve,
}
