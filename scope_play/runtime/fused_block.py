"""One transformer block for streaming, put together from a `Block`'s weights and the operations of `Kernels`.

The same numbers as `Block` with a memory, in fewer steps: queries, keys and values come from one product; norm,
rotation and cache write from one operation; and what depends on the actions alone is made before a chunk's first pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scope_play.kernels import Kernels
from scope_play.kernels.attention import Attention as BigAttention
from scope_play.kernels.attention import sdpa
from scope_play.kernels.button_attention_torch import button_attention
from scope_play.kernels.pixel_attention_torch import pixel_attention
from scope_play.model.dit.action import ActionModule, PixelAttention
from scope_play.model.dit.block import Block, TextAttention, TextKV, VideoAttention
from scope_play.model.dit.layers import Rotation, split_heads
from scope_play.runtime.fused_linear import project, project_add, project_gelu
from scope_play.runtime.joint_commit import JointCommit
from scope_play.runtime.kv_cache import KVMemory, LayerMemory
from scope_play.runtime.quantize import QuantLinear


class StepPlan(NamedTuple):
    """What all passes over one chunk of n latents share.

    video, pixels: rotations of its tokens and of its latents. sticks: (layers, B, n, 1, C), the stick half of every
    mouse MLP's first layer, or None without sticks. buttons: whether the cache's tail holds keys of the buttons. keep:
    (B, 1, 1, C) of 0 and 1, or None for all 1, as in ActionWindows. joint: None where all see all. modulation:
    (6, B, n, 1, C), what the actions add to that of every block, or None.
    """

    video: Rotation
    pixels: Rotation
    sticks: Tensor | None
    buttons: bool
    keep: Tensor | None
    joint: JointCommit | None
    modulation: Tensor | None = None

    @property
    def clean(self) -> int:
        """Latents of the pass, the last ones, that it commits."""
        return 0 if self.joint is None else self.joint.clean


class Slots(NamedTuple):
    """A memory as the kernels take it: the chunk's own slots first, and how many are in use with them."""

    keys: Tensor
    values: Tensor
    valid: int

    @classmethod
    def of(cls, memory: KVMemory, latents: int) -> Slots:
        start = memory.config.tail - latents
        return cls(memory.keys[:, start:], memory.values[:, start:], latents + memory.filled)


def join_linears(parts: Sequence[nn.Linear | QuantLinear]) -> nn.Linear | QuantLinear:
    """One linear with the parts' outputs side by side. The parts become views of it, so that nothing is held twice."""
    full = [part for part in parts if isinstance(part, nn.Linear)]
    eighths = [part for part in parts if isinstance(part, QuantLinear)]
    if full:
        joined = _shell(parts, full[0].weight.dtype)
        weight = torch.cat([part.weight.detach() for part in full])
        # The layout of the parts, which torch.cat does not keep.
        by_input = full[0].weight.stride(0) == 1
        joined.weight = nn.Parameter(weight.t().contiguous().t() if by_input else weight, requires_grad=False)
        for part, rows in zip(full, joined.weight.split([part.out_features for part in full]), strict=True):
            part.weight = nn.Parameter(rows, requires_grad=False)
        return joined
    widths = [part.out_features for part in eighths]
    rounded = torch.cat([part.data for part in eighths]), torch.cat([part.scale for part in eighths])
    quantised = QuantLinear(_shell(parts, eighths[0].dtype), rounded, eighths[0].product)
    for eighth, data, scale in zip(eighths, quantised.data.split(widths), quantised.scale.split(widths), strict=True):
        eighth.data, eighth.scale = data, scale
    return quantised


def lay_out_for_few_rows(network: nn.Module) -> None:
    """Stores weights on a CPU by input rather than by output, where products of a few rows read them faster.

    `weight` keeps its shape, (out, in), and its values.
    """
    for linear in network.modules():
        if isinstance(linear, nn.Linear) and linear.weight.device.type == "cpu":
            linear.weight = nn.Parameter(linear.weight.detach().t().contiguous().t(), requires_grad=False)


def _shell(parts: Sequence[nn.Linear | QuantLinear], dtype: torch.dtype) -> nn.Linear:
    """A linear of the joined shape with the joined bias, whose weight is still to come."""
    width = sum(part.out_features for part in parts)
    shell = nn.Linear(parts[0].in_features, width, device="meta", dtype=dtype)
    biases = [part.bias.detach() for part in parts if part.bias is not None]
    shell.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return shell


class FusedVideoAttention(nn.Module):
    """Self-attention over the tokens of the chunk and of what it may see."""

    def __init__(self, source: VideoAttention, kernels: Kernels, attention: BigAttention) -> None:
        super().__init__()
        self.kernels, self.attention = kernels, attention
        self.qkv = join_linears((source.q, source.k, source.v))
        self.o, self.norm_q, self.norm_k = source.o, source.norm_q, source.norm_k

    def forward(self, x: Tensor, plan: StepPlan, memory: KVMemory, residual: Tensor, gate: Tensor) -> Tensor:
        """All (B, n, S, C) but `gate` (B, n, 1, C): the gated result is added to `residual`."""
        q, k, v = project(self.kernels, self.qkv, x).chunk(3, -1)
        tail = Slots.of(memory, x.shape[1])
        weights = self.norm_q.weight, self.norm_k.weight
        queries = self.kernels.norm_rope(q, k, v, *weights, plan.video, tail.keys, tail.values, eps=self.norm_q.eps)
        attend = self.attention.call if plan.joint is None else partial(sdpa, bias=plan.joint.video)
        keys, values = memory.visible(x.shape[1])
        out = attend(queries.flatten(1, 2), keys.flatten(1, 2), values.flatten(1, 2))
        return project_add(self.kernels, self.o, out.flatten(2).view(x.shape), residual, gate)


