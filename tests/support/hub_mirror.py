"""A Hub on 127.0.0.1: data set and model repositories from a folder, served as `huggingface_hub` and `datasets` ask for them.

    with HubMirror(folder) as mirror:  # folder/<namespace>/<name>/… is the newest commit of <namespace>/<name>
        subprocess.run(…, env={…, **mirror.environment(tmp_path)})
    mirror.sent("data/test-")  # bytes of files whose path holds this

Large files (parquet, pictures) answer a resolve request with a redirect to another host name, as the Hub
sends its clients to a content network; small ones are sent at once. Uploads go by git-LFS: Xet is switched off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "m" * 34  # the one token that is accepted; it is the user's named in `USER`
USER = "tester"
LARGE = (".parquet", ".png", ".jpg", ".safetensors", ".bin")


# What the Hub knows of licences and sizes, as far as cards of these tests have any.
LICENCES = ("mit", "apache-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "other", "unknown")
SIZES = (
    "n<1K",
    "1K<n<10K",
    "10K<n<100K",
    "100K<n<1M",
    "1M<n<10M",
    "10M<n<100M",
    "100M<n<1B",
    "1B<n<10B",
    "10B<n<100B",
    "100B<n<1T",
    "n>1T",
)


class _Strict(yaml.SafeLoader):
    """YAML in which no key may come twice, as the Hub reads it."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise yaml.constructor.ConstructorError(
            None, None, f"duplicated mapping key '{twice[0]}'", node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def card_errors(text: str) -> list[str]:
    """What the Hub refuses in the metadata of a data set's card; a card without metadata is sound."""
    if not text.startswith("---\n"):
        return []
    try:
        head = yaml.load(text.split("---\n", 2)[1], _Strict)
    except (yaml.YAMLError, IndexError) as error:
        return [f"YAML: {' '.join(str(error).split())}"]
    if not isinstance(head, dict):
        return ["metadata must be an object"]
    errors = []
    licences = head.get("license", [])
    for licence in licences if isinstance(licences, list) else [licences]:
        if licence not in LICENCES:
            errors.append(f'"license" must be one of {", ".join(LICENCES)}')
        if licence == "other" and not re.fullmatch(r"[a-z0-9-.]+", head.get("license_name", "")):
            errors.append('"license_name" must be lower-case and without blanks')
    sizes = head.get("size_categories", [])
    if not isinstance(sizes, list) or not all(size in SIZES for size in sizes):
        errors.append(f'"size_categories" must be a list of {", ".join(SIZES)}')
    for name in ("tags", "language", "task_categories"):
        if not isinstance(head.get(name, []), list) or not all(
            isinstance(one, str) for one in head.get(name, [])
        ):
            errors.append(f'"{name}" must be a list of texts')
    configs = head.get("configs", [])
    names = [config.get("config_name") for config in configs]
    if None in names or len(set(names)) < len(names):
        errors.append('"config_name" is missing or comes twice')
    for config in configs:
        files = config.get("data_files", [])
        splits = [entry.get("split") for entry in files if isinstance(entry, dict) and entry.get("path")]
        if len(splits) < len(files) or None in splits or len(set(splits)) < len(splits):
            errors.append(
                f'"data_files" of {config.get("config_name")}: split or path is missing, or a split comes twice'
            )
    return errors


def check_card(folder: str | Path) -> None:
    """A made data set's card: sound, with a licence and a size; where it names its files, they are there."""
    text = Path(folder, "README.md").read_text(encoding="utf-8")
    assert card_errors(text) == [] and text.startswith("---\n")
    head = yaml.load(text.split("---\n")[1], _Strict)
    assert head["license"] and len(head["size_categories"]) == 1 and head["tags"]
    for config in head.get("configs", []):
        for entry in config["data_files"]:
            assert list(Path(folder).glob(entry["path"])), entry


@dataclass
class Request:
    """One answered request; `file` is `<namespace>/<name>/<path>` where it was about a file's bytes."""

    method: str
    path: str
    status: int = 0
    sent: int = 0
    file: str | None = None
    range: str | None = None
    token: str | None = None


@dataclass
class Fault:
    """Close the connection after `after` bytes of a file whose path holds `part`, `times` times."""

    part: str
    after: int
    times: int


