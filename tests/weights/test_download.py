"""`scope-play download` against a Hub on the loopback interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scope_play.bench.loopback_hub import COMMIT, LoopbackHub, serving
from scope_play.cli import main
from scope_play.weights import catalog, download, hub
from scope_play.weights.catalog import CatalogFile, Checkpoint
from scope_play.weights.download import resolve_model
from scope_play.weights.hashing import HashCache, sha256_of_file

LARGE = bytes(range(256)) * 4096
OTHER = LARGE[::-1]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """What the makers put on the Hub."""
    folder = tmp_path / "published"
    for name, content in {
        "tiny/model-00001-of-00002.safetensors": LARGE,
        "tiny/model-00002-of-00002.safetensors": b"small",
        "tiny/google/umt5-xxl/spiece.model": b"spiece",
        "tiny/other.bin": b"not asked for",
        "base/vae.pth": OTHER,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def loopback(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    tiny = Checkpoint(
        name="tiny",
        title="A tiny checkpoint",
        repository="maker/tiny",
        revision=None,
        licence="Apache-2.0",
        source="here",
        files=(
            CatalogFile("model-*-of-*.safetensors", or_else="whole.safetensors"),
            CatalogFile("model.safetensors.index.json", required=False),
            CatalogFile("google/umt5-xxl/spiece.model"),
            CatalogFile("vae.pth", instead="base"),
        ),
        approximate_nbytes=len(LARGE),
    )
    vae = CatalogFile("vae.pth", len(OTHER), sha256_of_file(published / "base" / "vae.pth"))
    base = Checkpoint("base", "Its base", "maker/base", COMMIT, "Apache-2.0", "here", (vae,), len(OTHER))
    listed = {**catalog.CATALOG, "tiny": tiny, "base": base}
    for module in (catalog, download, hub):
        monkeypatch.setattr(module, "CATALOG", listed)
    for place in ("cache", "data"):
        monkeypatch.setattr(f"platformdirs.user_{place}_path", lambda *_args, place=place: tmp_path / place)
    monkeypatch.setattr(hub, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with serving({"maker/tiny": published / "tiny", "maker/base": published / "base"}, HashCache()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield server


SHARD = "model-00001-of-00002.safetensors"


def test_a_checkpoint_arrives_whole_and_is_not_fetched_twice(
    loopback: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "tiny"]) == 0
    folder = tmp_path / "data" / "weights" / "tiny"
    assert resolve_model("tiny") == folder
    assert (folder / SHARD).read_bytes() == LARGE
    assert (folder / "google/umt5-xxl/spiece.model").read_bytes() == b"spiece"
    assert (folder / "vae.pth").read_bytes() == OTHER  # the base model's, at its pinned commit
    assert not (folder / "other.bin").exists()
    out = capsys.readouterr().out
    assert "4 files, 0.00 GB, complete; 2 checked by SHA-256" in out
    loopback.ranges.clear()
    assert main(["download", "tiny"]) == 0
    assert loopback.ranges == []


def test_each_file_is_hashed_once(loopback: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hashed: list[str] = []

    def count(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of_file(path)

    loopback.about("maker/tiny")
    monkeypatch.setattr(hub, "sha256_of_file", count)
    monkeypatch.setattr("scope_play.weights.hashing.sha256_of_file", count)
    assert main(["download", "tiny"]) == 0
    assert main(["download", "tiny", "--offline"]) == 0
    assert len(hashed) == 4


def test_an_interrupted_download_goes_on_where_it_stopped(
    loopback: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "here"
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    loopback.cut = SHARD
    assert main(["download", "tiny", "--dir", str(target)]) == 2
    assert "goes on where it stopped" in capsys.readouterr().err
    assert not (target / SHARD).exists()
    loopback.cut = None
    loopback.ranges.clear()
    assert main(["download", "tiny", "--dir", str(target)]) == 0
    assert loopback.ranges[0] == (SHARD, f"bytes={len(LARGE) // 2}-")
    assert (target / SHARD).read_bytes() == LARGE


def test_a_busy_hub_is_asked_again(loopback: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    loopback.busy = 2
    assert main(["download", "tiny"]) == 0
    assert capsys.readouterr().err.count("trying again") == 2
    loopback.busy = 50
    assert main(["download", "tiny"]) == 2
    assert "goes on where it stopped" in capsys.readouterr().err


def test_a_file_that_is_not_the_published_one_is_removed(
    loopback: LoopbackHub, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = loopback.about("maker/tiny")
    loopback.about = lambda repository: about  # type: ignore[method-assign]
    (published / "tiny" / SHARD).write_bytes(OTHER)
    flags = ["download", "tiny", "--dir", str(tmp_path / "here")]
    assert main(flags) == 2
    assert "arrived damaged" in capsys.readouterr().err
    assert not list((tmp_path / "here").rglob(f"{SHARD}*.part"))
    assert not (tmp_path / "here" / SHARD).exists()
    (published / "tiny" / SHARD).write_bytes(LARGE)
    assert main(flags) == 0


def test_offline_checks_what_is_there(
    loopback: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "here"
    flags = ["download", "tiny", "--dir", str(target)]
    assert main([*flags, "--offline"]) == 2
    assert "nothing was downloaded" in capsys.readouterr().err
    assert main(flags) == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loopback.ranges.clear()
    assert main(flags) == 0
    assert loopback.ranges == []
    (target / SHARD).write_bytes(OTHER)
    (target / "google/umt5-xxl/spiece.model").unlink()
    capsys.readouterr()
    assert main(flags) == 1
    out = capsys.readouterr().out
    assert f"{SHARD}: damaged" in out
    assert "spiece.model: missing" in out


def test_no_network_and_no_space_are_one_sentence(
    loopback: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SPARE_BYTES", 1 << 60)
    assert main(["download", "tiny", "--dir", str(tmp_path / "here")]) == 2
    assert "GB are free" in capsys.readouterr().err
    assert not (tmp_path / "here").exists()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["download", "tiny", "--dir", str(tmp_path / "here")]) == 2
    assert "could not be downloaded" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"siblings": [{"size": 3}]}', b"<html>", b'{"siblings": 7}'])
def test_an_answer_of_another_shape_is_one_sentence(
    answer: bytes, loopback: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.about = lambda repository: answer  # type: ignore[method-assign]
    assert main(["download", "tiny"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("scope-play: maker/tiny")


@pytest.mark.parametrize("record", ["[]", "{}", '{"name": 1}', '{"files": [{"path": 2}]}', "no"])
def test_a_damaged_record_is_one_sentence(
    record: str, loopback: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "download.json").write_text(record)
    assert main(["download", "tiny", "--dir", str(tmp_path / "here"), "--offline"]) == 2
    assert "download.json" in capsys.readouterr().err


def test_unknown_and_bundled_names(loopback: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "absent"]) == 2
    assert main(["download", "nano"]) == 2
    assert "comes with the package" in capsys.readouterr().err
    assert main(["download", "--list"]) == 0
    assert "A tiny checkpoint" in capsys.readouterr().out
    assert resolve_model("nano") == "nano"


def test_what_can_be_done_without_may_be_absent_and_shards_are_counted_there(
    loopback: LoopbackHub, published: Path, tmp_path: Path
) -> None:
    for shard in (published / "tiny").glob("model-*"):
        shard.unlink()
    (published / "tiny" / "whole.safetensors").write_bytes(LARGE)
    assert main(["download", "tiny"]) == 0
    assert (tmp_path / "data" / "weights" / "tiny" / "whole.safetensors").read_bytes() == LARGE


def test_a_repository_without_a_required_file_is_refused(
    loopback: LoopbackHub, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (published / "tiny" / "google/umt5-xxl/spiece.model").unlink()
    assert main(["download", "tiny"]) == 2
    assert "has no google/umt5-xxl/spiece.model" in capsys.readouterr().err


def test_what_the_hubs_own_cache_has_is_not_fetched(
    loopback: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--maker--tiny" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    (snapshot.parents[1] / "blob").write_bytes(LARGE)
    (snapshot / SHARD).symlink_to(snapshot.parents[1] / "blob")
    assert resolve_model("tiny") == snapshot
    assert main(["download", "tiny"]) == 0
    assert f"{SHARD}: taken from {snapshot / SHARD}" in capsys.readouterr().out
    assert SHARD not in {name for name, _ in loopback.ranges}
    assert (tmp_path / "data" / "weights" / "tiny" / SHARD).read_bytes() == LARGE


def test_ctrl_c_keeps_what_has_arrived(loopback: LoopbackHub, published: Path, tmp_path: Path) -> None:
    """A process of its own, interrupted while a large file arrives, and started again."""
    (published / "tiny" / SHARD).write_bytes(LARGE * 64)
    script = (
        "import sys; from scope_play.weights import catalog, download, hub\n"
        "from scope_play.weights.catalog import CatalogFile, Checkpoint\n"
        f"one = Checkpoint('tiny', 't', 'maker/tiny', None, 'l', 's', (CatalogFile({SHARD!r}),), 1)\n"
        "for module in (catalog, download, hub): module.CATALOG = {'tiny': one}\n"
        "from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 1 << 14\n"
        "from scope_play.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    target = tmp_path / "here"
    command = [sys.executable, "-c", script, "download", "tiny", "--dir", str(target)]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    loopback.go_on.clear()  # or it might all be there before the signal is
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while not any(part.stat().st_size for part in target.rglob("*.part")):
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        loopback.go_on.set()
    assert process.returncode == 130, said
    assert "goes on where it stopped" in said
    (part,) = target.rglob("*.part")
    there = part.stat().st_size
    loopback.ranges.clear()
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    assert loopback.ranges == [(SHARD, f"bytes={there}-")]
    assert json.loads((target / "download.json").read_text())["files"][0]["nbytes"] == (target / SHARD).stat().st_size
