"""A model hub on this machine: as much of the Hugging Face Hub's HTTP API as uploads and downloads of models need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_this_test"
LARGE = ".safetensors"  # goes by the protocol for large files, the rest into the commit itself


@dataclass
class Repository:
    """Commits by branch, the newest last: each has its files."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        sha = hashlib.sha1(json.dumps([content, len(self.commits)]).encode(), usedforsecurity=False).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha

    def at(self, revision: str) -> str | None:
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None


class Hub(ThreadingHTTPServer):
    """Repositories by name, files that were uploaded by their SHA-256, and what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        """What is there now; may be changed."""
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]


class Refused(Exception):  # noqa: N818
    def __init__(self, status: int, code: str = "", said: str = "") -> None:
        super().__init__(said or code)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int = 200, body: bytes | dict = b"", **headers: str) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_one(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append(f"{self.command} {path}")
        try:
            self.route(path.split("/"), data)
        except Refused as refused:
            headers = {"X_Error_Code": refused.code} if refused.code else {}
            self.answer(refused.status, {"error": str(refused)}, **headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815

    def route(self, parts: list[str], data: bytes) -> None:
        match parts:
            case ["api", "repos", "create"]:
                self.create(json.loads(data))
            case ["api", "validate-yaml"]:
                self.validate(json.loads(data)["content"])
            case ["api", "models", user, name]:
                self.info(f"{user}/{name}", "main")
            case ["api", "models", user, name, "revision", revision]:
                self.info(f"{user}/{name}", revision)
            case ["api", "models", user, name, "branch", branch]:
                repository = self.writable(f"{user}/{name}")
                if branch in repository.branches:
                    raise Refused(409, said="it is there")
                repository.branches[branch] = repository.branches["main"]
                self.answer()
            case ["api", "models", user, name, "preupload", _]:
                self.writable(f"{user}/{name}")
                asked = [file["path"] for file in json.loads(data)["files"]]
                modes = [(path, "lfs" if path.endswith(LARGE) else "regular") for path in asked]
                self.answer(
                    body={"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes]}
                )
            case ["api", "models", user, name, "commit", revision]:
                self.commit(f"{user}/{name}", revision, [json.loads(line) for line in data.splitlines()])
            case [user, git, "info", "lfs", "objects", "batch"]:
                self.writable(f"{user}/{git.removesuffix('.git')}")
                objects = json.loads(data)["objects"]
                for each in objects:
                    each["actions"] = {"upload": {"href": f"{self.server.url}/large/{each['oid']}"}}
                self.answer(body={"transfer": "basic", "objects": objects})
            case ["large", oid]:
                self.server.large[oid] = data
                self.answer()
            case [user, name, "resolve", revision, *file]:
                self.resolve(f"{user}/{name}", revision, "/".join(file))
            case _:
                raise Refused(404, said=f"no such place: {'/'.join(parts)}")

    def create(self, asked: dict) -> None:
        if not self.known():
            raise Refused(401, said="Invalid username or password.")
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            raise Refused(403, said="You don't have the rights to create a model here")
        url = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repositories:
            self.answer(409, url | {"error": "You already created this model repo"})
            return
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.server.repositories[name] = made = Repository(private)
        made.commit("main", {".gitattributes": b""})
        self.answer(body=url)

    def validate(self, content: str) -> None:
        try:
            yaml.safe_load(content.split("---\n")[1])
        except yaml.YAMLError as error:
            self.answer(400, {"errors": [{"message": str(error)}], "warnings": []})
            return
        self.answer(body={"errors": [], "warnings": []})

    def info(self, name: str, revision: str) -> None:
        repository, sha = self.readable(name), self.revision(name, revision)
        siblings = [{"rfilename": file, "size": len(data)} for file, data in repository.commits[sha].items()]
        said = {"id": name, "modelId": name, "sha": sha, "private": repository.private, "siblings": siblings}
        self.answer(body=said | {"tags": [], "downloads": 0})

    def commit(self, name: str, revision: str, lines: list[dict]) -> None:
        repository = self.writable(name)
        files = dict(repository.commits[self.revision(name, revision)])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        sha = repository.commit(revision, files)
        self.answer(body={"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository, sha = self.readable(name), self.revision(name, revision)
        if file not in repository.commits[sha]:
            raise Refused(404, "EntryNotFound")
        data = repository.commits[sha][file]
        etag = hashlib.sha256(data).hexdigest()
        self.answer(body=data, X_Repo_Commit=sha, ETag=f'"{etag}"')

    def known(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def readable(self, name: str) -> Repository:
        found = self.server.repositories.get(name)
        if found is None or (found.private and not self.known()):
            raise Refused(404, "RepoNotFound")
        return found

    def writable(self, name: str) -> Repository:
        if not self.known():
            raise Refused(401, said="Invalid username or password.")
        return self.readable(name)

    def revision(self, name: str, revision: str) -> str:
        if (sha := self.readable(name).at(revision)) is None:
            raise Refused(404, "RevisionNotFound")
        return sha
