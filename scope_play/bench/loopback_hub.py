"""A Hub on the loopback interface that serves folders as repositories: what a download needs of the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from scope_play.weights.hashing import HashCache

COMMIT = "c0ffee" * 6 + "beef"
PIECE = 1 << 20
LARGE = 1 << 20
"""Files from here on have a published hash, as those in the Hub's large storage do."""


class LoopbackHub(ThreadingHTTPServer):
    """Serves `folders`, repository -> folder, at any revision. `ranges` notes (path, Range header) of every transfer.

    cut: the path of a file whose next transfer breaks in the middle and is refused when asked to go on. busy: so many
    requests are first answered with 503. prepare, sent: called with the path of a file before and after it is sent.
    go_on: while it is not set, a transfer stands still after its first piece.
    """

    daemon_threads = True

    def __init__(self, folders: Mapping[str, Path], hashes: HashCache) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders = folders
        self.hashes = hashes
        self.cut: str | None = None
        self.busy = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.ranges: list[tuple[str, str | None]] = []
        self.prepare: Callable[[str], None] = lambda path: None
        self.sent: Callable[[str], None] = lambda path: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def about(self, repository: str) -> bytes:
        """What the Hub says of a repository and its files."""
        folder = self.folders[repository]
        siblings = []
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            size = path.stat().st_size
            entry: dict[str, object] = {"rfilename": path.relative_to(folder).as_posix(), "size": size}
            if size >= LARGE:
                entry["lfs"] = {"sha256": self.hashes.sha256(path), "size": size, "pointerSize": 1}
            siblings.append(entry)
        about = {"id": repository, "modelId": repository, "sha": COMMIT, "private": False, "siblings": siblings}
        return json.dumps(about).encode()


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.server.busy:
            self.server.busy -= 1
            self._answer(503, b"{}")
            return
        path = unquote(self.path.partition("?")[0]).lstrip("/")
        for repository, folder in self.server.folders.items():
            if path.startswith(f"api/models/{repository}"):
                self._answer(200, self.server.about(repository))
                return
            inside = path.removeprefix(f"{repository}/resolve/")
            name = inside.partition("/")[2]
            if inside != path and ".." not in name.split("/"):
                self.server.prepare(name)
                if (folder / name).is_file():
                    self._send(name, folder / name)
                    self.server.sent(name)
                    return
        self._answer(404, b"{}")

    def _send(self, name: str, file: Path) -> None:
        hub, size, wanted = self.server, file.stat().st_size, self.headers.get("Range")
        hub.ranges.append((name, wanted))
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if hub.cut == name and start:
            self._answer(403, b"{}")
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        left = size // 2 if hub.cut == name else size - start
        self.close_connection = hub.cut == name
        with file.open("rb") as content:
            content.seek(start)
            while left and (piece := content.read(min(PIECE, left))):
                self.wfile.write(piece)
                left -= len(piece)
                hub.go_on.wait()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folders: Mapping[str, Path], hashes: HashCache) -> Iterator[LoopbackHub]:
    """A hub that serves until the end of the block."""
    hub = LoopbackHub(folders, hashes)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
