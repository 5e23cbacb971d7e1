"""Compiles every kernel for every current NVIDIA architecture, without a GPU: `python -m scope_play.kernels.aot`.

Prints registers, shared memory and the share of 16-byte loads of each, and fails when one spills, exceeds the
architecture's shared memory or no longer compiles. Needs only the triton package: its wheel carries ptxas and
cuobjdump. Compiled kernels stay in Triton's cache, so a second run is a matter of seconds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from scope_play.errors import ScopeError
from scope_play.kernels.launch import Launch
from scope_play.kernels.shapes import ChunkShape

SHARED_LIMIT = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
"""Compute capability -> bytes of shared memory one block may use. Triton targets 90, 100 and 120 as 90a, 100a, 120a."""

COUNTS = {"valid", "pixels", "tokens", "rows"}
"""Integer arguments that need not be multiples of 16; the others are strides, and are."""

POINTERS = {
    "cos_ptr": "*fp32",
    "sin_ptr": "*fp32",
    "data_ptr": "*i8",
    "partial_ptr": "*fp32",
    "arrived_ptr": "*i32",
    "weight_scale_ptr": "*fp32",
    "past_k_ptr": "*u8",
    "past_v_ptr": "*u8",
    "past_k_scale_ptr": "*fp32",
    "past_v_scale_ptr": "*fp32",
}
"""Types of the pointers that are not the model's."""

WIDE_COPY = "cp.async.cg"
WIDE_LOADS = (".v4.b32", ".v2.b64", ".v8.b32", ".v4.b64")
"""PTX that moves 16 bytes a thread or more; cp.async.cg knows no other size."""


@dataclass(frozen=True)
class Case:
    """One kernel as one model launches it, on the architectures of `only`."""

    name: str
    kernel: Any
    launch: Launch
    dtype: str
    only: tuple[int, ...] = tuple(SHARED_LIMIT)


@dataclass(frozen=True)
class Resources:
    """What the assembler made of a case. `wide` of `loads` global loads move 16 bytes a thread."""

    case: str
    capability: int
    warps: int
    registers: int
    stack: int
    shared: int
    wide: int
    loads: int

    def faults(self) -> list[str]:
        """Why this kernel must not ship; empty when all is well."""
        faults = []
        if self.stack:
            faults.append(f"spills {self.stack} bytes a thread")
        if self.shared > SHARED_LIMIT[self.capability]:
            faults.append(f"needs {self.shared} bytes of shared memory of {SHARED_LIMIT[self.capability]}")
        if not self.wide:
            faults.append("has no 16-byte loads")
        return [f"{self.case} on sm_{self.capability} {fault}" for fault in faults]


def cases() -> list[Case]:
    """Every kernel at SCOPE's shapes (480x832: 390 tokens, 24 x 128) and at those of nano's sizes."""
    from scope_play.kernels import button_attention, int8_linear, modulate, norm_rope, norm_silu, pixel_attention

    scope = ChunkShape(batch=1, latents=1, tokens=390, heads=24, head_dim=128, slots=13)
    models = {
        "scope": (scope, "bf16"),
        "scope, chunk 3": (scope._replace(latents=3), "bf16"),
        "scope, chunk 4": (scope._replace(latents=4), "bf16"),
        "nano 8x32": (ChunkShape(1, 1, 60, 8, 32, 13), "fp32"),
        "nano 8x48": (ChunkShape(1, 1, 60, 8, 48, 13), "bf16"),
        "nano 4x96": (ChunkShape(1, 1, 15, 4, 96, 13), "bf16"),
    }
    found = []
    for name, (shape, dtype) in models.items():

        def add(what: str, kernel: Any, launch: Launch, name: str = name, dtype: str = dtype) -> None:
            found.append(Case(f"{what}, {name}", kernel, launch, dtype))

        add("pixel_attention", pixel_attention.pixel_attention_kernel, pixel_attention.plan(shape))
        if name != "nano 8x48":
            eight = pixel_attention.plan(shape, rounded=True)
            add("pixel_attention fp8 cache", pixel_attention.pixel_attention_kernel, eight)
        if shape.latents > 1 or name == "nano 8x48":
            continue  # nothing else depends on the length of a chunk, or on this padded head size, in a new way
        add("button_attention", button_attention.button_attention_kernel, button_attention.plan(shape))
        if name != "nano 4x96":
            add("norm_rope", norm_rope.norm_rope_kernel, norm_rope.plan(shape))
            row = modulate.plan((1, 1, shape.tokens, shape.width))
            add("modulate", modulate.modulate_kernel, row)
            add("gate_add", modulate.gate_add_kernel, row)
            add("action_fuse", modulate.action_fuse_kernel, row)
    feed_forward = int8_linear.plan(scope.tokens, scope.width, 14336)
    found.append(Case("int8_linear, scope", int8_linear.int8_linear_kernel, feed_forward, "bf16"))
    for width in (256, 512, 1024):  # of the decoder's stages
        frames = norm_silu.plan(1, 4 * 240 * 416, width)
        found.append(Case(f"norm_silu {width}, scope", norm_silu.norm_silu_kernel, frames, "bf16"))
    return found + product_cases(scope)


