"""Released weights in 8 bits, with 8-bit caches and the tiny decoder: loaded, played, recorded, replayed, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.loading.device import default_precision
from scope_play.model.taehv import TaehvDecoder
from scope_play.runtime.quantize import QuantLinear, quantise_block, quantise_blocks
from scope_play.world import World
from tests.helpers.official_folder import write_official_folder

LIGHT = {"precision": "int8", "cache": "fp8", "decoder": "tiny"}
FLAGS = [word for name, value in LIGHT.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_folder(tmp_path_factory.mktemp("official"))


@pytest.fixture(autouse=True)
def small_frames_and_own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scope_play.loading.scope.OFFICIAL_SIZE", (64, 96))
    for place in ("user_data_path", "user_cache_path", "user_config_path"):
        monkeypatch.setattr(f"platformdirs.{place}", lambda *_args, **_kwargs: tmp_path / "user")


@pytest.fixture
def preview(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "user" / "weights" / "taew2_2" / "taew2_2.pth"
    path.parent.mkdir(parents=True)
    torch.save(TaehvDecoder().state_dict(), path)
    return path


def play(world: World, chunks: int = 3) -> list[np.ndarray]:
    with world.start(np.full((64, 96, 3), 90, np.uint8), "a yard", 5) as session:
        return [session.step(np.zeros((4, 10), np.float32)).frames for _ in range(chunks)]


def test_all_of_it_together_plays(folder: Path, preview: Path) -> None:
    plain, light = World.load(folder, device="cpu"), World.load(folder, device="cpu", **LIGHT)
    assert (light.spec.precision, light.spec.stream.cache, light.spec.decoder) == ("int8", "fp8", "tiny")
    own = default_precision(torch.device("cpu"))  # this processor's
    assert (plain.spec.precision, plain.spec.stream.cache, plain.spec.decoder) == (own, "full", "full")
    assert any(isinstance(module, QuantLinear) for module in light.model.network.modules())
    assert light.identity["sha256"] != plain.identity["sha256"]  # of the decoder's file too
    frames = play(light)
    assert frames[0].shape == (4, 64, 96, 3)
    assert all(np.array_equal(a, b) for a, b in zip(frames, play(light), strict=True))
    # The tiny decoder alone makes other frames of the same latents; the full one's weights are not kept.
    assert not hasattr(light.model.codec.codec.network, "decoder")  # type: ignore[attr-defined]


def test_a_recording_keeps_it_and_replay_restores_it(
    folder: Path, preview: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scope_play.actions import write_actions
    from scope_play.recording.clip import read_clip

    write_actions(tmp_path / "a.parquet", np.zeros((9, 10), np.float32))
    image = tmp_path / "i.png"
    from PIL import Image

    Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(image)
    where = ["--model", str(folder), "--image", str(image), "--prompt", "a yard", "--steps", "1"]
    out = ["--headless", "--actions", str(tmp_path / "a.parquet"), "--out", str(tmp_path / "clips")]
    assert main(["play", *where, *out, *FLAGS]) == 0
    clip = Path(capsys.readouterr().out.strip().splitlines()[-1])
    model = read_clip(clip).metadata.header.model
    assert {name: getattr(model, name) for name in LIGHT} == LIGHT
    assert main(["replay", str(clip), "--check"]) == 0
    assert main(["replay", str(clip), "--check", "--decoder", "full"]) == 1
    assert "decoder full, recorded with tiny" in capsys.readouterr().out


def test_a_missing_decoder_says_which_file_goes_where(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ScopeError) as refusal:
        World.load(folder, decoder="tiny")
    for words in ("taew2_2.pth", "github.com/madebyollin/taehv", str(folder), str(tmp_path / "user")):
        assert words in str(refusal.value)
    (folder / "taew2_2.safetensors").write_bytes(b"not one")
    try:
        with pytest.raises(ScopeError, match="no readable safetensors file"):
            World.load(folder, decoder="tiny")
    finally:
        (folder / "taew2_2.safetensors").unlink()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"decoder": "huge"}, "decoder 'huge' is not known; use one of full, tiny"),
        ({"cache": "fp4"}, "cache 'fp4' is not known"),
        ({"cache": "fp8", "mode": "window"}, "mode 'window' has no cache"),
        ({"precision": "fp8"}, "precision fp8 needs an NVIDIA GPU"),
        ({"precision": "int2"}, "precision 'int2' is not known"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(folder: Path, settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(ScopeError, match=sentence) as refusal:
        World.load(folder, device="cpu", **settings)
    assert "\n" not in str(refusal.value)


def test_nano_has_its_own_decoder() -> None:
    with pytest.raises(ScopeError, match="nano has a small decoder of its own"):
        World.load("nano", decoder="tiny")


@pytest.mark.parametrize("flags", [["--precision", "int8"], ["--cache", "fp8"], ["--decoder", "tiny"]])
def test_whole_clips_are_made_in_full(folder: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--model", str(folder), *flags]) == 2
    error = capsys.readouterr().err
    assert "play --headless" in error
    assert error.count("\n") == 1


def test_no_more_than_a_block_is_ever_there_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scope_play.loading import scope

    opened = scope.open_scope_folder(folder)
    whole = opened.dit(torch.float32)
    quantise_blocks(whole, "int8")
    full: list[int] = []

    def quantise(block: torch.nn.Module, precision: str) -> None:
        made = next(block.parameters())
        assert not made.is_meta
        full.append(sum(not parameter.is_meta for parameter in block.parameters()))
        quantise_block(block, precision)

    monkeypatch.setattr(scope, "quantise_block", quantise)
    by_block = scope.load_network(opened, torch.float32, torch.device("cpu"), "int8", "none")
    assert len(full) == opened.dit_config.layers
    for (name, one), (_, other) in zip(whole.state_dict().items(), by_block.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
