"""From a weight file to a module: all of it or nothing, tensor by tensor. Source: SPEC.md sections 7 and 8."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scope_play.errors import ScopeError
from scope_play.weights.sources import Source, StoredTensor

M = TypeVar("M", bound=nn.Module)
Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes in all) after every tensor."""

NAMED = 3
"""How many tensors of each kind a refusal names before it only counts."""


def load_into(
    build: Callable[[], M],
    source: Source,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
) -> M:
    """Build a module and fill it with exactly the tensors of `source`, cast to `dtype` on `device`.

    The module is built on the meta device, so the host holds the weights once (twice for one tensor at a time). It
    comes back in evaluation mode, without gradients. With `prepare` its `blocks` are filled one after the other, and
    each is prepared, put into 8 bits for one, before the next one is read.

    Raises:
        ScopeError: names every tensor (the first few, and the count) that is missing, unexpected, or of another shape
            or kind; or the file is damaged.
    """
    module = _checked(build, source)
    rest, blocks = _by_block(module) if prepare is not None else (list(module.state_dict()), [])
    done, total = 0, sum(stored.nbytes for stored in source.tensors.values())

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if progress is not None:
            progress(done, total)

    _fill(module, {name: name for name in rest}, source, dtype, device, count)
    for names, block in zip(blocks, module.blocks.children() if blocks else (), strict=True):  # type: ignore[union-attr]
        _fill(block, names, source, dtype, device, count)
        if prepare is not None:
            prepare(block)
    return module.requires_grad_(False).eval()


def load_without_blocks(
    build: Callable[[], M], source: Source, *, dtype: torch.dtype, device: torch.device | str
) -> tuple[M, list[dict[str, str]], Callable[[], nn.Module]]:
    """As `load_into`, with the `blocks` left in their files, and embeddings in the 16 bits that they are stored in.

    Returns the module, whose `blocks` are the meta device's; the names of each block's tensors, in the block -> in
    `source`; and what makes room for a block on `device`.
    """
    module = _checked(build, source)
    rest, blocks = _by_block(module)
    tables = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    for name in rest:
        stored = source.tensors[name].dtype
        kept = stored if name in tables and stored is not None and stored.itemsize == 2 else dtype
        _fill(module, {name: name}, source, kept, device, lambda nbytes: None)
    first = next(module.blocks.children())  # type: ignore[union-attr]

    def make_room() -> nn.Module:
        room = copy.deepcopy(first).to(dtype).to_empty(device=device)
        return room.requires_grad_(False).eval()

    return module.requires_grad_(False).eval(), blocks, make_room


def _checked(build: Callable[[], M], source: Source) -> M:
    """What `build` makes, on the meta device, if `source` has exactly its tensors."""
    module = build_on_meta(build)
    expected = module.state_dict()
    check_fit(expected, source)
    if unfilled := [name for name, _ in module.named_buffers() if name not in expected]:
        raise TypeError(f"{type(module).__name__} has buffers that no checkpoint fills: {unfilled[0]}")
    return module


def _by_block(module: nn.Module) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the tensors outside of `module.blocks`, and for each block (name in it -> name in the module)."""
    names = module.state_dict()
    blocks = [
        {name: f"blocks.{index}.{name}" for name in block.state_dict()}
        for index, block in enumerate(module.blocks.children())  # type: ignore[union-attr]
    ]
    inside = {full for block in blocks for full in block.values()}
    return [name for name in names if name not in inside], blocks


def _fill(
    module: nn.Module,
    names: Mapping[str, str],
    source: Source,
    dtype: torch.dtype,
    device: torch.device | str,
    count: Callable[[int], None],
) -> None:
    """Gives tensors of `module` (name in it -> name in `source`) memory, and their numbers; `count` is told of each."""
    expected = module.state_dict()
    weights = {
        there: torch.empty_strided(expected[here].size(), expected[here].stride(), dtype=dtype, device=device)
        for here, there in names.items()
    }
    for there, tensor in source.read(weights.keys()):
        weights[there].copy_(tensor)
        count(source.tensors[there].nbytes)
    module.load_state_dict({here: weights[there] for here, there in names.items()}, assign=True, strict=False)


class _Unfilled(TorchFunctionMode):
    """Leaves out initial values. On the meta device there are none, yet torch sets up 2 s and 150 MB to make them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is Tensor.normal_ or (func is Tensor.div and isinstance(args[1], int | float)):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def build_on_meta(build: Callable[[], M]) -> M:
    """The module that `build` makes, with names, shapes and layouts but no memory behind its tensors."""
    with torch.device("meta"), _Unfilled():
        return build()


def check_fit(expected: Mapping[str, Tensor], source: Source) -> None:
    """Raise ScopeError unless `source` has the names and shapes of `expected`, all floating-point, and no others."""
    found = source.tensors
    faults = [
        _count("missing", sorted(expected.keys() - found.keys())),
        _count("unexpected", sorted(found.keys() - expected.keys())),
        _count(
            "misshapen",
            [
                f"{name} is {_shape(found[name])} instead of {_shape(expected[name])}"
                for name in sorted(expected.keys() & found.keys())
                if found[name].shape != tuple(expected[name].shape)
            ],
        ),
        _count("not floating-point", sorted(name for name in expected.keys() & found.keys() if not found[name].dtype)),
    ]
    if any(faults):
        raise ScopeError(
            f"{source.path} does not hold the expected tensors: {'; '.join(fault for fault in faults if fault)}; "
            f"download it again, or give the folder of the model it belongs to."
        )


def _count(kind: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    listed = ", ".join(names[:NAMED])
    return f"{len(names)} {kind} ({listed}{', ...' if len(names) > NAMED else ''})"


def _shape(tensor: Tensor | StoredTensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"
