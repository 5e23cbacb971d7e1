"""The released weights' whole path with small random weights: real processes, a real socket, publishing to replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from scope_play.bench import published
from scope_play.cli import main
from scope_play.weights.official import open_scope_folder


@pytest.mark.timeout(900)  # nine processes, which other programs may slow down
def test_the_whole_path_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    out = tmp_path / "out"
    words = ["bench", "rehearsal", "--out", str(out), "--size", "small", "--without-verify", "--window", "4"]
    assert main([*words, "--keep"]) == 0
    shown = capsys.readouterr().out
    for step in ("publish", "download", "doctor", "generate 5 frames", "play 2 chunks", "replay --check"):
        assert step in shown
    assert "8 files" in shown or "7 files" in shown
    assert "all 9 frames" in shown
    table = shown[shown.index("peak / said") :]
    for step in ("generate 5 frames", "play 2 chunks", "replay --check"):  # what doctor said of each
        assert "GiB" in table[table.index(step) :].splitlines()[0].partition("GiB")[2]
    made = (out / "clip.mp4").stat().st_mtime_ns
    assert main(words) == 0
    assert "all 9 frames" in capsys.readouterr().out  # checked again, of the clip that was there
    assert (out / "clip.mp4").stat().st_mtime_ns == made
    assert not (out / "weights").exists()
    assert main(["bench", "rehearsal", "--out", str(out), "--size", "small"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_what_is_published_is_a_folder_of_the_release(tmp_path: Path) -> None:
    sizes = published.SIZES["small"]
    opened = open_scope_folder(published.publish(tmp_path / "SCOPE", sizes))
    assert (opened.dit_config, opened.vae_config, opened.text_config) == (sizes.dit, sizes.vae, sizes.text)
    assert opened.tokenizer()(["walkona"]).lengths[0] > 1
    again = published.publish(tmp_path / "again", sizes)
    assert open_scope_folder(again).sha256() == opened.sha256()
