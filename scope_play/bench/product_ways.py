"""Every way to compute a linear of a block with what follows it, on random inputs: for `scope-play bench products`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from scope_play.bench.costs import Gpu
    from scope_play.kernels import Kernels
    from scope_play.kernels.product_table import ProductCut
    from scope_play.runtime.fused_linear import LinearShape

OWN = "torch"
"""Torch's own linear, which is cuBLAS on a GPU, and the separate operations."""
EIGHT_BITS = ("fp8", "int8")
AGREES = 0.02
"""Of the largest number, what a way with weights in full may differ from torch's own by."""


@dataclass(frozen=True)
class Line:
    """One way to compute one linear with what follows, of which a block has `count`.

    floor: its share of the GPU's best, None where that is not known. fastest: of those with weights in full.
    """

    linear: str
    epilogue: str
    latents: int
    rows: int
    inner: int
    columns: int
    count: int
    way: str
    microseconds: float
    teraflops: float
    floor: float | None
    fastest: bool


class Inputs:
    """One set of random inputs of a linear, and the linear itself as it is stored in each precision."""

    def __init__(
        self, shape: LinearShape, latents: int, tokens: int, device: torch.device, dtype: torch.dtype, eight: list[str]
    ) -> None:
        import torch

        from scope_play.runtime.quantize import fp8_linear, int8_linear

        def normal(*size: int) -> Tensor:
            return torch.randn(size, device=device, dtype=dtype)

        self.x = normal(1, latents, tokens, shape.inner)
        self.layer = torch.nn.Linear(shape.inner, shape.columns, device=device, dtype=dtype).requires_grad_(False)
        makers = {"fp8": fp8_linear, "int8": int8_linear}
        self.rounded: dict[str, nn.Module] = {name: makers[name](self.layer) for name in eight}
        self.gelu = shape.epilogue == "gelu"
        added = shape.epilogue in ("add", "gate_add")
        self.residual = normal(1, latents, tokens, shape.columns) if added else None
        self.gate = normal(1, latents, 1, shape.columns) if shape.epilogue == "gate_add" else None

    def apart(self, kernels: Kernels, layer: nn.Module) -> Tensor:
        """The linear, then what follows it, as `FusedBlock` does without a table."""
        from scope_play.runtime.fused_linear import project, project_add, project_gelu

        if self.gelu:
            return project_gelu(kernels, layer, self.x)
        if self.residual is not None:
            return project_add(kernels, layer, self.x, self.residual, self.gate)
        return project(kernels, layer, self.x)

    def rounded_apart(self, kernels: Kernels, precision: str) -> Tensor:
        return self.apart(kernels, self.rounded[precision])

    def together(self, product: Callable[..., Tensor], **cut: object) -> Tensor:
        """Both in one call of `product`."""
        then = {"gelu": self.gelu, "residual": self.residual, "gate": self.gate}
        return product(self.x, self.layer.weight, self.layer.bias, **then, **cut)


Way: TypeAlias = "Callable[[Inputs], Tensor]"


def ways(i: Inputs, kernels: Kernels, cuts: list[ProductCut]) -> dict[str, Way]:
    """Every way to compute inputs like `i`, by name."""
    from scope_play.kernels import product_torch

    found: dict[str, Way] = {OWN: lambda i: i.apart(kernels, i.layer)}
    if cuts:
        from scope_play.kernels.product import make_counters, product

        counters = make_counters(i.x.device)
        for cut in cuts:
            found[str(cut)] = partial(Inputs.together, product=product, cut=cut, counters=counters)
    else:
        found["twin"] = partial(Inputs.together, product=product_torch.product)
    for name in i.rounded:
        found[name] = partial(Inputs.rounded_apart, kernels=kernels, precision=name)
    return found


def fault(way: Way, i: Inputs, want: Tensor) -> str | None:
    """Why a way with weights in full cannot be used here; None when it makes of `i` what is wanted."""
    try:
        made = way(i)
    except Exception as error:  # noqa: BLE001 - compilers and launches raise anything, and the other ways count
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    off = float((made - want).abs().max() / want.abs().max())
    return None if off < AGREES else f"differs from torch's own by {off:.1e} of the largest number"


def in_turns(way: Way, inputs: list[Inputs]) -> Callable[[], object]:
    turn = itertools.cycle(inputs)
    return lambda: way(next(turn))


def floor_seconds(shape: LinearShape, rows: int, way: str, element: int, gpu: Gpu) -> float:
    """What arithmetic and bandwidth ask for: weights of one byte in 8 bits, products at twice the rate in fp8."""
    from scope_play.bench.costs import Cost

    weights, ends = shape.inner * shape.columns, rows * (shape.inner + shape.columns)
    residual = rows * shape.columns if shape.epilogue in ("add", "gate_add") else 0
    size = 1 if way in EIGHT_BITS else element
    speedup = 2 if way == "fp8" else 1
    return Cost("", 2 * rows * weights, weights * size, 0, (ends + residual) * element, speedup).seconds(gpu)


def measure(
    shape: LinearShape,
    latents: int,
    tokens: int,
    device: torch.device,
    dtype: torch.dtype,
    kernels: Kernels,
    cuts: list[ProductCut],
    repeats: int,
) -> tuple[list[Line], dict[str, str]]:
    """A line for each way; and those left out, with the reason."""
    from scope_play.bench.kernels import CACHE_ESCAPE, known_gpu
    from scope_play.bench.timing import median_and_p95, time_calls
    from scope_play.runtime.quantize import fp8_obstacle

    rows, weights = latents * tokens, shape.inner * shape.columns
    sets = math.ceil(CACHE_ESCAPE / (weights * dtype.itemsize)) if device.type == "cuda" else 2
    eight = [name for name in EIGHT_BITS if name == "int8" or fp8_obstacle(device) is None]
    inputs = [Inputs(shape, latents, tokens, device, dtype, eight) for _ in range(sets)]
    calls = ways(inputs[0], kernels, cuts)
    want = calls[OWN](inputs[0])
    faults = {name: fault(way, inputs[0], want) for name, way in calls.items() if name not in EIGHT_BITS}
    left_out = {name: why for name, why in faults.items() if why is not None}
    sound = {name: in_turns(way, inputs) for name, way in calls.items() if name not in left_out}
    times = time_calls(sound, device, repeats, calls=sets)
    seconds = {way: median_and_p95(each)[0] for way, each in times.items()}
    best = min((way for way in seconds if way not in EIGHT_BITS), key=lambda way: seconds[way])
    gpu = known_gpu(device)
    lines = [
        Line(
            *(shape.name, shape.epilogue, latents, rows, shape.inner, shape.columns, shape.in_block, way),
            taken * 1e6,
            2 * rows * weights / taken / 1e12,
            None if gpu is None else floor_seconds(shape, rows, way, dtype.itemsize, gpu) / taken,
            way == best,
        )
        for way, taken in seconds.items()
    ]
    return lines, left_out


def cuts_for(shape: LinearShape, rows: int, device: torch.device, dtype: torch.dtype) -> list[ProductCut]:
    """What is tried on the GPU `device`."""
    import torch

    from scope_play.kernels.aot import SHARED_LIMIT
    from scope_play.kernels.product_table import candidates, tiles_for

    major, minor = torch.cuda.get_device_capability(device)
    capability = 10 * major + minor
    shared = SHARED_LIMIT.get(capability, min(SHARED_LIMIT.values()))
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return candidates(rows, shape.columns, processors, tiles_for(capability, shared, dtype.itemsize))
