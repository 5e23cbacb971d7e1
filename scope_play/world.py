"""The public Python API: a `World` is a loaded model, a `Session` is one running world.

    world = World.load("nano")
    with world.start(seed=7) as session:
        chunk = session.step(actions)      # float32 (frames_per_chunk, 10) -> uint8 (frames_per_chunk, H, W, 3)

A session depends on (weights, settings, start image, prompt, seed, actions) and on nothing else: not on when it is
asked, and not on what else runs. `snapshot` and `restore` go back to any chunk exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scope_play.actions import AXES, BUTTONS, FPS, FRAMES_PER_LATENT
from scope_play.errors import ScopeError
from scope_play.images import Image, crop_and_resize, read_image
from scope_play.kernels.text_attention import shorten
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.select import network_for_streaming
from scope_play.sampling.stream import StreamConfig
from scope_play.session.codec import Codec, PromptReader
from scope_play.session.session import Chunk, Session, SessionBatch, Snapshot

if TYPE_CHECKING:
    from scope_play.model.dit.block import TextKV
    from scope_play.model.dit.dit import DiT

__all__ = ["Chunk", "Image", "Session", "SessionBatch", "Snapshot", "World", "WorldSpec"]

FIRST_LATENTS = 8
"""How many start images a world remembers."""


@dataclass(frozen=True)
class WorldSpec:
    """What a world takes and gives. Sizes in pixels; from `steps` on as in StreamConfig.

    `decoder` is "full", the one that belongs to the model, or "tiny", its preview.
    """

    name: str
    height: int
    width: int
    latents_per_chunk: int
    has_text: bool
    causal: bool
    trained: bool
    steps: int
    window: int
    sink: int
    precision: str
    device: str
    shift: float = 1.0
    mode: str = "cached"
    guidance: float = 1.0
    action_guidance: float = 1.0
    cache: str = "full"
    decoder: str = "full"
    fps: int = FPS
    buttons: tuple[str, ...] = BUTTONS
    axes: tuple[str, ...] = AXES

    @property
    def frames_per_chunk(self) -> int:
        """Video frames in a chunk, and action rows that it takes."""
        return self.latents_per_chunk * FRAMES_PER_LATENT


class World:
    """A model ready to play. Make one with `World.load`, or from parts."""

    def __init__(
        self,
        network: DiT,
        codec: Codec,
        stream: StreamConfig,
        *,
        size: tuple[int, int],
        name: str = "custom",
        trained: bool = True,
        identity: dict[str, str] | None = None,
        precision: str | None = None,
        decoder: str = "full",
        prompt_reader: PromptReader | None = None,
        negative_prompt: str = "",
        default_image: Callable[[], np.ndarray] | None = None,
    ) -> None:
        """`network` and `codec` stay on the device and in the precision they have; `size` is (height, width).

        `precision` names how the network's linears are stored, when that is not its dtype: "fp8" or "int8"; `decoder`
        which decoder `codec` has.
        `default_image` draws the scene a session starts in when none is given.
        """
        weight = next(network.parameters())
        self.network = network.eval()
        self.streaming_network = network_for_streaming(self.network, stream)
        self.codec = codec
        self.stream_config = stream
        self.prompt_reader = prompt_reader
        self.negative_prompt = negative_prompt
        self.default_image = default_image
        self._first_latents: dict[bytes, Tensor] = {}
        self.device, self.dtype = weight.device, weight.dtype
        self.identity = identity or {"model": name, "sha256": ""}
        self.spec = WorldSpec(
            name=name,
            height=size[0],
            width=size[1],
            latents_per_chunk=stream.chunk,
            has_text=network.config.text_dim is not None,
            causal=network.config.causal,
            trained=trained,
            steps=stream.steps,
            window=stream.window,
            sink=stream.sink,
            precision=precision or {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype],
            device=str(self.device),
            shift=stream.shift,
            mode=stream.mode,
            guidance=stream.guidance,
            action_guidance=stream.action_guidance,
            cache=stream.cache,
            decoder=decoder,
        )

    @property
    def kernels(self) -> str:
        """Which kernels a session runs on, and why, for people."""
        if isinstance(self.streaming_network, FusedDiT):
            chosen = self.streaming_network.kernels
            return f"{chosen.backend} ({chosen.reason})"
        return "none (streaming mode 'window' runs the network itself)"

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
        sink: int | None = None,
        chunk: int | None = None,
        guidance: float | None = None,
        action_guidance: float | None = None,
        mode: str | None = None,
        cache: str | None = None,
        decoder: str | None = None,
    ) -> World:
        """Load "nano" or a folder of weights. What is None is as the weights say, on the best device there is.

        precision: "fp32", "bf16" or "fp16", or 8 bits for the weights of the blocks: "fp8" (Ada, Hopper and newer) or
        "int8". cache: "fp8" halves what is remembered. decoder: "tiny" takes the public preview decoder of Wan2.2's
        latents in place of the model's own.

        Raises ScopeError naming the file, tensor or setting that does not fit.
        """
        from scope_play.loading.nano import load_world

        changes = {
            "steps": steps,
            "shift": shift,
            "window": window,
            "sink": sink,
            "chunk": chunk,
            "guidance": guidance,
            "action_guidance": action_guidance,
            "mode": mode,
            "cache": cache,
        }
        overrides = {key: value for key, value in changes.items() if value is not None}
        return load_world(model, device=device, precision=precision, decoder=decoder or "full", overrides=overrides)

    def start(self, image: Image | None = None, prompt: str | None = None, seed: int = 0) -> Session:
        """Begin a session at `image` (uint8 (H, W, 3) or a path; cropped and resized to fit), or at the model's own."""
        return Session(self, image, prompt, seed)

    def start_many(
        self, images: Sequence[Image | None], seeds: Sequence[int], prompt: str | None = None
    ) -> SessionBatch:
        """Begin len(seeds) sessions that step together in one batch."""
        return SessionBatch(self, images, prompt, seeds)

    def fit_image(self, image: Image | None) -> np.ndarray:
        """The start image as the model gets it: uint8 (height, width, 3)."""
        if image is None:
            if self.default_image is None:
                raise ScopeError(f"{self.spec.name} has no scene of its own; give a start image")
            image = self.default_image()
        if not isinstance(image, np.ndarray):
            image = read_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ScopeError(f"a start image must be uint8 (H, W, 3), but this one is {image.dtype} {image.shape}")
        return crop_and_resize(image, self.spec.height, self.spec.width)

    def first_latent(self, frames: np.ndarray) -> Tensor:
        """The latent of start images uint8 (B, height, width, 3). The last few are remembered: a game that begins again
        need not look again."""
        key = hashlib.sha256(frames.tobytes()).digest()
        known = self._first_latents.pop(key, None)
        if known is None:
            with torch.inference_mode():
                pixels = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2)[:, :, None]
                known = self.codec.encoder().push(pixels.to(self.dtype) * (2 / 255) - 1)
        self._first_latents[key] = known
        if len(self._first_latents) > FIRST_LATENTS:
            del self._first_latents[next(iter(self._first_latents))]
        return known

    def text_keys(self, prompt: str | None) -> list[TextKV] | None:
        """Cross-attention keys and values of a prompt; None for a model without text."""
        if not self.spec.has_text:
            if prompt:
                raise ScopeError(f"{self.spec.name} has no text encoder, so it takes no prompt; leave the prompt out")
            return None
        if self.prompt_reader is None:
            raise ScopeError(f"{self.spec.name} was loaded without its text encoder; load it with one to use prompts")
        with torch.inference_mode():
            context, bias = shorten(self.prompt_reader(prompt or "").to("cpu", self.dtype))
            bias = None if bias is None else bias.to(self.device)
            return self.network.text_keys(context.to(self.device), bias)