def product_cases(scope: ChunkShape) -> list[Case]:
    """Every tile that a table may name. How many programs share a tile is no constant."""
    from scope_play.kernels import product
    from scope_play.kernels.product_table import EPILOGUES, HOPPERS_TILES, SPLIT_K, TILES, ProductCut, tiles_for

    found = []
    for tile, then in itertools.product((*TILES, *HOPPERS_TILES), EPILOGUES):
        launch = product.plan(scope.tokens, 14336, scope.width, ProductCut(SPLIT_K, *tile), then)
        title = f"product {tile[0]}x{tile[1]} {then}, scope"
        only = tuple(sm for sm, shared in SHARED_LIMIT.items() if tile in tiles_for(sm, shared))
        found.append(Case(title, product.product_kernel, launch, "bf16", only))
    return found


def source(case: Case) -> Any:
    """The ASTSource of a case, typed and aligned as PyTorch's allocations are."""
    from triton.compiler import ASTSource

    names = case.kernel.arg_names
    signature: dict[str, str] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for position, name in enumerate(names):
        if name in case.launch.constants:
            signature[name] = "constexpr"
        elif name in ("eps", "scale"):
            signature[name] = "fp32"
        elif name.endswith("_ptr"):
            signature[name] = POINTERS.get(name, f"*{case.dtype}")
            attributes[(position,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "i64" if name.startswith("cache_") else "i32"
            if name not in COUNTS and name not in case.kernel.do_not_specialize:
                attributes[(position,)] = [["tt.divisibility", 16]]
    constants = {(names.index(name),): value for name, value in case.launch.constants.items()}
    return ASTSource(case.kernel, signature, constants, attributes)


def compile_case(name: str, capability: int) -> Resources:
    """Compiles the case called `name` and reads what the assembler reports. Raises triton's own errors."""
    import triton
    from triton.backends.compiler import GPUTarget

    case = next(case for case in cases() if case.name == name)
    compiled = triton.compile(
        source(case), target=GPUTarget("cuda", capability, 32), options={"num_warps": case.launch.num_warps}
    )
    reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        binary.write(compiled.asm["cubin"])
        binary.flush()
        command = [str(reader), "--dump-resource-usage", binary.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    loads = re.findall(r"\b(?:ld\.global|cp\.async\.c[ag]\.shared\.global)\S*", compiled.asm["ptx"])
    return Resources(
        name,
        capability,
        case.launch.num_warps,
        figures["REG"],
        figures["STACK"] + figures["LOCAL"],
        compiled.metadata.shared,
        sum(load.startswith(WIDE_COPY) or load.endswith(WIDE_LOADS) for load in loads),
        len(loads),
    )


def compile_all(names: Sequence[str], capabilities: Sequence[int], workers: int) -> list[Resources]:
    launched = {case.name: case.only for case in cases()}
    jobs = [(name, sm) for name in names for sm in capabilities if sm in launched[name]]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(compile_case, [name for name, _ in jobs], [sm for _, sm in jobs]))


def table(results: Sequence[Resources]) -> str:
    """One line a case: registers / KiB of shared memory / 16-byte loads of all, for each architecture."""
    capabilities = sorted({result.capability for result in results})
    by_case: dict[str, dict[int, Resources]] = {}
    for result in results:
        by_case.setdefault(result.case, {})[result.capability] = result
    lines = ["registers / KiB shared / 16-byte loads".ljust(40) + "".join(f"{f'sm_{c}':>17}" for c in capabilities)]
    for name, row in by_case.items():
        found = (row.get(c) for c in capabilities)
        cells = ("" if r is None else f"{r.registers}/{r.shared / 1024:.1f}/{r.wide}of{r.loads}" for r in found)
        lines.append(name.ljust(40) + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when every kernel is fit for every architecture, 1 otherwise."""
    from scope_play.kernels.triton_primitives import INTERPRET

    parser = argparse.ArgumentParser(prog="python -m scope_play.kernels.aot", description=__doc__.splitlines()[0])
    parser.add_argument("--sm", type=int, nargs="+", choices=SHARED_LIMIT, default=list(SHARED_LIMIT))
    parser.add_argument("--only", default="", help="compile only the cases whose name contains this")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    if INTERPRET:
        raise ScopeError("TRITON_INTERPRET is set, so nothing would be compiled; unset it and run again")
    names = [case.name for case in cases() if args.only in case.name]
    if not names:
        raise ScopeError(f"no kernel's name contains {args.only!r}; names are like {cases()[0].name!r}")
    results = compile_all(names, args.sm, args.workers)
    print(table(results))
    faults = [fault for result in results for fault in result.faults()]
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ScopeError as error:
        print(f"scope_play.kernels.aot: {error}", file=sys.stderr)
        sys.exit(2)
