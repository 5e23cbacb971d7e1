"""What a part of a network's work costs, and the least time that it takes on a GPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Dense bf16 matrix rate with float32 accumulation, in TFLOP/s, and memory bandwidth in TB/s."""

    tflops: float
    terabytes: float
    source: str


GPUS = {
    "h200": Gpu(790, 4.3, "measured: matrix product, device copy (datasheet 989, 4.8)"),
    "h100": Gpu(989, 3.35, "SXM datasheet, dense"),
    "4090": Gpu(165.2, 1.008, "Ada whitepaper, dense"),
    "5090": Gpu(209.5, 1.792, "RTX Blackwell whitepaper, dense"),
}


@dataclass(frozen=True)
class Cost:
    """One part of a pass, over all layers: floating-point operations, and bytes through device memory."""

    name: str
    flops: float = 0
    weights: float = 0
    cache: float = 0
    activations: float = 0
    speedup: float = 1

    @property
    def bytes(self) -> float:
        return self.weights + self.cache + self.activations

    def arithmetic(self, gpu: Gpu) -> float:
        return self.flops / (gpu.tflops * self.speedup * 1e12)

    def traffic(self, gpu: Gpu) -> float:
        return self.bytes / (gpu.terabytes * 1e12)

    def seconds(self, gpu: Gpu) -> float:
        return max(self.arithmetic(gpu), self.traffic(gpu))
