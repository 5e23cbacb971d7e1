"""Which clips a `generate` command asks for, and how a finished one is written."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from scope_play import __version__
from scope_play.actions import FPS, read_actions
from scope_play.clips.options import ClipInputs
from scope_play.errors import ScopeError
from scope_play.files import replacing, require_free
from scope_play.images import read_image

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
VIDEO = ".mp4"
SCHEMA = 1


@dataclass(frozen=True)
class ClipJob:
    """One clip to make: where its inputs are, and the video to write."""

    image: Path | None
    actions: Path | None
    prompt: str | None
    video: Path
    upright: bool = False
    """Whether the image is turned as its camera noted, which the reference does not do."""

    @property
    def report(self) -> Path:
        """The JSON file beside the video."""
        return self.video.with_suffix(".json")

    @property
    def name(self) -> str:
        return str(self.image or self.video)

    def read(self) -> ClipInputs:
        """Raises ScopeError naming the input that cannot be used."""
        return ClipInputs(
            image=None if self.image is None else read_image(self.image, upright=self.upright),
            rows=None if self.actions is None else read_actions(self.actions),
            prompt=self.prompt,
        )

    def check_output(self, *, force: bool) -> None:
        """Raises ScopeError when the clip cannot be written where it should be."""
        if not force:
            require_free(self.video, self.report, mend="choose another --out, or replace it with --force")
        existing = next(folder for folder in self.video.parents if folder.exists())
        if not existing.is_dir():
            raise ScopeError(f"{self.video} cannot be written, as {existing} is no folder; choose another --out.")


def single_job(image: Path | None, actions: Path | None, prompt: str | None, out: Path) -> ClipJob:
    """One clip, into `out` if that is an .mp4, else into the folder `out`."""
    stem = image.stem if image is not None else actions.stem if actions is not None else "clip"
    return ClipJob(image, actions, prompt, out if out.suffix.lower() == VIDEO else out / f"{stem}{VIDEO}")


def folder_jobs(folder: Path, actions: Path | None, prompt: str | None, out: Path) -> list[ClipJob]:
    """One clip for each image in `folder`.

    `actions` and `prompt` go with every image; where one is not given, `foo.png` goes with `foo.parquet` and `foo.txt`.

    Raises:
        ScopeError: `folder` has no images, or `out` names a file.
    """
    if not folder.is_dir():
        raise ScopeError(f"There is no folder {folder}; give one with images.")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not images:
        raise ScopeError(f"{folder} has no images; put {', '.join(sorted(IMAGES))} files there.")
    if out.suffix.lower() == VIDEO:
        raise ScopeError(f"--out {out} is one file, but --image-dir makes one clip per image; give a folder.")
    jobs = []
    for image in images:
        own_actions, own_prompt = image.with_suffix(".parquet"), image.with_suffix(".txt")
        # An image keeps its suffix where another one's clip could be called as it would be without.
        others = {name.casefold() for other in images if other != image for name in (other.stem, other.name)}
        name = image.name if image.stem.casefold() in others else image.stem
        jobs.append(
            ClipJob(
                image=image,
                actions=own_actions if actions is None and own_actions.is_file() else actions,
                prompt=read_prompt(own_prompt) if prompt is None and own_prompt.is_file() else prompt,
                video=out / f"{name}{VIDEO}",
            )
        )
    return jobs


def read_prompt(path: Path) -> str:
    """The text of a prompt file. Raises ScopeError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ScopeError(f"The prompt {path} could not be read ({error}); save it as UTF-8 text.") from error


@dataclass(frozen=True)
class Video:
    """What was written: how many frames, their size, and the SHA-256 of their pixels."""

    frames: int
    height: int
    width: int
    sha256: str


def write_clip(job: ClipJob, chunks: Iterator[np.ndarray], settings: dict[str, Any]) -> Video:
    """Writes the video, 20 frames a second, and the JSON beside it; each takes its place only when whole.

    Args:
        chunks: uint8 frames (n, H, W, 3), written as they come. Nothing is created if even the first cannot be made.
    """
    began = time.perf_counter()
    first = next(chunks)
    job.video.parent.mkdir(parents=True, exist_ok=True)
    with replacing(job.video) as beside:
        video = write_video(beside, first, chunks)
    with replacing(job.report) as beside:
        report = make_report(job, video, settings, time.perf_counter() - began)
        beside.write_text(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return video


def write_video(path: Path, first: np.ndarray, rest: Iterable[np.ndarray]) -> Video:
    """Writes uint8 frames (n, H, W, 3), `first` and then `rest`, as a plain mp4. Raises OSError if the disk is full."""
    from scope_play.recording.video import Mp4Writer, copy_frames

    _, height, width, _ = first.shape
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
        fragmented = Path(scratch) / path.name
        with closing(Mp4Writer(fragmented, height, width, FPS)) as writer:
            for frame in chain.from_iterable(chain([first], rest)):
                writer.write(frame)
                digest.update(np.ascontiguousarray(frame).data)
        count = copy_frames(fragmented, path)
    return Video(count, height, width, digest.hexdigest())


def make_report(job: ClipJob, video: Video, settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    """All that is needed to make the same clip again, and to see whether it is the same."""
    import torch

    return {
        "schema": SCHEMA,
        "synthetic": True,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "image": file_identity(job.image),
        "actions": file_identity(job.actions),
        "prompt": job.prompt,
        "frames": video.frames,
        "height": video.height,
        "width": video.width,
        "fps": FPS,
        "frames_sha256": video.sha256,
        "settings": settings,
        "seconds": round(seconds, 3),
        "versions": {"scope-play": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
    }


def file_identity(path: Path | None) -> dict[str, str] | None:
    """Where an input lay, and what was in it."""
    if path is None:
        return None
    return {"path": str(path.resolve()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def readable(jobs: list[ClipJob], *, force: bool) -> Iterator[tuple[ClipJob, ClipInputs | ScopeError]]:
    """Each job with its inputs, or with the reason why it cannot be done."""
    for job in jobs:
        try:
            job.check_output(force=force)
            yield job, job.read()
        except ScopeError as error:
            yield job, error
