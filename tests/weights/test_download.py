"""Downloading from a loopback server: bytes counted, resumed, verified, and offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.weights.catalog import NANO, SCOPE, WAN22, CatalogFile, Checkpoint
from scope_play.weights.download import download_checkpoint, is_wanted, verify_files
from scope_play.weights.hashing import HashCache
from scope_play.weights.official import VAE_FILE, open_scope_folder
from tests.helpers.hub_server import COMMIT, Hub
from tests.helpers.official_folder import write_official_folder

CHECKPOINT: Checkpoint = replace(SCOPE, repository="someone/model")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_official_folder(tmp_path_factory.mktemp("hub") / "SCOPE")
    (folder / "README.md").write_text("not a weight")
    return folder


@pytest.fixture
def hub(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Hub(released)


@pytest.fixture
def address(hub: Hub) -> Iterator[str]:
    with hub.running() as address:
        yield address


def fetch(address: str, folder: Path, checkpoint: Checkpoint = CHECKPOINT, **options: object) -> list[tuple]:
    seen: list[tuple] = []
    cache = HashCache(folder.parent / "hashes.json")
    download_checkpoint(
        checkpoint, folder, endpoint=address, cache=cache, progress=lambda *report: seen.append(report), **options
    )
    return seen


def test_everything_that_is_needed_arrives(address: str, released: Path, tmp_path: Path) -> None:
    seen = fetch(address, tmp_path / "SCOPE")
    wanted = {name: path for name, path in Hub(released).files.items() if is_wanted(name)}
    for name, path in wanted.items():
        assert (tmp_path / "SCOPE" / name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "SCOPE" / "README.md").exists()
    total = sum(path.stat().st_size for path in wanted.values())
    assert seen[-1] == ("download", total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    open_scope_folder(tmp_path / "SCOPE")


def test_a_second_run_fetches_nothing(hub: Hub, address: str, tmp_path: Path) -> None:
    fetch(address, tmp_path / "SCOPE")
    hub.requests.clear()
    assert fetch(address, tmp_path / "SCOPE") == []
    assert not [request for request in hub.requests if "/resolve/" in request[1]]


@pytest.fixture
def large(tmp_path: Path) -> Hub:
    """A repository of one file of 32 MB; huggingface_hub writes in pieces of 10 MB."""
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "model-1.safetensors").write_bytes(bytes(range(256)) * 2**17)
    return Hub(tmp_path / "large")


def ranges(hub: Hub) -> list[str | None]:
    return [asked for method, path, asked in hub.requests if method == "GET" and "/resolve/" in path]


def test_a_broken_transfer_goes_on_where_it_stopped(large: Hub, tmp_path: Path) -> None:
    large.cut["model-1.safetensors"] = 25 * 2**20
    with large.running() as address:
        fetch(address, tmp_path / "S")
    assert ranges(large) == [None, f"bytes={20 * 2**20}-"]


def test_an_interrupted_run_goes_on_where_it_stopped(large: Hub, tmp_path: Path) -> None:
    def interrupt(_: str, done: int, __: int) -> None:
        if done > 15 * 2**20:
            raise KeyboardInterrupt

    with large.running() as address:
        with pytest.raises(KeyboardInterrupt):
            download_checkpoint(CHECKPOINT, tmp_path / "S", endpoint=address, progress=interrupt)
        seen = fetch(address, tmp_path / "S")
    assert ranges(large) == [None, f"bytes={10 * 2**20}-"]
    assert seen[-1][1:] == (32 * 2**20, 32 * 2**20)
    assert (tmp_path / "S" / "model-1.safetensors").stat().st_size == 32 * 2**20


def test_a_part_longer_than_the_whole_is_begun_anew(large: Hub, tmp_path: Path) -> None:
    with large.running() as address:
        with pytest.raises(KeyboardInterrupt):
            download_checkpoint(CHECKPOINT, tmp_path / "S", endpoint=address, progress=raise_interrupt)
        (part,) = (tmp_path / "S").glob("*.partial")
        part.write_bytes(bytes(33 * 2**20))
        fetch(address, tmp_path / "S")
    assert ranges(large) == [None, None]


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_wrong_bytes_are_named_and_replace_nothing(hub: Hub, address: str, tmp_path: Path) -> None:
    hub.spoil.add(VAE_FILE)
    with pytest.raises(ScopeError, match=rf"{VAE_FILE} arrived damaged and was not kept"):
        fetch(address, tmp_path / "SCOPE")
    assert not list((tmp_path / "SCOPE").glob(f"{VAE_FILE}*"))
    hub.spoil.clear()
    fetch(address, tmp_path / "SCOPE")
    open_scope_folder(tmp_path / "SCOPE")


def test_a_damaged_local_file_is_fetched_again(address: str, tmp_path: Path) -> None:
    fetch(address, tmp_path / "SCOPE")
    path = tmp_path / "SCOPE" / VAE_FILE
    content = path.read_bytes()
    path.write_bytes(b"x" + content[1:])
    fetch(address, tmp_path / "SCOPE")
    assert path.read_bytes() == content


def test_the_catalogue_is_believed_before_the_server(address: str, tmp_path: Path) -> None:
    pinned = replace(CHECKPOINT, files=(CatalogFile(VAE_FILE, None, "0" * 64),))
    with pytest.raises(ScopeError, match="arrived damaged"):
        fetch(address, tmp_path / "SCOPE", pinned)


def test_a_full_disk_is_noticed_before(hub: Hub, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5 * 10**6})())
    with pytest.raises(ScopeError, match=r"needs 0\.0 GB more but only 0\.0 GB are free"):
        fetch(address, tmp_path / "SCOPE")
    assert not [request for request in hub.requests if "/resolve/" in request[1]]


def test_no_server_and_no_such_files(hub: Hub, tmp_path: Path) -> None:
    with hub.running() as address:
        pass
    with pytest.raises(ScopeError, match="could not be looked up"):
        fetch(address, tmp_path / "SCOPE")
    (tmp_path / "empty").mkdir()
    with Hub(tmp_path / "empty").running() as address, pytest.raises(ScopeError, match="holds no files"):
        fetch(address, tmp_path / "SCOPE")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("model-00001-of-00003.safetensors", True),
        ("google/umt5-xxl/spiece.model", True),
        ("Wan2.2_VAE.pth", True),
        ("README.md", False),
        ("other/model-00001-of-00003.safetensors", False),
        ("../model-00001-of-00003.safetensors", False),
        ("/model-1.safetensors", False),
        ("google/umt5-xxl/../../../evil", False),
        ("..\\evil.pth", False),
    ],
)
def test_only_weights_and_only_inside(path: str, wanted: bool) -> None:
    assert is_wanted(path) == wanted


def test_published_hashes_are_checked_offline(tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "hashes.json")
    with pytest.raises(ScopeError, match="is missing"):
        verify_files(WAN22, tmp_path, cache)
    for file in WAN22.files:
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.path).write_bytes(b"something else")
    with pytest.raises(ScopeError, match=r"instead of 20eb789667fa\.\.\."):
        verify_files(WAN22, tmp_path, cache)
    assert verify_files(SCOPE, tmp_path, cache) == 0


def test_nano_needs_no_download(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="comes with the package"):
        download_checkpoint(NANO, tmp_path)


def test_command_line(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "S")
    with hub.running() as address:
        # huggingface_hub reads the address when it is imported.
        command = [sys.executable, "-m", "scope_play.cli", "download", "scope", "--to", folder]
        whole = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_ENDPOINT": address})
    assert whole.returncode == 0, whole.stderr
    assert COMMIT in whole.stdout
    assert "complete: 4 weight files" in whole.stdout

    assert main(["download", "scope", "--to", folder, "--offline"]) == 0
    assert "complete: 4 weight files" in capsys.readouterr().out
    (tmp_path / "S" / VAE_FILE).unlink()
    assert main(["download", "scope", "--to", folder, "--offline"]) == 2
    refusal = capsys.readouterr().err
    assert VAE_FILE in refusal
    assert refusal.count("\n") == 1
    assert main(["download", "nano"]) == 0
