"""metadata.json of a clip folder: the dataclasses it holds, written and read back with every key checked."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.errors import ScopeError
from scope_play.files import replacing
from scope_play.records import read_record, to_json

if TYPE_CHECKING:
    from scope_play.session.interfaces import WorldSpec

SCHEMA = 1
METADATA = "metadata.json"


@dataclass(frozen=True)
class ModelSetup:
    """Which network ran, and how. `sha256` is the hash of its weight files; wan, lora, offload: as in `World.load`.
    instead_of: the model that was measured not to keep up here, and how long its chunks took."""

    name: str
    sha256: str
    steps: int
    window: int
    shift: float
    mode: str
    guidance: float
    action_guidance: float
    precision: str
    device: str
    cache: str = "full"
    decoder: str = "full"
    wan: str | None = None
    lora: tuple[str, ...] = ()
    offload: str | None = None
    instead_of: str | None = None

    @classmethod
    def of(cls, spec: WorldSpec, identity: Mapping[str, str]) -> ModelSetup:
        """The setup of a loaded world, from its `spec` and `identity`."""
        stream = spec.stream
        return cls(
            name=identity["model"],
            sha256=identity["sha256"],
            steps=stream.steps,
            window=stream.window,
            shift=stream.shift,
            mode=stream.mode,
            guidance=stream.guidance,
            action_guidance=stream.action_guidance,
            precision=spec.precision,
            device=spec.device,
            cache=stream.cache,
            decoder=spec.decoder,
            wan=identity.get("wan"),
            lora=tuple(identity["lora"].splitlines()) if "lora" in identity else (),
            offload=identity.get("offload"),
            instead_of=identity.get("instead_of"),
        )


@dataclass(frozen=True)
class BuildSetup:
    """What the network ran on. Rounding can depend on each of these."""

    app: str
    torch: str
    threads: int | None
    python: str
    platform: str

    @classmethod
    def here(cls) -> BuildSetup:
        """This process. `threads` is None while torch is not loaded."""
        torch = sys.modules.get("torch")
        return cls(
            app=importlib.metadata.version("scope-play"),
            torch=importlib.metadata.version("torch"),
            threads=torch.get_num_threads() if torch else None,
            python=platform.python_version(),
            platform=f"{platform.system()}-{platform.machine()}",
        )


@dataclass(frozen=True)
class InputSetup:
    """How a device became rows: the dead zones of the left and the right stick, 0 for keys and mouse.

    `axis_signs` maps an axis to +1 or -1, the factor its device value was multiplied by. A recording's header has what
    it began with; what it went on with is an event "input" with the same fields.
    """

    mode: str = "exact"
    dead_zone: float = 0.0
    axis_signs: Mapping[str, int] = field(default_factory=dict)
    pad_name: str = ""
    pad_guid: str = ""
    right_dead_zone: float = 0.0


@dataclass(frozen=True)
class ClipHeader:
    """What is known when a recording begins: the prompt is the one in force then, `started` an ISO time in UTC."""

    fps: int
    height: int
    width: int
    frames_per_chunk: int
    seed: int
    prompt: str | None
    model: ModelSetup
    build: BuildSetup
    input: InputSetup = field(default_factory=InputSetup)
    prompt_id: int = 0
    started: str = ""
    synthetic: bool = True

    @classmethod
    def of(
        cls,
        spec: WorldSpec,
        identity: Mapping[str, str],
        *,
        seed: int,
        prompt: str | None = None,
        prompt_id: int = 0,
        inputs: InputSetup | None = None,
        build: BuildSetup | None = None,
    ) -> ClipHeader:
        """The header of a recording that begins now, of a world with this `spec` and `identity`.

        `build` is that of the thread which runs the world, by default this one's.
        """
        return cls(
            fps=spec.fps,
            height=spec.height,
            width=spec.width,
            frames_per_chunk=spec.frames_per_chunk,
            seed=seed,
            prompt=prompt,
            prompt_id=prompt_id,
            model=ModelSetup.of(spec, identity),
            build=build or BuildSetup.here(),
            input=inputs or InputSetup(),
            started=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        )


@dataclass(frozen=True)
class Prompt:
    """From frame `frame` on, the prompt was `text`."""

    id: int
    frame: int
    text: str | None


@dataclass(frozen=True)
class Branch:
    """A rewind. Frames from `frame` on continue from the end of recorded chunk `source_chunk`.

    0 is the first image; -k is k chunks earlier, in `before.parquet`.
    """

    frame: int
    source_chunk: int


@dataclass(frozen=True)
class Ending:
    """Why a recording ended. `clean` is False if it was recovered; `video_problem` says why the video is shorter."""

    reason: str
    clean: bool = True
    video_problem: str | None = None


@dataclass(frozen=True)
class Before:
    """Whole chunks played before the recording began; each prompt's `frame` counts from the session's start."""

    chunks: int
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Metadata:
    """metadata.json. `frames` counts the rows; `video_frames` is smaller only if the video could not keep up."""

    schema: int
    header: ClipHeader
    frames: int
    video_frames: int
    prompts: tuple[Prompt, ...]
    branches: tuple[Branch, ...]
    ending: Ending
    before: Before | None = None
    events: tuple[dict, ...] = ()


def write_metadata(path: Path, metadata: Metadata) -> None:
    """Writes `metadata.json`."""
    text = json.dumps(to_json(metadata), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")


def read_metadata(path: Path) -> Metadata:
    """Reads `metadata.json`; a ScopeError names the key that is missing or wrong."""
    if not path.is_file():
        raise ScopeError(
            f"{path.parent} has no {METADATA}, so it is not a recording of this app; choose another folder."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScopeError(f"{path} cannot be read ({error}); restore it from a copy.") from error
    found = data.get("schema") if isinstance(data, dict) else None
    if found != SCHEMA:
        raise ScopeError(f"{path} has schema {found!r}, this app reads {SCHEMA}; use the version that recorded it.")
    return read_record(Metadata, data, str(path), strict=False)
