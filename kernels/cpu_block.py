"""A streaming block for a few rows on a CPU, compiled: all between its input and its output in one call.

A small world at one token a latent asks PyTorch for hundreds of operations on two rows, each of which takes less time
than its launch. Here they are loops over memory that stays in a core's caches, and what takes time is to read the
weights: they are kept as bfloat16, which for weights that came so is the same numbers in half the bytes. All else is
float32. Rows are the latents of a pass, batch by batch; one thread.

x, residuals (R, C); caches (B, slots, C) as they lie in a `KVMemory` of one token.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

# numba keeps the names of the classes below in its cache on disk, which outlives an upgrade and is read before it is
# found to be stale: whoever renames one of them renames this module too.
_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
_ONE, _HALF = np.float32(1), np.float32(0.5)
_GELU, _CUBE = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)


class Linear(NamedTuple):
    """weight (in, out), the upper halves of float32 as uint16, `in` a multiple of 4; bias (out,) or none, (0,)."""

    weight: np.ndarray
    bias: np.ndarray


class Affine(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray


class Slots(NamedTuple):
    """A memory: keys and values (B, slots, C)."""

    keys: np.ndarray
    values: np.ndarray


class PassView(NamedTuple):
    """Where a pass of n latents stands: rotations (n, D / 2) of its queries and keys, first slot and number of slots
    that it sees, its own first, and scores (n, slots) of 0 and -inf for who sees whom, or (0, 0)."""

    cos: np.ndarray
    sin: np.ndarray
    start: int
    seen: int
    bias: np.ndarray


class BlockRows(NamedTuple):
    """The weights of a block. `qkv` and `mouse_qkv` give queries, keys and values side by side; `*_qk_norms` are the
    RMSNorm weights (C,) of queries and keys, `keyboard_norm` of queries; `mouse_first` is the hidden half of it."""

    qkv: Linear
    qk_norms: tuple[np.ndarray, np.ndarray]
    out: Linear
    mouse_first: Linear
    mouse_second: Linear
    mouse_norm: Affine
    mouse_qkv: Linear
    mouse_qk_norms: tuple[np.ndarray, np.ndarray]
    mouse_out: Linear
    keyboard_q: Linear
    keyboard_norm: np.ndarray
    keyboard_out: Linear
    ffn_first: Linear
    ffn_second: Linear


def _widening(context: Any, upper: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = context.get_value_type(types.uint32)
        bits = builder.shl(builder.zext(arguments[0], word), word(16))
        return builder.bitcast(bits, context.get_value_type(types.float32))

    return types.float32(types.uint16), build


_widened: Any = intrinsic(_widening)
"""The float32 whose upper half a uint16 is."""


@_compiled
def _linear(x: np.ndarray, linear: Linear) -> np.ndarray:
    weight, bias = linear.weight, linear.bias
    rows, inputs, width = x.shape[0], x.shape[1], weight.shape[1]
    out = np.zeros((rows + rows % 2, width), np.float32)
    if bias.shape[0] > 0:
        for r in range(rows):
            out[r] = bias
    for i in range(0, inputs, 4):
        w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        for r in range(0, rows, 2):  # two at a time, since widening a weight costs as much as using it
            s = min(r + 1, rows - 1)  # of an odd number the last goes twice, the second time into a row left out
            a0, a1, a2, a3 = x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            b0, b1, b2, b3 = x[s, i], x[s, i + 1], x[s, i + 2], x[s, i + 3]
            y, z = out[r], out[r + 1]
            for o in range(width):
                v0, v1, v2, v3 = _widened(w0[o]), _widened(w1[o]), _widened(w2[o]), _widened(w3[o])
                y[o] += (a0 * v0 + a1 * v1) + (a2 * v2 + a3 * v3)
                z[o] += (b0 * v0 + b1 * v1) + (b2 * v2 + b3 * v3)
    return out[:rows]


@_compiled
def _layer_norm(x: np.ndarray, eps: float) -> np.ndarray:
    rows, width = x.shape
    out = np.empty((rows, width), np.float32)
    for r in range(rows):
        total = 0.0
        for o in range(width):
            total += x[r, o]
        mean = total / width
        square = 0.0
        for o in range(width):
            square += (x[r, o] - mean) * (x[r, o] - mean)
        mean32, inverse = np.float32(mean), np.float32(1.0 / math.sqrt(square / width + eps))
        for o in range(width):
            out[r, o] = (x[r, o] - mean32) * inverse
    return out


@_compiled
def _modulate(x: np.ndarray, shift: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
    out = _layer_norm(x, eps)
    for r in range(x.shape[0]):
        for o in range(x.shape[1]):
            out[r, o] = shift[r, o] + out[r, o] * (_ONE + scale[r, o])
    return out


@_compiled
def _affine_norm(x: np.ndarray, affine: Affine) -> np.ndarray:
    out = _layer_norm(x, 1e-5)
    for r in range(x.shape[0]):
        for o in range(x.shape[1]):
            out[r, o] = out[r, o] * affine.weight[o] + affine.bias[o]
    return out


@_compiled
def _add(x: np.ndarray, y: np.ndarray) -> None:
    for r in range(x.shape[0]):
        for o in range(x.shape[1]):
            x[r, o] += y[r, o]


@_compiled
def _gate_add(x: np.ndarray, gate: np.ndarray, y: np.ndarray) -> None:
    for r in range(x.shape[0]):
        for o in range(x.shape[1]):
            x[r, o] += gate[r, o] * y[r, o]


@_compiled
def _gelu(x: np.ndarray) -> None:
    """The tanh form, in place."""
    for r in range(x.shape[0]):
        for o in range(x.shape[1]):
            y = x[r, o]
            x[r, o] = _HALF * y * (_ONE + math.tanh(_GELU * (y + _CUBE * y * y * y)))


@_compiled
def _turned(row: np.ndarray, norm: np.ndarray, cos: np.ndarray, sin: np.ndarray, eps: float, out: np.ndarray) -> None:
    """RMSNorm of one row (C,) and the rotation of its heads."""
    width, half = row.shape[0], cos.shape[0]
    square = 0.0
    for o in range(width):
        square += row[o] * row[o]
    inverse = np.float32(1.0 / math.sqrt(square / width + eps))
    for pair in range(width // 2):
        even, odd = row[2 * pair] * inverse * norm[2 * pair], row[2 * pair + 1] * inverse * norm[2 * pair + 1]
        c, s = cos[pair % half], sin[pair % half]
        out[2 * pair] = even * c - odd * s
        out[2 * pair + 1] = even * s + odd * c


@_compiled
def _attend(q: np.ndarray, norm: np.ndarray, slots: Slots, view: PassView, heads: int, eps: float) -> np.ndarray:
    """Raw queries (R, >= C), of which the first C columns are taken, over what is seen: (R, C)."""
    rows, latents, width = q.shape[0], view.cos.shape[0], slots.keys.shape[2]
    size = width // heads
    scale = np.float32(1.0 / math.sqrt(size))
    out = np.zeros((rows, width), np.float32)
    query, scores = np.empty(width, np.float32), np.empty(view.seen, np.float32)
    for r in range(rows):
        batch, latent = r // latents, r % latents
        _turned(q[r, :width], norm, view.cos[latent], view.sin[latent], eps, query)
        for head in range(heads):
            first = head * size
            highest = np.float32(-np.inf)
            for j in range(view.seen):
                hidden = view.bias.shape[0] > 0 and view.bias[latent, j] < 0
                score = np.float32(-np.inf)
                if not hidden:  # what may not be seen is not read: it may be anything
                    key = slots.keys[batch, view.start + j]
                    score = np.float32(0)
                    for d in range(first, first + size):
                        score += query[d] * key[d]
                    score *= scale
                scores[j] = score
                highest = max(highest, score)
            total = np.float32(0)
            for j in range(view.seen):
                scores[j] = np.float32(math.exp(scores[j] - highest))
                total += scores[j]
            for j in range(view.seen):
                if scores[j] != 0:
                    share, value = scores[j] / total, slots.values[batch, view.start + j]
                    for d in range(first, first + size):
                        out[r, d] += share * value[d]
    return out


@_compiled
def _remember(qkv: np.ndarray, norm: np.ndarray, slots: Slots, view: PassView, eps: float) -> None:
    """Keys and values of raw projections (R, 3 C) into the slots of the pass."""
    latents, width = view.cos.shape[0], slots.keys.shape[2]
    for r in range(qkv.shape[0]):
        batch, latent = r // latents, r % latents
        slot = view.start + latent
        key = slots.keys[batch, slot]
        _turned(qkv[r, width : 2 * width], norm, view.cos[latent], view.sin[latent], eps, key)
        slots.values[batch, slot] = qkv[r, 2 * width :]


@_compiled
def block_rows(
    x: np.ndarray,
    modulation: np.ndarray,
    sticks: np.ndarray,
    block: BlockRows,
    frames: Slots,
    pixels: Slots,
    buttons: Slots,
    video: PassView,
    time: PassView,
    heads: int,
    eps: float,
) -> None:
    """x (R, C) in place; modulation (6, R, C); sticks (R, C), the stick half of the mouse MLP's first layer.

    The buttons' keys and values are in their slots already (`button_rows`).
    """
    qkv = _linear(_modulate(x, modulation[0], modulation[1], eps), block.qkv)
    _remember(qkv, block.qk_norms[1], frames, video, eps)
    seen = _attend(qkv, block.qk_norms[0], frames, video, heads, eps)
    _gate_add(x, modulation[2], _linear(seen, block.out))

    hidden = _linear(x, block.mouse_first)
    _add(hidden, sticks)
    _gelu(hidden)
    qkv = _linear(_affine_norm(_linear(hidden, block.mouse_second), block.mouse_norm), block.mouse_qkv)
    _remember(qkv, block.mouse_qk_norms[1], pixels, time, eps)
    _add(x, _linear(_attend(qkv, block.mouse_qk_norms[0], pixels, time, heads, eps), block.mouse_out))

    q = _linear(x, block.keyboard_q)
    _add(x, _linear(_attend(q, block.keyboard_norm, buttons, time, heads, eps), block.keyboard_out))

    hidden = _linear(_modulate(x, modulation[3], modulation[4], eps), block.ffn_first)
    _gelu(hidden)
    _gate_add(x, modulation[5], _linear(hidden, block.ffn_second))


@_compiled
def silu_rows(x: np.ndarray, first: Linear, second: Linear) -> np.ndarray:
    """Two linears of rows (R, in) with a SiLU between them."""
    hidden = _linear(x, first)
    for r in range(hidden.shape[0]):
        for o in range(hidden.shape[1]):
            hidden[r, o] /= _ONE + np.float32(math.exp(-hidden[r, o]))
    return _linear(hidden, second)


@_compiled
def button_rows(
    embedded: np.ndarray, to_kv: Linear, norm: np.ndarray, buttons: Slots, time: PassView, eps: float
) -> None:
    """Keys and values of embedded button windows (R, C) into the slots of the pass."""
    kv = _linear(embedded, to_kv)
    latents, width = time.cos.shape[0], buttons.keys.shape[2]
    for r in range(kv.shape[0]):
        batch, latent = r // latents, r % latents
        slot = time.start + latent
        cos, sin, key = time.cos[latent], time.sin[latent], buttons.keys[batch, slot]
        _turned(kv[r, :width], norm, cos, sin, eps, key)
        buttons.values[batch, slot] = kv[r, width:]


def prepare() -> None:
    """Compiles what is above, or reads what an earlier process has compiled: seconds once, then a fifth of one."""
    rows, nothing = np.zeros((1, 4), np.float32), np.zeros(0, np.float32)
    one, two, three = (Linear(np.zeros((4, 4 * parts), np.uint16), nothing) for parts in (1, 2, 3))
    norms, pair = (rows[0], rows[0]), (np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 4), np.float32))
    block = BlockRows(
        three, norms, one, one, one, Affine(rows[0], rows[0]), three, norms, one, one, rows[0], one, one, one
    )
    slots, turn = Slots(*pair), np.zeros((1, 2), np.float32)
    view = PassView(turn, turn.copy(), 0, 1, np.zeros((0, 0), np.float32))
    silu_rows(rows, one, one)
    button_rows(rows, two, rows[0], slots, view, 1e-6)
    block_rows(rows, np.zeros((6, 1, 4), np.float32), rows.copy(), block, slots, slots, slots, view, view, 1, 1e-6)
