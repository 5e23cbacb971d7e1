from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.kernels import dispatch, tuning
from scope_play.kernels.launch import head_tile
from scope_play.kernels.shapes import ChunkShape
from scope_play.kernels.tuning import TUNED, Cut, candidates, fastest, load_table, save_table


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache" / "kernels.json"
    monkeypatch.setattr(tuning, "table_path", lambda: path)
    return path


def test_tables_add_up(table: Path) -> None:
    assert load_table(table) == {}
    save_table(table, {"a": Cut(512, 2), "b": Cut()})
    save_table(table, {"a": Cut(2048, 4, 8)})
    assert load_table(table) == {"a": Cut(2048, 4, 8), "b": Cut()}
    assert [path.name for path in table.parent.iterdir()] == ["kernels.json"]


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": {"tile": "x"}}', '{"a": {"tiles": 1}}'])
def test_damaged_tables_are_named(table: Path, content: str) -> None:
    table.parent.mkdir()
    table.write_text(content)
    with pytest.raises(ScopeError, match=r"kernels.json is not a table of kernel cuts"):
        load_table(table)


def test_the_fastest_candidate_wins() -> None:
    wanted = Cut(512, 4, 8)
    best, times = fastest("button_attention", lambda cut: 1.0 if cut == wanted else 2.0)
    assert best == wanted
    assert len(times) == 27
    for kernel in TUNED:
        assert candidates(kernel)[0] == Cut()


def test_select_uses_the_entry_of_its_gpu_and_shape(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    monkeypatch.setattr(dispatch, "_interpreting", lambda: False)
    monkeypatch.delenv("SCOPE_PLAY_KERNELS", raising=False)
    name = dispatch.tuning_entry("pixel_attention", "cuda", torch.bfloat16, 24, 128, 1)
    assert name == "pixel_attention | NVIDIA H200 | bfloat16 | 24x128 | chunk 1"
    save_table(table, {name: Cut(2048, 4)})
    chosen = dispatch.select("cuda", torch.bfloat16, heads=24, head_dim=128)
    assert chosen.pixel_attention.keywords == {"cut": Cut(2048, 4)}
    assert chosen.button_attention.keywords == {"cut": Cut()}
    other = dispatch.select("cuda", torch.bfloat16, heads=24, head_dim=128, latents=3)
    assert other.pixel_attention.keywords == {"cut": Cut()}


@pytest.mark.parametrize("cut", candidates("pixel_attention"))
def test_every_candidate_covers_the_heads_with_whole_warps(cut: Cut) -> None:
    for heads, head_dim in ((24, 128), (8, 32), (4, 96), (1, 16)):
        taken, padded, warps = head_tile(ChunkShape(1, 1, 1, heads, head_dim, 2), cut.tile)
        assert taken * padded <= max(cut.tile, padded)
        assert warps & (warps - 1) == 0
        assert 1 <= warps <= 8


def test_tuning_needs_triton(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_interpreting", lambda: False)
    assert main(["bench", "kernels", "--tune", "--device", "cpu", "--repeats", "1"]) == 2
    assert "--tune needs the Triton kernels" in capsys.readouterr().err
