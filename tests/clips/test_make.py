"""`scope-play generate` from the command line to the mp4, with a small folder of the released layout and with nano."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from scope_play.actions import write_actions
from scope_play.cli import main
from scope_play.clips.make import generate
from scope_play.images import crop_and_resize, read_image, stretch
from scope_play.loading.free_memory import FreeMemory
from scope_play.weights.official import ScopeFolder
from scope_play.world import World
from tests.helpers.official_folder import write_official_folder

SMALL = ["--size", "32x64", "--frames", "9", "--steps", "2"]


@pytest.fixture(autouse=True)
def no_user_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_args, **_kwargs: cache)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official_folder(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (50, 90, 3), dtype=np.uint8)).save(tmp_path / "start.png")
    rows = np.zeros((12, 10), np.float32)
    rows[:, 6:] = random.uniform(-1, 1, (12, 4))
    rows[3:, 0] = 1
    write_actions(tmp_path / "run.parquet", rows)
    return {"image": tmp_path / "start.png", "actions": tmp_path / "run.parquet", "out": tmp_path / "out"}


def command(official: Path, inputs: dict[str, Path], *more: str) -> list[str]:
    named = [str(part) for name, path in inputs.items() for part in (f"--{name}", path)]
    return ["generate", "--model", str(official), *named, "--prompt", "a  town", *SMALL, *more]


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def report(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def test_from_the_command_line_to_the_video(official: Path, inputs: dict[str, Path]) -> None:
    assert main(command(official, inputs)) == 0
    assert written(inputs["out"]) == ["start.json", "start.mp4"]
    with av.open(str(inputs["out"] / "start.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.average_rate, stream.height, stream.width) == (20, 32, 64)
        assert sum(1 for _ in video.decode(video=0)) == 9
    about = report(inputs["out"] / "start.json")
    assert about["prompt"] == "a  town"
    assert about["settings"]["guidance"] == 5.0
    assert about["actions"]["sha256"] == hashlib.sha256(inputs["actions"].read_bytes()).hexdigest()
    frames = generate(
        official, image=inputs["image"], actions=inputs["actions"], prompt="a town", size=(32, 64), frames=9, steps=2
    )
    assert hashlib.sha256(frames.data).hexdigest() == about["frames_sha256"]


def test_a_known_prompt_needs_no_text_encoder(
    official: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(official, inputs)) == 0
    first = report(inputs["out"] / "start.json")["frames_sha256"]

    def absent(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the text encoder was loaded again")

    monkeypatch.setattr("scope_play.loading.prompts.load_streamed", absent)
    assert main(command(official, inputs, "--force")) == 0
    assert report(inputs["out"] / "start.json")["frames_sha256"] == first
    with pytest.raises(AssertionError, match="loaded again"):
        main(command(official, inputs, "--force", "--prompt", "another town"))


def test_the_references_flag_names_work(official: Path, inputs: dict[str, Path]) -> None:
    assert main(command(official, inputs)) == 0
    flags = {
        "--model_dir": official,
        "--input_image": inputs["image"],
        "--action_path": inputs["actions"],
        "--output_dir": inputs["out"] / "aliases",
        "--num_inference_steps": 2,
        "--max_frames": 11,
        "--prompt": "a town",
        "--size": "32x64",
    }
    assert main(["generate", *(str(part) for pair in flags.items() for part in pair)]) == 0
    ours, aliases = report(inputs["out"] / "start.json"), report(inputs["out"] / "aliases" / "start.json")
    assert ours["frames_sha256"] == aliases["frames_sha256"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_streamed_blocks_change_no_pixel(official: Path, inputs: dict[str, Path], precision: str) -> None:
    shared = dict(image=inputs["image"], actions=inputs["actions"], size=(32, 64), frames=5, steps=2)  # noqa: C408
    resident = generate(official, **shared, offload="none", precision=precision)  # type: ignore[arg-type]
    streamed = generate(official, **shared, offload="blocks", precision=precision)  # type: ignore[arg-type]
    np.testing.assert_array_equal(resident, streamed)


def test_action_guidance_changes_the_clip_only_where_actions_are_given(official: Path, inputs: dict[str, Path]) -> None:
    def clip(**options: Any) -> np.ndarray:
        return generate(official, image=inputs["image"], size=(32, 64), frames=5, steps=2, guidance=1.0, **options)

    with_actions = clip(actions=inputs["actions"])
    assert (with_actions != clip(actions=inputs["actions"], action_guidance=3.0)).any()
    assert (with_actions != clip()).any()
    np.testing.assert_array_equal(clip(), clip(action_guidance=3.0))


@pytest.mark.usefixtures("quick_look")
def test_nano_gives_the_frames_of_playing_it(tmp_path: Path) -> None:
    rows = np.zeros((9, 10), np.float32)
    rows[:, 8] = 0.7
    write_actions(tmp_path / "run.parquet", rows)
    out = tmp_path / "nano.mp4"
    assert main(["generate", "--actions", str(tmp_path / "run.parquet"), "--out", str(out), "--seed", "5"]) == 0
    with World.load("nano").start(seed=5) as session:
        played = [session.first_frame[None], *(session.step(part).frames for part in rows[:8].reshape(2, 4, 10))]
    about = report(tmp_path / "nano.json")
    assert about["frames"] == 9
    assert about["frames_sha256"] == hashlib.sha256(np.concatenate(played).data).hexdigest()
    assert about["settings"]["mode"] == "streaming"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--shift", "3"], "leave out the shift"),
        (["--guidance", "5"], "takes no prompt"),
        (["--size", "480x832"], "pixels only"),
        (["--offload", "blocks"], "cannot be offloaded"),
        (["--prompt", "a town"], "takes no prompt"),
        (["--frames", "0"], "0 frames"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_what_nano_cannot_do_is_said(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--out", str(tmp_path / "out"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert written(tmp_path) == []


def refused(arguments: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert not out.exists()
    return message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("image", b"not a picture", "not one that can be read"),
        ("image", None, "no image"),
        ("actions", b"not parquet", "not a readable parquet file"),
        ("actions", None, "no action file"),
    ],
)
def test_bad_inputs_are_refused_before_anything_is_loaded(
    name: str,
    content: bytes | None,
    words: str,
    official: Path,
    inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs[name].unlink()
    if content is not None:
        inputs[name].write_bytes(content)
    monkeypatch.setattr("scope_play.clips.make.open_model", None)
    assert words in refused(command(official, inputs), inputs["out"], capsys)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code ran",)


DIT, VAE, TEXT = "model-00001-of-00002.safetensors", "Wan2.2_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"


def damage(path: Path, kind: str) -> None:
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        return
    if kind == "hostile":
        path.write_bytes(pickle.dumps(Hostile(), protocol=2))
        return
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    name = sorted(state)[0]
    tensor = state.pop(name)
    if kind == "renamed":
        state["stranger"] = tensor
    if kind == "reshaped":
        state[name] = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


@pytest.mark.parametrize("file", [DIT, VAE, TEXT])
@pytest.mark.parametrize("kind", ["removed", "renamed", "reshaped", "truncated", "hostile"])
def test_damaged_weights_are_refused(
    kind: str,
    file: str,
    official: Path,
    inputs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "weights"
    shutil.copytree(official, copy)
    damage(copy / file, kind)
    message = refused(command(copy, inputs), inputs["out"], capsys)
    assert str(copy) in message
    assert "code ran" not in message


def test_too_little_memory_is_said_before_loading(
    official: Path, inputs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(official, inputs)) == 0
    capsys.readouterr()
    shutil.rmtree(inputs["out"])
    monkeypatch.setattr(FreeMemory, "now", lambda device: FreeMemory(2_500_000, 2_500_000, is_cpu=True))
    monkeypatch.setattr(ScopeFolder, "dit", None)
    assert "This clip needs" in refused(command(official, inputs), inputs["out"], capsys)
    unread = command(official, inputs, "--prompt", "another town")
    assert "Reading the prompt needs" in refused(unread, inputs["out"], capsys)


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--steps", "0"], "0 denoising steps"), (["--frames", "401"], "397 at most"), (["--shift", "-1"], "shift is -1")],
)
def test_impossible_settings_are_said_before_loading(
    flags: list[str],
    words: str,
    official: Path,
    inputs: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ScopeFolder, "dit", None)
    assert words in refused(command(official, inputs, *flags), inputs["out"], capsys)


def test_nothing_is_overwritten_without_force(
    official: Path, inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    inputs["out"].mkdir()
    (inputs["out"] / "start.json").write_text("precious")
    assert main(command(official, inputs)) == 2
    assert "--force" in capsys.readouterr().err
    assert (inputs["out"] / "start.json").read_text() == "precious"
    assert written(inputs["out"]) == ["start.json"]
    assert main(command(official, inputs, "--force")) == 0
    assert written(inputs["out"]) == ["start.json", "start.mp4"]


def test_a_folder_of_images(
    official: Path, inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "b.png", "c.png", "c.jpg"):
        Image.open(inputs["image"]).save(images / name)
    shutil.copyfile(inputs["actions"], images / "a.parquet")
    (images / "a.txt").write_text("a harbour\n")
    (images / "b.parquet").write_bytes(b"broken")
    flags = ["--image-dir", str(images), "--out", str(inputs["out"])]
    assert main(["generate", "--model", str(official), *flags, *SMALL]) == 2
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("scope-play")]
    assert len(complaints) == 1
    assert "b.parquet" in complaints[0]
    assert written(inputs["out"]) == ["a.json", "a.mp4", "c.jpg.json", "c.jpg.mp4", "c.png.json", "c.png.mp4"]
    assert report(inputs["out"] / "a.json")["prompt"] == "a harbour"
    assert report(inputs["out"] / "a.json")["actions"]["path"] == str(images / "a.parquet")
    own = ["--actions", str(inputs["actions"]), "--prompt", "a town", "--force"]
    assert main(["generate", "--model", str(official), *flags, *own, *SMALL]) == 0
    for name in ("a", "b", "c.png"):
        assert report(inputs["out"] / f"{name}.json")["prompt"] == "a town"
        assert report(inputs["out"] / f"{name}.json")["actions"]["path"] == str(inputs["actions"])


def test_the_size_in_two_numbers_and_odd_sizes_as_the_reference_has_them(
    official: Path, inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Cropped and resized to what was asked for, then stretched to what can be made."""
    assert main([*command(official, inputs)[:-6], "--height", "30", "--width", "60", *SMALL[2:]]) == 0
    with Image.open(inputs["image"]) as picture:
        asked = stretch(crop_and_resize(np.asarray(picture.convert("RGB")), 30, 60), 32, 64)
    frames = generate(
        official, image=asked, actions=inputs["actions"], prompt="a town", size=(32, 64), frames=9, steps=2
    )
    assert hashlib.sha256(frames.data).hexdigest() == report(inputs["out"] / "start.json")["frames_sha256"]
    assert main([*command(official, inputs, "--force"), "--height", "30"]) == 2
    assert "the size was given twice" in capsys.readouterr().err


def test_a_turned_picture_is_taken_as_it_is_stored_unless_asked(official: Path, inputs: dict[str, Path]) -> None:
    with Image.open(inputs["image"]) as picture:
        exif = picture.getexif()
        exif[0x0112] = 3  # upside down
        picture.save(inputs["image"].with_suffix(".jpg"), exif=exif, quality=95)
    inputs["image"] = inputs["image"].with_suffix(".jpg")
    assert main(command(official, inputs)) == 0
    stored = report(inputs["out"] / "start.json")["frames_sha256"]
    assert main(command(official, inputs, "--force", "--upright")) == 0
    turned = report(inputs["out"] / "start.json")["frames_sha256"]

    def made(upright: bool) -> str:
        image = read_image(inputs["image"], upright=upright)
        frames = generate(
            official, image=image, actions=inputs["actions"], prompt="a town", size=(32, 64), frames=9, steps=2
        )
        return hashlib.sha256(frames.data).hexdigest()

    assert (stored, turned) == (made(False), made(True))
    assert stored != turned
