"""A loaded model: its networks and how they are streamed. Loaders make it, sessions run on it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.images import Image, crop_and_resize, read_image
from scope_play.kernels.text_attention import shorten
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.dit import DiT
from scope_play.model.wan_vae.vae import DecoderStream
from scope_play.runtime.berths import Berths
from scope_play.runtime.fused_dit import FusedDiT
from scope_play.runtime.offload import is_streamed
from scope_play.runtime.plain_dit import PlainDiT
from scope_play.runtime.recorded_decoder import Decoders, RecordedDecoder
from scope_play.runtime.select import network_for_streaming, recorder_on, refuse_kernels
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.stream import Progress, Stream
from scope_play.sampling.stream_config import StreamConfig
from scope_play.sampling.window_stream import WindowStream
from scope_play.session.codec import Codec, CodecStream, ProjectingCodec, PromptReader
from scope_play.session.frame_transfer import FIRST
from scope_play.session.interfaces import WorldSpec

FIRST_LATENTS = 8
"""How many start images a model remembers."""
M = TypeVar("M", bound=nn.Module)
PRECISION_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def own(network: M) -> M:
    """What may be laid out anew and cast: `network`, or a copy without gradients if it is being trained."""
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return network
    return copy.deepcopy(network).requires_grad_(False)


@dataclass
class LoadedModel:
    """`network` and `codec` are on the device and in the precision they have; `size` is (height, width) in pixels.

    identity: see `WorldLike`. precision: how the network's linears are stored when that is not its dtype, "fp8" or
    "int8". decoder: which one `codec` has, "full" or "tiny". prompt_reader: text to context, for a model with text.
    first_scene: draws the picture a session starts from when none is given, uint8 (H, W, 3). row_dtype: what action
    rows are rounded to, beside the network's own type.
    """

    network: DiT
    codec: Codec
    stream: StreamConfig
    size: tuple[int, int]
    name: str = "custom"
    trained: bool = True
    identity: dict[str, str] = field(default_factory=dict)
    precision: str | None = None
    decoder: str = "full"
    prompt_reader: PromptReader | None = None
    negative_prompt: str = ""
    first_scene: Callable[[], np.ndarray] | None = None
    row_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        self.network = own(self.network)
        weight = next(self.network.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.network.eval()
        self.identity = self.identity or {"model": self.name, "sha256": ""}
        self.streaming_network: FusedDiT | PlainDiT | None = None
        """The form that serves caches, once there is one; streaming mode 'window' runs the network itself."""
        self._berths: Berths | None = None
        self._decoders: Decoders | None = None
        causal = self.network.config.causal
        if self.stream.mode == "cached":
            self.streaming_network = self._cached_form()
        else:
            refuse_kernels(self.stream.mode)
        self.spec = WorldSpec(
            name=self.name,
            height=self.size[0],
            width=self.size[1],
            has_text=self.network.config.text_dim is not None,
            has_scene=self.first_scene is not None,
            causal=causal,
            trained=self.trained,
            precision=self.precision or PRECISION_NAMES[self.dtype],
            device=str(self.device),
            decoder=self.decoder,
            stream=self.stream,
        )
        self.starts: dict[bytes, Tensor] = {}
        """Latents of the last start images, by the images' hash; models of one codec may share them."""

    @property
    def kernels(self) -> str:
        """Which kernels a session runs on, and why, for people."""
        if not isinstance(self.streaming_network, FusedDiT):
            reason = "its blocks are offloaded" if is_streamed(self.network) else "streaming mode 'window'"
            return f"none ({reason}: the network runs as it is)"
        return f"{self.streaming_network.kernels.backend} ({self.streaming_network.kernels.reason})"

    def open_stream(self, first: Tensor, config: StreamConfig | None = None) -> Stream:
        """A stream that begins with the clean start-image latents `first`, (B, C, 1, h, w), by default as loaded.

        Close it when it is done with: on a GPU the next one then has nothing to record.
        """
        config = config or self.stream
        project = self.codec.project if isinstance(self.codec, ProjectingCodec) else None
        if config.mode == "window":
            return WindowStream(self.network, config, first, project=project)
        if self.streaming_network is None:
            self.streaming_network = self._cached_form()
        return CachedStream(self.streaming_network, config, first, project=project, berths=self.berths)

    @property
    def berths(self) -> Berths | None:
        """Where streams run whose passes are recorded; None where none are."""
        if self._berths is None and isinstance(self.streaming_network, FusedDiT):
            record = recorder_on(self.device)
            self._berths = None if record is None else Berths(self.streaming_network, record)
        return self._berths

    def rehearse(self, games: int, progress: Progress | None = None) -> None:
        """Record, where passes are recorded, all that so many games at once can ask for, so that none of them waits."""
        if self.stream.mode != "cached" or self.berths is None:
            return
        height, width = self.codec.config.latent_size(*self.size)
        shape = (1, self.codec.config.latent_channels, 1, height, width)
        first = torch.zeros(shape, device=self.device, dtype=self.dtype)
        text = self.text_keys(None)
        negative = None if text is None or self.stream.guidance == 1 else self.text_keys(self.negative_prompt)
        streams = [self.open_stream(first) for _ in range(games)]
        decoders = [self.open_decoder(first) for _ in range(games)]
        try:
            for stream in streams:
                stream.set_text(text, negative, progress)
        finally:
            for stream in streams:
                stream.close()
            for decoder in decoders:
                self.close_decoder(decoder)

    def open_decoder(self, first: Tensor) -> CodecStream:
        """A decoding stream behind the latents `first` of start images, (B, C, 1, h, w). See `close_decoder`."""
        stream = self.codec.decoder()
        if self.decoders is not None and isinstance(stream, DecoderStream) and len(first) == 1:
            stream = self.decoders.take(stream, first)
        with torch.inference_mode():
            stream.push(first)
        return stream

    def close_decoder(self, stream: CodecStream) -> None:
        """It will not be used any more."""
        if self.decoders is not None and isinstance(stream, RecordedDecoder):
            self.decoders.give_back(stream)

    @property
    def decoders(self) -> Decoders | None:
        """Where decoding streams come from whose work is recorded; None where it is not, which is also where blocks are
        offloaded: a recording keeps the memory that it works in."""
        if self._decoders is None and isinstance(self.streaming_network, FusedDiT):
            record = recorder_on(self.device, FIRST)  # of its own: it runs beside the network's recordings
            self._decoders = None if record is None else Decoders(record)
        return self._decoders

    @property
    def idle_bytes(self) -> int:
        """What is kept of the device's memory for games to come."""
        return sum(pool.idle_bytes for pool in (self.berths, self.decoders) if pool is not None)

    def _cached_form(self) -> FusedDiT | PlainDiT:
        if is_streamed(self.network):
            return PlainDiT(self.network)
        return network_for_streaming(self.network, latents=self.stream.room(self.network.config.causal))

    def fit_image(self, image: Image | None) -> np.ndarray:
        """The start image as the model gets it: uint8 (height, width, 3)."""
        if image is None:
            if self.first_scene is None:
                raise ScopeError(f"{self.spec.name} has no scene of its own; give a start image")
            image = self.first_scene()
        if not isinstance(image, np.ndarray):
            image = read_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ScopeError(f"a start image must be uint8 (H, W, 3), but this one is {image.dtype} {image.shape}")
        return crop_and_resize(image, self.spec.height, self.spec.width)

    def first_latent(self, frames: np.ndarray) -> Tensor:
        """The latent of start images uint8 (B, height, width, 3). The last few are remembered: a game that begins again
        need not look again."""
        key = hashlib.sha256(frames.tobytes()).digest()
        known = self.starts.pop(key, None)
        if known is None:
            with torch.inference_mode():
                pixels = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2)[:, :, None]
                known = self.codec.encoder().push(pixels.to(self.dtype) * (2 / 255) - 1)
        self.starts[key] = known
        if len(self.starts) > FIRST_LATENTS:
            del self.starts[next(iter(self.starts))]
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