class FusedPixelAttention(nn.Module):
    """Every pixel's attention over its own history."""

    def __init__(self, source: PixelAttention, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels
        self.qkv = join_linears((source.q, source.k, source.v))
        self.o, self.norm_q, self.norm_k = source.o, source.norm_q, source.norm_k

    def forward(self, x: Tensor, plan: StepPlan, memory: KVMemory, residual: Tensor) -> Tensor:
        """All (B, n, S, C): the result is added to `residual`, where the plan keeps actions."""
        q, k, v = project(self.kernels, self.qkv, x).chunk(3, -1)
        weights = self.norm_q.weight, self.norm_k.weight
        slots = Slots.of(memory, x.shape[1])
        attend = partial(self.kernels.pixel_attention, remembered=memory.remembered)
        if plan.joint is not None:  # the kernels know no mask
            attend = partial(pixel_attention, bias=plan.joint.pixels)
        moved = attend(q, k, v, *weights, plan.pixels, *slots, eps=self.norm_q.eps)
        return project_add(self.kernels, self.o, moved, residual, plan.keep)


class FusedText(nn.Module):
    """Cross-attention to the prompt."""

    def __init__(self, source: TextAttention, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels
        self.heads, self.q, self.o, self.norm_q = source.heads, source.q, source.o, source.norm_q

    def forward(self, x: Tensor, text: TextKV, residual: Tensor) -> Tensor:
        """x and `residual`, to which the result is added, (B, n, S, C)."""
        q = project(self.kernels, self.q, x)
        q = split_heads(self.norm_q(q), self.heads).flatten(1, 2).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, text.keys, text.values, attn_mask=text.bias)
        return project_add(self.kernels, self.o, out.transpose(1, 2).flatten(2).view(x.shape), residual)


class FusedAction(nn.Module):
    """An ActionModule whose action halves are made before the chunk's first pass."""

    def __init__(self, source: ActionModule, kernels: Kernels) -> None:
        super().__init__()
        self.kernels = kernels
        self.source = source
        self.mouse_attn = FusedPixelAttention(source.mouse_attn, kernels)

    def read_buttons(self, buttons: Tensor) -> Tensor:
        """Buttons (B, n, rows, buttons) -> raw keys and values side by side, (B, n, 1, 2 C)."""
        return self.source.keyboard_kv_proj(self.source.keyboard_embed(buttons).flatten(2)[:, :, None])

    def forward(self, x: Tensor, plan: StepPlan, sticks: Tensor | None, memory: LayerMemory) -> Tensor:
        """x (B, n, S, C), sticks (B, n, 1, C) -> x's shape. Without sticks or buttons that path is the identity."""
        source, kernels = self.source, self.kernels
        if sticks is not None and memory.pixels is not None:
            first, second, norm = cast(nn.Linear, source.mouse_mlp[0]), source.mouse_mlp[2], source.mouse_mlp[3]
            half = first.weight[:, : x.shape[-1]]
            hidden = kernels.products.fused(x, half, None)
            hidden = kernels.action_fuse(F.linear(x, half) if hidden is None else hidden, sticks)
            x = self.mouse_attn(norm(project(kernels, second, hidden)), plan, memory.pixels, x)
        if plan.buttons and memory.buttons is not None:
            slots, norm = Slots.of(memory.buttons, x.shape[1]), source.key_attn_q_norm
            q = project(kernels, source.keyboard_q_proj, x)
            attend: Callable[..., Tensor] = kernels.button_attention
            if plan.joint is not None:
                attend = partial(button_attention, bias=plan.joint.buttons)
            pressed = attend(q, norm.weight, plan.pixels, *slots, eps=norm.eps)
            x = project_add(kernels, source.keyboard_o_proj, pressed, x, plan.keep)
        return x


class FusedBlock(nn.Module):
    def __init__(self, source: Block, kernels: Kernels, attention: BigAttention) -> None:
        super().__init__()
        self.kernels, self.eps = kernels, source.eps
        self.self_attn = FusedVideoAttention(source.self_attn, kernels, attention)
        self.cross_attn = None if source.cross_attn is None else FusedText(source.cross_attn, kernels)
        self.norm3 = source.norm3
        self.action_attn = None if source.action_attn is None else FusedAction(source.action_attn, kernels)
        self.ffn = source.ffn

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        plan: StepPlan,
        sticks: Tensor | None,
        text: TextKV | None,
        memory: LayerMemory,
    ) -> Tensor:
        """x (B, n, S, C); modulation (6, B, n or 1, 1, C), the block's own part included."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind()
        kernels, eps = self.kernels, self.eps
        x = self.self_attn(kernels.modulate(x, shift1, scale1, eps=eps), plan, memory.frames, x, gate1)
        if self.cross_attn is not None and self.norm3 is not None and text is not None:
            x = self.cross_attn(self.norm3(x), text, x)
        if self.action_attn is not None:
            x = self.action_attn(x, plan, sticks, memory)
        hidden = project_gelu(kernels, self.ffn[0], kernels.modulate(x, shift2, scale2, eps=eps))
        return project_add(kernels, self.ffn[2], hidden, x, gate2)
