"""Encoded games: what a clip cut from them holds, and that they are made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scope_play.arena.behaviour import sample_clip
from scope_play.errors import ScopeError
from scope_play.model.tiny_vae import TinyVAE, TinyVAEConfig
from scope_play.train import bank
from scope_play.train.bank import LatentBank, encode_games, fingerprint, open_bank
from scope_play.train.common import seed_of
from scope_play.train.data import Clips

CONFIG = TinyVAEConfig(frame=(32, 64), patch_components=6, latent_channels=8, width=16, blocks=1)


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> TinyVAE:
    monkeypatch.setattr(bank, "SHARD", 3)
    monkeypatch.setattr(bank, "LATENTS", 7)
    torch.manual_seed(0)
    return TinyVAE(CONFIG).eval().requires_grad_(False)


def test_games_are_encoded_as_sessions_would_be(codec: TinyVAE) -> None:
    shard = encode_games(codec, 50)
    assert shard["latents"].shape == shard["stills"].shape == (3, 7, 8, 1, 1)
    clip = sample_clip(1, 25, 51, height=32, width=64, threads=1)
    video = Clips(clip.frames, clip.rows).video()
    whole = codec.encode(video)[0].transpose(0, 1)
    torch.testing.assert_close(shard["latents"][1].float(), whole, atol=0.05, rtol=5e-3)
    start = codec.encode(video[:, :, 8:9])[0, :, 0]  # the frame on which latent 2 ends, as a start image
    torch.testing.assert_close(shard["stills"][1, 2].float(), start, atol=0.05, rtol=5e-3)
    torch.testing.assert_close(shard["rows"][1].float(), torch.from_numpy(clip.rows[0, :-1]), atol=1e-3, rtol=1e-3)


def test_clips_begin_with_a_still_and_go_on_with_their_own_rows() -> None:
    games, length = 2, 6
    number = torch.arange(games)[:, None] * 100 + torch.arange(length)
    latents = number[..., None, None, None].half()
    rows = (torch.arange(games)[:, None] * 1000 + torch.arange(4 * (length - 1)))[..., None].expand(-1, -1, 10).half()
    source = LatentBank([{"latents": latents, "stills": -latents, "rows": rows}])
    found, actions = source.clips(50, 4, "world", 3)
    assert found.shape == (50, 1, 4, 1, 1)
    assert actions.shape == (50, 12, 10)
    value = found[:, 0, :, 0, 0]
    game, first = (-value[:, 0]) // 100, (-value[:, 0]) % 100
    assert set(first.tolist()) == {0, 1, 2}
    assert torch.equal(value[:, 1:], (game * 100 + first)[:, None] + torch.arange(1, 4))
    assert torch.equal(actions[:, :, 0], (game * 1000 + 4 * first)[:, None] + torch.arange(12))
    again = source.clips(50, 4, "world", 3)
    assert torch.equal(found, again[0])
    assert not torch.equal(found, source.clips(50, 4, "world", 4)[0])
    with pytest.raises(ScopeError, match="games of 6"):
        source.clips(1, 7, "world", 0)


def test_a_bank_is_made_once_and_extended(codec: TinyVAE, tmp_path: Path) -> None:
    said: list[str] = []
    first = open_bank(tmp_path, codec, 4, seed=9, report=said.append)
    assert first.games == 6
    assert len(said) == 2
    again = open_bank(tmp_path, codec, 7, seed=9, threads=2, report=said.append)
    assert again.games == 9
    assert len(said) == 3
    stills = encode_games(codec, seed_of(9, "bank", 2))["stills"].float().flatten(0, 1).flatten(1)
    starts = again.clips(60, 1, "world", 0)[0].flatten(1)
    assert (starts[:, None] == stills).all(2).any()  # the newest shard is drawn from too


def test_damaged_and_foreign_shards_are_named(codec: TinyVAE, tmp_path: Path) -> None:
    open_bank(tmp_path, codec, 1, seed=0, report=lambda text: None)
    other = TinyVAE(CONFIG).eval()  # the same sizes, other maps
    with pytest.raises(ScopeError, match=rf"games-0000.safetensors was encoded by codec {fingerprint(codec)}, not by"):
        open_bank(tmp_path, other, 1, seed=0)
    torch.nn.init.ones_(codec.correction.write.weight)  # a better decoder is no other encoder
    open_bank(tmp_path, codec, 1, seed=0, report=lambda text: pytest.fail("made again"))
    (tmp_path / "games-0000.safetensors").write_bytes(b"nothing")
    with pytest.raises(ScopeError, match=r"games-0000.safetensors is damaged"):
        open_bank(tmp_path, codec, 1, seed=0)
