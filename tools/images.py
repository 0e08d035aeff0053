# SPDX-License-Identifier: Apache-2.0
"""A registry of images on loopback: what engines fetch from, for tests and demos."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_TOOLS = (
    *("sh", "cat", "dd", "df", "echo", "grep", "head", "httpd", "id", "ln", "ls", "mkdir", "mknod"),
    *(
        "mount",
        "nc",
        "nslookup",
        "ping",
        "ps",
        "rm",
        "seq",
        "sleep",
        "stat",
        "test",
        "touch",
        "wget",
    ),
    *(
        "wc",
        "yes",
        "hostname",
        "ip",
        "kill",
        "env",
        "true",
        "false",
        "udhcpc",
        "awk",
        "chown",
        "su",
    ),
)


def layer(files: Mapping[str, bytes | str], directories: tuple[str, ...] = ()) -> bytes:
    """A layer of files; a text is where a link goes to."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in directories:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def shell_layer(busybox: Path) -> bytes:
    """A layer with a shell and its tools."""
    links = {f"bin/{name}": "busybox" for name in _TOOLS}
    users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    return layer(
        {"bin/busybox": busybox.read_bytes(), "etc/passwd": users, **links},
        ("bin", "etc", "tmp", "root", "var", "var/lib", "home"),
    )


class Registry:
    """See the module. `host` is what images are named after; `user` is `name:password` where it
    asks for them. Make it where engines find it.
    """

    def __init__(self, user: str = "") -> None:
        self._user = base64.b64encode(user.encode()).decode()
        self._blobs: dict[str, tuple[str, bytes]] = {}
        self._tags: dict[str, str] = {}
        #: Parts of images do not come, and after `first` bytes of each; or their manifests do not.
        self.stalls, self.silent = threading.Event(), threading.Event()
        self.first = 0
        self.asked: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self.stalls.clear()
        self.silent.clear()
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, *layers: bytes, **config: Any) -> str:
        """An image of uncompressed layers; its name by digest."""
        packed = [gzip.compress(one, 1) for one in layers]
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [_digest(one) for one in layers]},
            "history": [],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._keep(_CONFIG, json.dumps(document).encode()),
            "layers": [self._keep(_LAYER, one) for one in packed],
        }
        digest = str(self._keep(_MANIFEST, json.dumps(manifest).encode())["digest"])
        path, _, tag = name.partition(":")
        self._tags[f"{path}/manifests/{tag or 'latest'}"] = digest
        return f"{self.host}/{path}@{digest}"

    def _keep(self, kind: str, data: bytes) -> dict[str, Any]:
        digest = _digest(data)
        self._blobs[digest] = kind, data
        return {"mediaType": kind, "size": len(data), "digest": digest}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request of an engine."""
        path = request.path.removeprefix("/v2/")
        self.asked.append(path)
        if self._user and request.headers.get("Authorization", "") != f"Basic {self._user}":
            self._say(request, 401, "text/plain", b"who is there?")
            return
        found = self._blobs.get(self._tags.get(path, path.rpartition("/")[2]))
        if path == "":
            self._say(request, 200, "application/json", b"{}")
        elif found is None:
            self._say(request, 404, "application/json", b"{}")
        else:
            while self.silent.is_set() and "/manifests/" in path:
                time.sleep(0.05)
            stalls = self.stalls if "/blobs/" in path else None
            self._say(request, 200, *found, stalls=stalls)

    def _say(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        kind: str,
        data: bytes,
        stalls: threading.Event | None = None,
    ) -> None:
        request.send_response(status)
        if status == 401:
            request.send_header("WWW-Authenticate", 'Basic realm="tests"')
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.send_header("Docker-Content-Digest", _digest(data))
        request.end_headers()
        if request.command == "HEAD":
            return
        first = 0
        while stalls is not None and stalls.is_set():
            if not first and self.first:
                first = self.first
                request.wfile.write(data[:first])
            time.sleep(0.05)
        with contextlib.suppress(OSError):  # the engine has broken it off
            request.wfile.write(data[first:])


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
