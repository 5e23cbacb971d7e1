"""A Hugging Face Hub on the loopback interface: one repository, byte ranges, and faults on request."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" * 6 + "abcd"


class Hub:
    """Serves the files of `folder`. `requests` lists (method, path, Range header) as they came.

    `cut` names a file whose first transfer ends after so many bytes; `spoil` one whose bytes come out wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut: dict[str, int] = {}
        self.spoil: set[str] = set()

    @property
    def files(self) -> dict[str, Path]:
        return {p.relative_to(self.folder).as_posix(): p for p in sorted(self.folder.rglob("*")) if p.is_file()}

    def describe(self) -> dict[str, Any]:
        siblings = [
            {
                "rfilename": name,
                "size": path.stat().st_size,
                "blobId": "0" * 40,
                **({"lfs": self._lfs(path)} if path.suffix in (".safetensors", ".pth") else {}),
            }
            for name, path in self.files.items()
        ]
        return {"id": "someone/model", "modelId": "someone/model", "sha": COMMIT, "siblings": siblings, "tags": []}

    @staticmethod
    def _lfs(path: Path) -> dict[str, Any]:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"sha256": digest, "oid": digest, "size": path.stat().st_size, "pointerSize": 100}

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yields the address while the server runs."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = self.path.partition("?")[0]
                hub.requests.append((self.command, path, self.headers.get("Range")))
                if path.startswith("/api/models/"):
                    self.send(200, json.dumps(hub.describe()).encode(), {"Content-Type": "application/json"}, body)
                    return
                name = path.partition(f"/resolve/{COMMIT}/")[2]
                if name not in hub.files:
                    self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
                    return
                self.send_file(name, body)

            def send_file(self, name: str, body: bool) -> None:
                content = hub.files[name].read_bytes()
                tag = hashlib.sha256(content).hexdigest()
                if name in hub.spoil:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                status, start = 200, 0
                if asked := self.headers.get("Range"):
                    start = int(asked.removeprefix("bytes=").partition("-")[0])
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    status = 206
                stop = hub.cut.pop(name, len(content)) if body else len(content)
                self.send(status, content[start:], headers, body, stop)

            def send(
                self, status: int, content: bytes, headers: dict[str, str], body: bool, stop: int | None = None
            ) -> None:
                self.send_response(status)
                for key, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(content[:stop])
                if stop is not None and stop < len(content):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
