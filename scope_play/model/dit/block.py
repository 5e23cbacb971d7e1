"""What a DiT is made of: attention over frames and text, the block, the head (SPEC.md section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.kernels.attention import masked_attention
from scope_play.kernels.modulate_torch import modulate
from scope_play.kernels.torch_primitives import rotate
from scope_play.model.dit.action import ActionCondition, ActionModule, ActionWindows, TimePlan
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.layers import Attention, Rotation, split_heads
from scope_play.model.dit.memory import AttentionMemory, LayerMemory


class TextKV(NamedTuple):
    """Keys and values of one prompt for one block's cross-attention: (B, heads, length, head_dim) each.

    bias: (B, 1, 1, length) on the scores where a key stands for several equal ones or for none; see
    `kernels.text_attention`.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor | None = None

    def expand(self, batch: int) -> TextKV:
        """One prompt for each of a batch, without copying."""
        shape = (batch, -1, -1, -1)
        return TextKV(
            self.keys.expand(shape), self.values.expand(shape), None if self.bias is None else self.bias.expand(shape)
        )

    def padded(self, length: int) -> TextKV:
        """The same prompt with keys that no one sees, up to `length`."""
        more = length - self.keys.shape[2]
        bias = self.keys.new_zeros(len(self.keys), 1, 1, length - more) if self.bias is None else self.bias
        keys, values = (F.pad(x, (0, 0, 0, more)) for x in (self.keys, self.values))
        return TextKV(keys, values, F.pad(bias, (0, more), value=-torch.inf))


def join_prompts(prompts: Sequence[list[TextKV]]) -> list[TextKV]:
    """Prompts of any lengths, block by block, one after the other along the batch axis."""
    joined = []
    for block in zip(*prompts, strict=True):
        if any(kv.bias is not None for kv in block):
            longest = max(kv.keys.shape[2] for kv in block)
            block = tuple(kv.padded(longest) for kv in block)
        biases = [kv.bias for kv in block if kv.bias is not None]
        bias = torch.cat(biases) if biases else None
        joined.append(TextKV(torch.cat([kv.keys for kv in block]), torch.cat([kv.values for kv in block]), bias))
    return joined


class PassPlan(NamedTuple):
    """What does not change from one pass over the same latents to the next.

    `conditions` is filled block by block by the first pass, when each block's weights are there anyway.
    """

    rotation: Rotation
    token_mask: Tensor | None
    time: TimePlan
    windows: ActionWindows
    conditions: list[ActionCondition | None]
    modulation: Tensor | None = None

    def condition(self, index: int, block: Block) -> ActionCondition | None:
        """What block `index` makes of the actions."""
        if len(self.conditions) == index:
            module = block.action_attn
            self.conditions.append(None if module is None else module.condition(self.windows, self.time.rotation))
        return self.conditions[index]


class VideoAttention(Attention):
    """Self-attention over all tokens of the visible latent frames."""

    def forward(self, x: Tensor, plan: PassPlan, memory: AttentionMemory | None) -> Tensor:
        """(B, F, S, C) -> (B, F, S, C)."""
        q = rotate(split_heads(self.norm_q(self.q(x)), self.heads), plan.rotation)
        k = rotate(split_heads(self.norm_k(self.k(x)), self.heads), plan.rotation)
        v = split_heads(self.v(x), self.heads)
        if memory is not None:
            k, v = memory.append(k, v)
        q, k, v = (rearrange(part, "b f s heads d -> b heads (f s) d") for part in (q, k, v))
        out = masked_attention(q, k, v, plan.token_mask)
        return self.o(rearrange(out, "b heads (f s) d -> b f s (heads d)", s=x.shape[2]))


class TextAttention(Attention):
    """Cross-attention to a prompt whose keys and values were made once."""

    def keys_values(self, context: Tensor, bias: Tensor | None) -> TextKV:
        k = split_heads(self.norm_k(self.k(context)), self.heads)
        v = split_heads(self.v(context), self.heads)
        pattern = "b l heads d -> b heads l d"
        return TextKV(rearrange(k, pattern), rearrange(v, pattern), None if bias is None else bias[:, None, None])

    def forward(self, x: Tensor, text: TextKV) -> Tensor:
        q = rearrange(split_heads(self.norm_q(self.q(x)), self.heads), "b f s heads d -> b heads (f s) d")
        out = F.scaled_dot_product_attention(q, text.keys, text.values, attn_mask=text.bias)
        return self.o(rearrange(out, "b heads (f s) d -> b f s (heads d)", s=x.shape[2]))


class Block(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        self.eps = eps
        self.self_attn = VideoAttention(dim, config.heads, eps)
        self.cross_attn = None if config.text_dim is None else TextAttention(dim, config.heads, eps)
        self.norm3 = None if config.text_dim is None else nn.LayerNorm(dim, eps=eps)
        self.action_attn = None if config.action is None else ActionModule(config)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, dim)
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim).normal_(std=dim**-0.5))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        plan: PassPlan,
        condition: ActionCondition | None,
        text: TextKV | None,
        memory: LayerMemory | None,
    ) -> Tensor:
        """x (B, F, S, C); modulation (B, F or 1, 6, C) from the time projection."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation[:, None] + modulation).split(1, dim=2)
        attended = self.self_attn(
            modulate(x, shift1, scale1, eps=self.eps), plan, None if memory is None else memory.frames
        )
        x = torch.addcmul(x, gate1, attended)
        if self.cross_attn is not None and self.norm3 is not None and text is not None:
            x = x + self.cross_attn(self.norm3(x), text)
        if self.action_attn is not None and condition is not None:
            pixels, buttons = (None, None) if memory is None else (memory.pixels, memory.buttons)
            x = self.action_attn(x, condition, plan.time, pixels, buttons)
        return torch.addcmul(x, gate2, self.ffn(modulate(x, shift2, scale2, eps=self.eps)))


class Head(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        _, rows, columns = config.patch
        self.eps = config.eps
        self.head = nn.Linear(config.dim, rows * columns * config.out_channels)
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim).normal_(std=config.dim**-0.5))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, F, S, C); time (B, F or 1, C), the time embedding itself for both shift and scale."""
        shift, scale = (self.modulation[:, None] + time[:, :, None]).split(1, dim=2)
        return self.head(modulate(x, shift, scale, eps=self.eps))
