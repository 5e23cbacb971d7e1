"""The public Python API: a `World` is a loaded model, a `Session` is one running world.

    world = World.load("nano")
    with world.start(seed=7) as session:
        chunk = session.step(actions)      # float32 (frames_per_chunk, 10) -> uint8 (frames_per_chunk, H, W, 3)

A session depends on (weights, settings, start image, prompt, seed, actions) and on nothing else: not on when it is
asked, and not on what else runs. `snapshot` and `restore` go back to any chunk exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scope_play.images import Image
from scope_play.loading.load import load_model
from scope_play.loading.request import LoadRequest, request_like
from scope_play.loading.resolve import Family, resolve
from scope_play.recording.metadata import ClipHeader
from scope_play.sampling.stream import Progress
from scope_play.session.batch import SessionBatch, Snapshot
from scope_play.session.interfaces import Chunk, WorldLike, WorldSpec
from scope_play.session.loaded_model import LoadedModel
from scope_play.session.session import Session
from scope_play.wire.world import RemoteWorld

__all__ = ["Chunk", "Image", "Session", "SessionBatch", "Snapshot", "World", "WorldSpec"]


class World:
    """A model ready to play. Make one with `World.load`, or from a `LoadedModel`."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    @property
    def spec(self) -> WorldSpec:
        return self.model.spec

    @property
    def identity(self) -> dict[str, str]:
        return self.model.identity

    @property
    def kernels(self) -> str:
        """Which kernels a session runs on, and why, for people."""
        return self.model.kernels

    @classmethod
    def load(
        cls,
        model: str | Path = "nano",
        *,
        device: str | None = None,
        precision: str | None = None,
        steps: int | None = None,
        shift: float | None = None,
        window: int | None = None,
        chunk: int | None = None,
        guidance: float | None = None,
        action_guidance: float | None = None,
        mode: str | None = None,
        cache: str | None = None,
        decoder: str | None = None,
        wan: str | Path | None = None,
        lora: Sequence[str] = (),
        offload: str | None = None,
    ) -> World:
        """Load "nano" or a folder of weights. What is None is as the weights say, on the best device there is.

        precision: "fp32", "bf16" or "fp16", or 8 bits for the weights of the blocks: "fp8" (Ada, Hopper and newer) or
        "int8". cache: "fp8" halves what is remembered. decoder: "tiny" takes the public preview decoder of Wan2.2's
        latents in place of the model's own. wan: a folder with the autoencoder, text encoder and tokenizer of Wan2.2,
        if they are not beside the model. lora: files to merge into the transformer, each "FILE" or "FILE:scale".
        offload: "blocks" keeps the transformer's blocks in host memory, "disk" in their files; "none", or what fits
        ("auto").

        Raises ScopeError naming the file, tensor or setting that does not fit.
        """
        request = LoadRequest(
            str(model),
            device=device,
            precision=precision,
            decoder=decoder,
            steps=steps,
            shift=shift,
            window=window,
            chunk=chunk,
            guidance=guidance,
            action_guidance=action_guidance,
            mode=mode,
            cache=cache,
            wan=None if wan is None else str(wan),
            lora=tuple(lora),
            offload=offload,
        )
        return cls(load_model(resolve(request.model), request))

    @staticmethod
    def connect(url: str) -> RemoteWorld:
        """A world that runs elsewhere: the address, with its token, that `scope-play serve` printed."""
        return RemoteWorld(url)

    def start(self, image: Image | None = None, prompt: str | None = None, seed: int = 0) -> Session:
        """Begin a session at `image` (uint8 (H, W, 3) or a path; cropped and resized to fit), or at the model's own."""
        return Session(self.model, image, prompt, seed)

    def rehearse(self, games: int = 1, progress: Progress | None = None) -> None:
        """On a GPU: record what so many games at once can ask for, so that none waits in its first seconds.

        `progress` is called with what is done and all there is to do, for each game. Elsewhere there is nothing to do.
        """
        self.model.rehearse(games, progress)

    @property
    def idle_bytes(self) -> int:
        """What is kept of the device's memory for games to come."""
        return self.model.idle_bytes

    def start_many(
        self, images: Sequence[Image | None], seeds: Sequence[int], prompt: str | None = None
    ) -> SessionBatch:
        """Begin len(seeds) sessions that step together in one batch."""
        return SessionBatch(self.model, images, prompt, seeds)


def open_world(request: LoadRequest) -> WorldLike:
    """The world that `request` names: a model's, or the simulator's.

    Raises ScopeError naming what is not there or does not fit.
    """
    model = resolve(request.model)
    if model.family is Family.ARENA:
        from scope_play.arena.world import ArenaWorld

        return ArenaWorld(*request.size) if request.size else ArenaWorld()
    return World(load_model(model, request))


def open_like(header: ClipHeader, **chosen: Any) -> WorldLike:
    """The world that made a recording, as `as_recorded` says.

    Sums are split among threads, which changes their rounding: PyTorch is set to the recording's number of threads.
    """
    if header.build.threads is not None:
        torch.set_num_threads(header.build.threads)
    return open_world(as_recorded(header, **chosen))


def as_recorded(header: ClipHeader, **chosen: Any) -> LoadRequest:
    """The world that made a recording, as far as this machine has it. What of `chosen`, fields of a LoadRequest, is not
    None wins over the recording's.
    """
    request = request_like(header)
    if request.device != "cpu" and not torch.cuda.is_available():
        request = replace(request, device=None)
    return replace(request, **{name: value for name, value in chosen.items() if value is not None})
