"""From recordings of every kind to shards, and from shards to training clips."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_play import cli
from scope_play.actions import read_actions
from scope_play.errors import ScopeError
from scope_play.train.shards.encode import Encoder, encode, split_of
from scope_play.train.shards.items import find_items
from scope_play.train.shards.layout import read_index
from scope_play.train.shards.source import ShardSource
from tests.helpers.clip_folder import make_clip
from tests.helpers.recordings import record


class BrightnessStream:
    """A latent is the mean brightness of its frames, in 2 x 3 places: what it was made of can be read off it."""

    def push(self, x: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool3d(x.mean(1, keepdim=True), (1, 2, 3))


class Brightness:
    def encoder(self) -> BrightnessStream:
        return BrightnessStream()


def encoder(texts: list[str] | None = None, sha256: str = "a") -> Encoder:
    def embed(prompts: Sequence[str]) -> dict[str, Tensor]:
        if texts is not None:
            texts.extend(prompts)
        return {prompt: torch.full((1, 2 + len(prompt), 4), float(len(prompt))) for prompt in prompts}

    return Encoder(Brightness(), (32, 48), {"model": "m", "sha256": sha256}, embed, torch.float32)  # type: ignore[arg-type]


def crossfps(folder: Path, frames: int, caption: str | None, older: bool = False) -> Path:
    make_clip(folder, frames, 60)
    (folder / "metadata.json").write_text(json.dumps({"fps": 20} | ({"caption": caption} if caption else {})))
    if older:
        (folder / "actions_raw.parquet").rename(folder / "actions.parquet")
    return folder


def tar_of(path: Path, folders: Sequence[Path], flat: bool) -> Path:
    """By folders, `a/video.mp4`, or as webdataset has it, `a.mp4`, `a.actions_raw.parquet`, `a.json`."""
    ending = {"video.mp4": "mp4", "metadata.json": "json"}
    with tarfile.open(path, "w") as tar:
        for folder in folders:
            for file in sorted(folder.iterdir()):
                flat_name = f"{folder.name}.{ending.get(file.name, file.name)}"
                tar.add(file, flat_name if flat else f"clips/{folder.name}/{file.name}")
    return path


def test_a_recording_with_a_rewind_and_a_prompt_change_is_split_at_both(tmp_path: Path) -> None:
    clip = record(tmp_path / "clips", 10, rewinds={4: 1}, prompts={7: "a hall"})
    (found,) = find_items(tmp_path / "clips")
    assert [(item.first, item.end, item.caption) for item in found.items] == [
        (0, 17, "a yard"),
        (17, 29, "a yard"),
        (29, 41, "a hall"),
    ]
    given = read_actions(clip / "actions_raw.parquet")
    assert all(np.array_equal(item.rows, given[item.first : item.end]) for item in found.items)
    lerobot = tmp_path / "set"
    assert cli.main(["export", str(clip), "--out", str(lerobot)]) == 0
    again = [item for found in find_items(lerobot) for item in found.items]
    assert [len(item.rows) for item in again] == [17, 24]
    assert np.allclose(again[1].rows, given[17:])


@pytest.mark.parametrize("flat", [False, True])
def test_tars_are_read_as_they_stream_past_in_both_layouts(tmp_path: Path, flat: bool) -> None:
    folders = [crossfps(tmp_path / "17", 21, "a hangar"), crossfps(tmp_path / "18", 13, None, older=True)]
    short = crossfps(tmp_path / "19", 4, None)
    broken = crossfps(tmp_path / "20", 13, None)
    (broken / "video.mp4").write_bytes(b"nothing")
    tar = tar_of(tmp_path / "part-000.tar", [*folders, short, broken], flat)
    found = list(find_items(tar))
    assert [len(one.items) for one in found] == [1, 1, 0, 0]
    assert [one.items[0].caption for one in found[:2]] == ["a hangar", ""]
    assert "no stretch of 5" in found[2].why
    assert "not a video" in found[3].why
    index = encode([tar], tmp_path / "out", encoder(), report=lambda text: None)
    assert [entry.latents for entry in index.clips] == [6, 4]
    assert len(index.left_out) == 2


def test_shards_hold_what_was_recorded_row_for_row(tmp_path: Path) -> None:
    folder = crossfps(tmp_path / "c" / "17", 41, "a hangar")
    encode([tmp_path / "c"], tmp_path / "out", encoder(), report=lambda text: None, validation=0.0)
    source = ShardSource(tmp_path / "out", latents=4)
    assert source.shape == (1, 2, 3)
    given = read_actions(folder / "actions_raw.parquet")
    begins = set()
    for step in range(30):
        batch = source.batch(range(2), 4, step)
        assert batch.latents.shape == (2, 1, 4, 2, 3)
        assert batch.context is not None
        assert torch.equal(batch.context[:, :10], torch.full((2, 10, 4), 8.0))
        assert not batch.context[:, 10:].any()
        for latents, sticks in zip(batch.latents, batch.sticks, strict=True):
            (begin,) = np.flatnonzero(np.isclose(given[:, 8], float(sticks[0, 2]), atol=1e-6))
            assert begin % 4 == 0
            begins.add(int(begin) // 4)
            assert np.allclose(sticks.numpy(), given[begin : begin + 12, 6:])
            # The bar of light in frame i is 2 i pixels wide of 96: a latent of frames 4 k - 3 to 4 k is as bright.
            dark = latents[0].mean((1, 2))
            assert (dark[1:] > dark[:-1]).all()
    assert begins == set(range(8))
    assert source.no_text() is not None


def test_any_sharing_of_samples_among_processes_draws_the_same(tmp_path: Path) -> None:
    crossfps(tmp_path / "c" / "17", 41, "a")
    crossfps(tmp_path / "c" / "18", 33, "b")
    encode([tmp_path / "c"], tmp_path / "out", encoder(), report=lambda text: None, validation=0.0)
    source = ShardSource(tmp_path / "out", latents=3)
    whole = source.batch(range(6), 3, 5).latents
    parts = [ShardSource(tmp_path / "out", latents=3).batch(range(a, a + 2), 3, 5).latents for a in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(source.batch(range(6), 3, 6).latents, whole)


def test_encoding_goes_on_where_it_stopped_and_embeds_each_prompt_once(tmp_path: Path) -> None:
    for number, caption in ((17, "a"), (18, "b"), (19, "a")):
        crossfps(tmp_path / "c" / str(number), 13, caption)
    texts: list[str] = []
    shutil.move(tmp_path / "c" / "19", tmp_path / "19")
    encode([tmp_path / "c"], tmp_path / "out", encoder(texts), shard_bytes=1, report=lambda text: None)
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("shard-*")}
    shutil.move(tmp_path / "19", tmp_path / "c" / "19")
    index = encode([tmp_path / "c"], tmp_path / "out", encoder(texts), shard_bytes=1, report=lambda text: None)
    assert [entry.shard for entry in index.clips] == [0, 1, 2]
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in first} == first
    assert sorted(texts) == ["", "a", "b"]
    with pytest.raises(ScopeError, match="not by this model"):
        encode([tmp_path / "c"], tmp_path / "out", encoder(sha256="b"))


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    crossfps(tmp_path / "c" / "17", 13, "a")
    encode([tmp_path / "c"], tmp_path / "out", encoder(), report=lambda text: None, validation=0.0)
    with pytest.raises(ScopeError, match="no train clip of 9 latents, its longest has 4"):
        ShardSource(tmp_path / "out", latents=9)
    with pytest.raises(ScopeError, match="no encoded clips"):
        read_index(tmp_path)
    with pytest.raises(ScopeError, match="is no clip folder, tar of clips or LeRobot dataset"):
        list(find_items(tmp_path / "nowhere"))
    (tmp_path / "out" / "shard-00000.safetensors").write_bytes(b"")
    with pytest.raises(ScopeError, match="missing or damaged"):
        _ = ShardSource(tmp_path / "out", latents=3).batch(range(1), 3, 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=300, max_size=300, unique=True))
def test_a_game_is_in_one_split_for_ever(games: list[str]) -> None:
    splits = [split_of(game, 0.1) for game in games]
    assert splits == [split_of(game, 0.1) for game in games]
    assert 5 <= splits.count("validation") <= 65
    assert {split_of(game, 0.0) for game in games} == {"train"}


def test_two_thousand_clips_are_not_held_in_memory(tmp_path: Path) -> None:
    """Of what training reads, a step's samples alone are in memory: shards are mapped, and given back with the
    pages."""
    from safetensors.torch import save_file

    from scope_play.train.shards.layout import ClipEntry, Index, shard_path, write_index

    entries = []
    for shard in range(20):
        tensors = {}
        for number in range(100 * shard, 100 * (shard + 1)):
            tensors[f"latents/{number}"] = torch.zeros(21, 4, 4, 4)
            tensors[f"rows/{number}"] = torch.zeros(80, 10)
            entries.append(ClipEntry(number, shard, 21, 0, str(number), "train"))
        save_file(tensors, shard_path(tmp_path, shard))
    write_index(tmp_path, Index({"model": "m", "sha256": "a"}, (32, 48), tuple(entries), ("",)))
    source = ShardSource(tmp_path, latents=21)
    seen = {tuple(source.batch(range(1), 21, step).latents.shape) for step in range(50)}
    assert seen == {(1, 4, 21, 4, 4)}
