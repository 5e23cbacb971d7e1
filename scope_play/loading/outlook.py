"""What a way of using a model will take, said before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from scope_play.errors import ScopeError
from scope_play.loading.device import pick_device, resolve_precision
from scope_play.loading.free_memory import FreeMemory, own_memory
from scope_play.loading.memory import Need, module_bytes, stream_need
from scope_play.loading.nano import NativeConfig, native_config
from scope_play.loading.request import LoadRequest
from scope_play.loading.resolve import Family, resolve
from scope_play.loading.scope import plan_official
from scope_play.model.nano_codec.codec import NanoCodec

DRAWING = 256 << 20
"""What drawing and looking at pictures takes nano, generously."""


@dataclass(frozen=True)
class Outlook:
    """Bytes, and where they will lie.

    device: what computes. offload: where the transformer's blocks lie. reading: the moment in which prompts are read,
    before the rest is loaded; 0 if there is none. working: the peak on the device of all other moments. host: what lies
    in host memory beside. program: the app itself, which on a processor shares the memory. peak: of the process on a
    processor, on a GPU of its memory. free: now, on the device. seconds: about how long; None where nobody knows.
    """

    device: str
    offload: str
    reading: int
    working: int
    host: int
    program: int
    peak: int
    free: int
    seconds: float | None = None

    @classmethod
    def of(cls, need: Need, offload: str, device: torch.device, seconds: float | None = None) -> Outlook:
        working, host, program = need.on_device(offload), need.on_host(offload), own_memory()
        on_cpu = device.type == "cpu"
        peak = max(need.text, working + host) + program if on_cpu else working
        free = FreeMemory.now(device).device
        return cls(str(device), offload, need.text, working, host, program, peak, free, seconds)

    @property
    def fits(self) -> bool:
        """Whether the device has so much. What the program takes is taken already when that is asked."""
        return self.peak - self.program <= self.free if self.device == "cpu" else self.peak <= self.free

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "fits": self.fits}


def expect(request: LoadRequest, seats: int = 1) -> Outlook:
    """Of playing what `request` names, by so many players at a time.

    Raises ScopeError as loading it would: what is missing or does not fit, and what memory would suffice for.
    """
    model = resolve(request.model)
    if model.family is Family.ARENA:
        raise ScopeError("arena is the simulator and takes no memory worth counting; name a model")
    if model.family is Family.OFFICIAL:
        plan = plan_official(model.folder, request)
        return Outlook.of(replace(plan.need, held=seats * plan.need.held), plan.offload, plan.device)
    device = pick_device(request.device)
    dtype, linears = resolve_precision(request.precision, "fp32", device)
    config = native_config(model)
    stream = replace(config.sampling, **request.stream_changes())
    need = native_need(replace(config, sampling=stream), dtype, linears)
    return Outlook.of(replace(need, held=seats * need.held), "none", device)


def native_need(config: NativeConfig, dtype: torch.dtype = torch.float32, linears: str | None = None) -> Need:
    """Of one session of a model in this project's own format."""
    latents = config.codec.latent_size(*config.size)
    codec = module_bytes(lambda: NanoCodec(config.codec), dtype)
    return stream_need(config.world, config.sampling, latents, dtype, codec=codec, coding=DRAWING, linears=linears)
