"""`scope-play download` against a Hub on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scope_play.cli import main
from scope_play.weights import catalog, download
from scope_play.weights.catalog import CatalogFile, Checkpoint
from scope_play.weights.download import resolve_model

COMMIT = "c0ffee" * 6 + "beef"
LARGE = bytes(range(256)) * 4096
FILES = {"model.safetensors": LARGE, "google/umt5-xxl/spiece.model": b"spiece", "other.bin": b"not asked for"}


class Hub(ThreadingHTTPServer):
    """Serves one repository; `cut` breaks the next transfer of that file in the middle and refuses to go on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.cut: str | None = None
        self.ranges: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/maker/tiny"):
            self.answer(200, json.dumps(self.about()).encode(), "application/json")
            return
        name = path.removeprefix(f"/maker/tiny/resolve/{COMMIT}/").replace("%2F", "/")
        if name not in self.server.files:
            self.answer(404, b"{}", "application/json")
            return
        self.send_file(name, self.server.files[name])

    def send_file(self, name: str, content: bytes) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append((name, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if self.server.cut == name and start:
            self.answer(403, b"{}", "application/json")
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        stop = len(content) // 2 if self.server.cut == name else len(content)
        self.wfile.write(content[start:stop])
        self.close_connection = self.server.cut == name

    def about(self) -> dict[str, object]:
        siblings = []
        for name, content in FILES.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
            if name == "model.safetensors":
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 1}
            siblings.append(entry)
        return {"id": "maker/tiny", "modelId": "maker/tiny", "sha": COMMIT, "private": False, "siblings": siblings}

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    tiny = Checkpoint(
        name="tiny",
        title="A tiny checkpoint",
        repository="maker/tiny",
        revision=None,
        licence="Apache-2.0",
        source="here",
        files=(CatalogFile("model.safetensors"), CatalogFile("google/umt5-xxl/spiece.model")),
        approximate_nbytes=len(LARGE),
    )
    listed = {**catalog.CATALOG, "tiny": tiny}
    monkeypatch.setattr(catalog, "CATALOG", listed)
    monkeypatch.setattr(download, "CATALOG", listed)
    for place in ("cache", "data"):
        monkeypatch.setattr(f"platformdirs.user_{place}_path", lambda *_args, place=place: tmp_path / place)
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_checkpoint_arrives_whole_and_is_not_fetched_twice(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "tiny"]) == 0
    folder = tmp_path / "data" / "weights" / "tiny"
    assert resolve_model("tiny") == folder
    assert (folder / "model.safetensors").read_bytes() == LARGE
    assert (folder / "google/umt5-xxl/spiece.model").read_bytes() == b"spiece"
    assert not (folder / "other.bin").exists()
    out = capsys.readouterr().out
    assert "2 files, 0.00 GB, complete; 1 checked by SHA-256" in out
    hub.ranges.clear()
    assert main(["download", "tiny"]) == 0
    assert hub.ranges == []


def test_an_interrupted_download_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "here"
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.cut = "model.safetensors"
    assert main(["download", "tiny", "--dir", str(target)]) == 2
    assert "goes on where it stopped" in capsys.readouterr().err
    assert not (target / "model.safetensors").exists()
    hub.cut = None
    hub.ranges.clear()
    assert main(["download", "tiny", "--dir", str(target)]) == 0
    assert hub.ranges[0] == ("model.safetensors", f"bytes={len(LARGE) // 2}-")
    assert (target / "model.safetensors").read_bytes() == LARGE


def test_a_file_that_is_not_the_published_one_is_removed(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["model.safetensors"] = LARGE[::-1]
    assert main(["download", "tiny", "--dir", str(tmp_path / "here")]) == 2
    assert "arrived damaged" in capsys.readouterr().err
    assert not list((tmp_path / "here").rglob("model.safetensors*.part"))
    assert not (tmp_path / "here" / "model.safetensors").exists()
    hub.files["model.safetensors"] = LARGE
    assert main(["download", "tiny", "--dir", str(tmp_path / "here")]) == 0


def test_offline_checks_what_is_there(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "here"
    flags = ["download", "tiny", "--dir", str(target)]
    assert main([*flags, "--offline"]) == 2
    assert "nothing was downloaded" in capsys.readouterr().err
    assert main(flags) == 0
    hub.shutdown()
    assert main([*flags, "--offline"]) == 0
    (target / "model.safetensors").write_bytes(LARGE[::-1])
    (target / "google/umt5-xxl/spiece.model").unlink()
    capsys.readouterr()
    assert main([*flags, "--offline"]) == 1
    out = capsys.readouterr().out
    assert "model.safetensors: damaged" in out
    assert "spiece.model: missing" in out


def test_no_network_and_no_space_are_one_sentence(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SPARE_BYTES", 1 << 60)
    assert main(["download", "tiny", "--dir", str(tmp_path / "here")]) == 2
    assert "GB are free" in capsys.readouterr().err
    assert not (tmp_path / "here").exists()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["download", "tiny", "--dir", str(tmp_path / "here")]) == 2
    assert "could not be downloaded" in capsys.readouterr().err


def test_unknown_and_bundled_names(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "absent"]) == 2
    assert main(["download", "nano"]) == 2
    assert "comes with the package" in capsys.readouterr().err
    assert main(["download", "--list"]) == 0
    assert "A tiny checkpoint" in capsys.readouterr().out
    assert resolve_model("nano") == "nano"


def test_a_repository_without_an_expected_file_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FILES, "google/umt5-xxl/spiece.model")
    assert main(["download", "tiny"]) == 2
