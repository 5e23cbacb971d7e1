"""What is asked of a loader: a model's name and how to load it. Plain values, so that it can be sent elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scope_play.actions import FRAMES_PER_LATENT
from scope_play.weights.catalog import NANO_MODELS

if TYPE_CHECKING:
    from scope_play.recording.metadata import ClipHeader

STREAM_FIELDS = ("steps", "shift", "window", "chunk", "guidance", "action_guidance", "mode", "cache")


@dataclass(frozen=True)
class LoadRequest:
    """`model`: "nano", "arena", the name of a download or a folder. What is None is as the weights say.

    device: "cpu", "cuda" or "cuda:N". precision, decoder and what follows: as in `World.load`. size: (height, width) of
    the simulator's picture. wan, lora, offload: as in `World.load`.
    """

    model: str
    device: str | None = None
    precision: str | None = None
    decoder: str | None = None
    steps: int | None = None
    shift: float | None = None
    window: int | None = None
    chunk: int | None = None
    guidance: float | None = None
    action_guidance: float | None = None
    mode: str | None = None
    cache: str | None = None
    size: tuple[int, int] | None = None
    smaller: str | None = None
    wan: str | None = None
    lora: tuple[str, ...] = ()
    offload: str | None = None

    def stream_changes(self) -> dict[str, Any]:
        """The fields of `StreamConfig` that this request sets."""
        changes = {name: getattr(self, name) for name in STREAM_FIELDS}
        return {name: value for name, value in changes.items() if value is not None}


def display_name(model: str) -> str:
    """A model's name for people: of a folder, its last part."""
    return model.replace("\\", "/").rstrip("/").rpartition("/")[2]


def request_like(header: ClipHeader) -> LoadRequest:
    """What a recording's world was loaded with."""
    model, name = header.model, header.model.name
    if name == NANO_MODELS[0] and (header.height, header.width) == (96, 160):
        name = NANO_MODELS[1]  # so it was called before there was a larger picture
    if model.name == "arena":
        return LoadRequest(model.name, size=(header.height, header.width))
    return LoadRequest(
        name,
        device=model.device,
        precision=model.precision,
        decoder=model.decoder,
        steps=model.steps,
        shift=model.shift,
        window=model.window,
        chunk=header.frames_per_chunk // FRAMES_PER_LATENT,
        guidance=model.guidance,
        action_guidance=model.action_guidance,
        mode=model.mode,
        cache=model.cache,
        wan=model.wan,
        lora=model.lora,
        offload=model.offload,
    )