@dataclass
class HubMirror:
    """The server, in a thread of its own while the `with` block lasts.

    Attributes:
        root: the repositories, by namespace and name.
        gated, private: ids of repositories that only the token opens (for gated ones: the files alone).
        faults: what goes wrong, see `Fault`.
        log: the requests so far.
    """

    root: Path
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    log: list[Request] = field(default_factory=list)

    def __enter__(self) -> HubMirror:
        self._digests: dict[tuple, tuple[str, str]] = {}
        self._objects: dict[str, Path] = {}
        self._uploads = self.root.parent / (self.root.name + ".uploads")
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"mirror": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *unused) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, cache: Path) -> dict[str, str]:
        """The variables of a process that takes this for the Hub and keeps what it fetches under `cache`."""
        unset = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "REMEM_DATA")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        return {
            **kept,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_DATASETS_CACHE": str(cache / "datasets"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "OMP_NUM_THREADS": "1",
        }

    def files_sent(self) -> set[str]:
        """Paths of the files of which any byte was sent."""
        return {entry.file for entry in self.log if entry.file and entry.sent}

    def sent(self, part: str) -> int:
        """Bytes sent of files whose path holds `part`."""
        return sum(entry.sent for entry in self.log if entry.file and part in entry.file)

    # Repositories

    def repo(self, repo_id: str) -> Path | None:
        folder = self.root / repo_id
        return folder if folder.is_dir() else None

    def files(self, repo_id: str) -> dict[str, Path]:
        folder = self.root / repo_id
        found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
        return dict(sorted(found.items()))

    def digests(self, file: Path) -> tuple[str, str]:
        """(git blob id, sha256) of a file, both in hex."""
        state = file.stat()
        key = (file, state.st_size, state.st_mtime_ns)
        if key not in self._digests:
            content = file.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._digests[key] = (blob, hashlib.sha256(content).hexdigest())
        return self._digests[key]

    def commit(self, repo_id: str) -> str:
        """40 hex digits that change when any file does."""
        text = "".join(f"{path} {self.digests(file)[0]}\n" for path, file in self.files(repo_id).items())
        return hashlib.sha1(f"{repo_id}\n{text}".encode()).hexdigest()

    def tree(self, repo_id: str, under: str = "", recursive: bool = True) -> list[dict]:
        entries, folders = [], set()
        for path, file in self.files(repo_id).items():
            if under and not path.startswith(under + "/"):
                continue
            inner = path[len(under) + 1 if under else 0 :]
            parents = inner.split("/")[:-1]
            for depth in range(1, len(parents) + 1 if recursive else min(len(parents), 1) + 1):
                folders.add("/".join([*([under] if under else []), *parents[:depth]]))
            if recursive or not parents:
                entries.append(self.entry(path, file))
        return [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in sorted(folders)
        ] + entries

    def entry(self, path: str, file: Path) -> dict:
        blob, sha256 = self.digests(file)
        size = file.stat().st_size
        entry = {"type": "file", "oid": blob, "size": size, "path": path}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 134}
        return entry

    def info(self, repo_id: str) -> dict:
        return {
            "id": repo_id,
            "author": repo_id.split("/")[0],
            "sha": self.commit(repo_id),
            "private": repo_id in self.private,
            "gated": "auto" if repo_id in self.gated else False,
            "disabled": False,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in self.files(repo_id)],
        }

    def write(self, repo_id: str, lines: list[dict]) -> str | None:
        """Carry out a commit; the reason why not, or None."""
        folder = self.root / repo_id
        for line in lines:
            value = line["value"]
            if line["key"] in ("deletedFile", "deletedFolder"):
                gone = folder / value["path"]
                shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
            elif line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                if value["path"] == "README.md" and (errors := card_errors(content.decode())):
                    return f"Invalid metadata in README.md: {errors[0]}"
                (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                stored = self._uploads / value["oid"]
                if not stored.is_file() or stored.stat().st_size != value["size"]:
                    return f"no object {value['oid']}"
                (folder / value["path"]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(stored, folder / value["path"])
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirror: HubMirror

    def log_message(self, *unused) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # Answers

    def _send(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, size: int | None = None
    ):
        self.entry.status = status
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.entry.sent += len(body)

    def _json(self, content, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(
            status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _refuse(self, status: int, code: str = "", message: str = "", commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self._json({"error": message}, status, {name: value for name, value in headers.items() if value})

    def _no_repo(self) -> None:
        if self.entry.token == TOKEN:
            self._refuse(404, "RepoNotFound", "Repository not found")
        else:  # as the Hub says it to strangers, who may not know what exists
            self._refuse(401, "RepoNotFound" if not self.entry.token else "", "Invalid username or password.")

    def _file(self, name: str, file: Path, headers: dict[str, str]) -> None:
        """The bytes of a file, or those of the one range that is asked for."""
        self.entry.file = name
        size = file.stat().st_size
        first, last, status = 0, size - 1, 200
        if asked := self.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first = int(start) if start else size - int(end)
            last = min(int(end), size - 1) if start and end else size - 1
            if first >= size:
                self._send(416, headers={"Content-Range": f"bytes */{size}"})
                return
            status = 206
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}
        self.entry.status = status
        self.send_response(status)
        for key, value in {
            **headers,
            "Accept-Ranges": "bytes",
            "Content-Length": str(last - first + 1),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = next((fault for fault in self.mirror.faults if fault.part in name and fault.times), None)
        stop = last + 1
        if fault:
            fault.times -= 1
            stop = min(stop, first + fault.after)
            self.close_connection = True
        with file.open("rb") as stream:
            stream.seek(first)
            while first < stop:
                block = stream.read(min(1 << 18, stop - first))
                self.wfile.write(block)
                self.entry.sent += len(block)
                first += len(block)

    # Requests

    def _begin(self) -> list[str]:
        """The parts of the path; the entry of the log is made, the body read."""
        self.entry = Request(
            self.command,
            self.path,
            range=self.headers.get("Range"),
            token=(self.headers.get("Authorization") or "").removeprefix("Bearer ") or None,
        )
        self.mirror.log.append(self.entry)
        split = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return [unquote(part) for part in split.path.strip("/").split("/")]

    def _may_read(self, repo_id: str) -> bool:
        return self.mirror.repo(repo_id) is not None and (
            repo_id not in self.mirror.private or self.entry.token == TOKEN
        )

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match self._begin():
            case ["lfs", oid] if oid in self.mirror._objects:
                file = self.mirror._objects[oid]
                self._file(file.relative_to(self.mirror.root).as_posix(), file, {"ETag": f'"{oid}"'})
            case ["datasets", owner, name, "resolve", revision, *path] | [
                owner,
                name,
                "resolve",
                revision,
                *path,
            ]:
                self._resolve(f"{owner}/{name}", revision, "/".join(path))
            case ["api", "datasets" | "models", owner, name, *rest]:
                repo_id = f"{owner}/{name}"
                if not self._may_read(repo_id):
                    self._no_repo()
                    return
                commit = self.mirror.commit(repo_id)
                if len(rest) >= 2 and rest[1] not in ("main", commit):
                    self._refuse(404, "RevisionNotFound", "Invalid rev id")
                    return
                match rest:
                    case [] | ["revision", _]:
                        self._json(self.mirror.info(repo_id))
                    case ["tree", _, *path]:
                        recursive = self.query.get("recursive", "false").lower() == "true"
                        self._json(self.mirror.tree(repo_id, "/".join(path), recursive))
                    case _:
                        self._refuse(404)
            case ["api", "whoami-v2"] if self.entry.token == TOKEN:
                self._json({"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})
            case _:
                self._refuse(404)

    def _resolve(self, repo_id: str, revision: str, path: str) -> None:
        mirror = self.mirror
        if not self._may_read(repo_id):
            self._no_repo()
            return
        commit = mirror.commit(repo_id)
        if revision not in ("main", commit):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        if repo_id in mirror.gated and self.entry.token != TOKEN:
            self._refuse(401, "GatedRepo", "Access to this dataset is restricted.", commit)
            return
        file = mirror.files(repo_id).get(path)
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found", commit)
            return
        blob, sha256 = mirror.digests(file)
        headers = {"X-Repo-Commit": commit}
        if not path.endswith(LARGE):
            self._file(f"{repo_id}/{path}", file, {**headers, "ETag": f'"{blob}"'})
            return
        mirror._objects[sha256] = file
        size = str(file.stat().st_size)
        headers |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": size}
        self._send(302, headers={**headers, "Location": f"http://localhost:{mirror.port}/lfs/{sha256}"})

    def do_PUT(self) -> None:
        match self._begin():
            case ["upload", oid] if hashlib.sha256(self.body).hexdigest() == oid:
                self.mirror._uploads.mkdir(exist_ok=True)
                (self.mirror._uploads / oid).write_bytes(self.body)
                self._send(200, headers={"ETag": f'"{oid}"'})
            case _:
                self._refuse(400, message="not the bytes that were announced")

    def do_POST(self) -> None:
        parts = self._begin()
        mirror = self.mirror
        if parts == ["api", "validate-yaml"]:
            errors = card_errors(json.loads(self.body)["content"])
            told = {"errors": [{"message": error} for error in errors], "warnings": []}
            self._json(told, 400 if errors else 200)
            return
        if parts[:2] in (["api", "datasets"], ["api", "models"]) and parts[4:5] == ["paths-info"]:
            repo_id = "/".join(parts[2:4])
            if not self._may_read(repo_id):
                self._no_repo()
                return
            files, wanted = mirror.files(repo_id), parse_qs(self.body.decode()).get("paths", [])
            self._json([mirror.entry(path, files[path]) for path in wanted if path in files])
            return
        if self.entry.token != TOKEN:
            self._refuse(401, message="Invalid username or password.")
            return
        if parts == ["api", "repos", "create"]:
            asked = json.loads(self.body)
            repo_id = f"{asked.get('organization') or USER}/{asked['name']}"
            if not repo_id.startswith(USER + "/"):
                self._refuse(
                    403, message="You don't have the rights to create a dataset under this namespace"
                )
                return
            under = "datasets/" if asked.get("type") == "dataset" else ""
            answer = {"url": f"{mirror.url}/{under}{repo_id}", "name": repo_id}
            if mirror.repo(repo_id):
                self._json({**answer, "error": "You already created this dataset repo"}, 409)
                return
            (mirror.root / repo_id).mkdir(parents=True)
            (mirror.root / repo_id / ".gitattributes").write_text(
                "*.parquet filter=lfs diff=lfs merge=lfs -text\n"
            )
            if asked.get("visibility") == "private":
                mirror.private.add(repo_id)
            self._json(answer)
            return
        match parts:
            case ["api", "datasets" | "models", owner, name, "preupload" | "commit" as what, _]:
                repo_id = f"{owner}/{name}"
            case ["datasets", owner, name, "info", "lfs", "objects", "batch" as what] | [
                owner,
                name,
                "info",
                "lfs",
                "objects",
                "batch" as what,
            ]:
                repo_id = f"{owner}/{name.removesuffix('.git')}"
            case _:
                self._refuse(404)
                return
        if mirror.repo(repo_id) is None:
            self._no_repo()
        elif owner != USER:
            self._refuse(403, message="You don't have the rights to write to this dataset")
        elif what == "preupload":
            files = json.loads(self.body)["files"]
            known = mirror.files(repo_id)
            self._json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                            "shouldIgnore": False,
                            "oid": mirror.digests(known[file["path"]])[0] if file["path"] in known else None,
                        }
                        for file in files
                    ]
                }
            )
        elif what == "batch":
            objects = []
            for asked in json.loads(self.body)["objects"]:
                there = (mirror._uploads / asked["oid"]).is_file()
                upload = {"upload": {"href": f"{mirror.url}/upload/{asked['oid']}", "header": {}}}
                objects.append({**asked, **({} if there else {"actions": upload})})
            self._json({"transfer": "basic", "objects": objects})
        else:
            lines = [json.loads(line) for line in self.body.splitlines()]
            with mirror._lock:
                refusal = mirror.write(repo_id, lines)
            if refusal:
                self._refuse(400, message=refusal)
            else:
                commit = mirror.commit(repo_id)
                under = "datasets/" if "datasets" in parts[:2] else ""
                url = f"{mirror.url}/{under}{repo_id}/commit/{commit}"
                self._json({"commitUrl": url, "commitOid": commit, "commitMessage": "", "success": True})
